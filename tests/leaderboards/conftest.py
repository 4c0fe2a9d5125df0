"""A store of invented results, filled through the same records that an evaluation writes."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.records import Identity, Metric, ModelRecord, Outcome, Result
from bench.stats import wilson
from bench.store import Store

SAMPLES = 2000
MANIFEST = hashlib.sha256(b"manifest").hexdigest()


def result(
    model: str = "simclr",
    score: float = 0.5,
    *,
    method: str | None = "simclr",
    family: str = "native",
    arch: str = "vit_mini_patch4_32",
    weights: str | None = None,
    spec: str = "knn@imagenet1k?k=20",
    version: int = 1,
    fields: dict[str, Any] | None = None,
    manifest: str = MANIFEST,
    headline: str = "top1",
    metric: Metric | None = None,
    n: int = SAMPLES,
    seed: int = 0,
    pretrain: dict[str, Any] | None = None,
    warnings: tuple[str, ...] = (),
    **others: Any,
) -> Result:
    """One result; `score` gets the Wilson interval of `n` samples unless `metric` is given.

    `pretrain` overrides entries of a whole pre-training record; `{"dataset": None}` leaves the
    model without one.
    """
    weights = weights or hashlib.sha256(model.encode()).hexdigest()
    trained = {
        "dataset": "imagenet1k",
        "manifest": MANIFEST,
        "images": 5000,
        "epochs": 100.0,
        "effective_epochs": 200.0,
        "views_seen": 1_000_000,
        "steps": 2000,
        "flops": None,
        "seed": 0,
        "recipe": {"batch_size": 512},
    } | (pretrain or {})
    record = ModelRecord(
        name=model,
        source=f"runs/{model}",
        family=family,
        arch=arch,
        method=method,
        weights=weights,
        input={"size_px": 32},
        pretrain=trained if trained["dataset"] else None,
    )
    task = spec.partition("@")[0]
    shown = metric or Metric(score, *wilson(round(score * n), n), n, "wilson95")
    return Result(
        identity=Identity(weights, task, version, fields or {}, manifest, seed),
        task_spec=spec,
        headline=headline,
        metrics={headline: shown, "top5": Metric(0.9, 0.88, 0.92, n, "wilson95")},
        model=record.to_dict(),
        warnings=list(warnings),
        **{
            "dataset": {"images": n},
            "cost": {"seconds": 12.5, "images": n, "peak_memory_bytes": 512_000_000},
            "provenance": {"git_commit": "0123abc", "packages": {"torch": "2.15.0"}},
        }
        | others,
    )


@pytest.fixture
def store_of(tmp_path: Path) -> Callable[..., Store]:
    """Writes the given results into a store of their own and returns it."""

    def fill(*results: Result) -> Store:
        store = Store(tmp_path / "results")
        for one in results:
            store.write(one, Outcome({"id": np.array(["a", "b"]), "value": np.array([1.0, 0.0])}))
        return store

    return fill


@pytest.fixture(name="result", scope="session")
def make_result() -> Callable[..., Result]:
    """The maker of invented results."""
    return result


@pytest.fixture
def run() -> Callable[..., Result]:
    """The maker of a result of the model that a spec trains, on whole COCO and whole ImageNet."""

    def make(train: str, score: float = 0.46, *, name: str = "", **others: Any) -> Result:
        images = {"images": {"train": 1_281_167, "val": 50_000}}
        trained = {"spec": train, "dataset": "coco", "images": 118_287}
        more = {"spec": "knn@imagenet1k", "dataset": images, "n": 50_000} | others
        more["pretrain"] = trained | others.get("pretrain", {})
        return result(name or train.partition("@")[0], score, **more)

    return make

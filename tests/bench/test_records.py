"""Records: identities notice every change, texts and files read back what was written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import NewerSchema, SSLBenchError, StoreError
from bench.records import SCHEMA, Identity, KeyReport, Metric, ModelRecord, Outcome, Result

IDENTITY = Identity("ab" * 32, "knn", 2, {"k": 10, "T": 0.07}, "cd" * 32, seed=0)
MODEL = ModelRecord("dino-s16", "timm:x", "timm", "vit_small", None, "ab" * 32, {"size_px": 224})


def result(**changes: Any) -> Result:
    values: dict[str, Any] = {
        "identity": IDENTITY,
        "task_spec": "knn@mini?k=10",
        "headline": "top1",
        "metrics": {"top1": Metric(0.5, 0.4, 0.6, 100, "wilson95"), "top5": Metric(0.9)},
        "model": MODEL.to_dict(),
        "cost": {"seconds": 1.5, "images": 100, "peak_memory_bytes": 2**33},
        "warnings": ["é <b>"],
    }
    return Result(**(values | changes))


# Identity


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "00" * 32},
        {"task": "linear"},
        {"task_version": 3},
        {"fields": {"k": 11, "T": 0.07}},
        {"fields": {"k": 10}},
        {"fields": {"k": 10, "T": 0.07, "pool": None}},
        {"dataset": "00" * 32},
        {"seed": 1},
        {"version": 2},
    ],
)
def test_every_change_changes_the_digest(change: dict[str, Any]) -> None:
    assert dataclasses.replace(IDENTITY, **change).digest != IDENTITY.digest


def test_every_field_of_the_identity_is_covered_above() -> None:
    names = {field.name for field in dataclasses.fields(Identity)}
    assert names == {"weights", "task", "task_version", "fields", "dataset", "seed", "version"}


def test_the_digest_does_not_depend_on_the_order_of_fields() -> None:
    turned = dataclasses.replace(IDENTITY, fields={"T": 0.07, "k": 10})
    assert turned.digest == IDENTITY.digest
    assert hash(turned) == hash(IDENTITY)
    assert turned == IDENTITY


def test_the_digest_is_pinned() -> None:
    # 20 hex digits of the sha256 of the sorted, compact JSON, by sha256sum. Changing it throws
    # away every stored result: raise IDENTITY_VERSION instead.
    text = (
        '{"dataset":"d","fields":{"k":10},"seed":0,"task":"knn","task_version":1,"version":1,'
        '"weights":"w"}'
    )
    assert json.loads(text) == dataclasses.asdict(Identity("w", "knn", 1, {"k": 10}, "d", 0))
    assert Identity("w", "knn", 1, {"k": 10}, "d", 0).digest == "d3fff4ec252d6059100d"


def test_tuples_and_lists_are_one_identity() -> None:
    a = dataclasses.replace(IDENTITY, fields={"lrs": (0.1, 1.0)})
    b = dataclasses.replace(IDENTITY, fields={"lrs": [0.1, 1.0]})
    assert a.digest == b.digest


def test_an_identity_holds_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        _ = dataclasses.replace(IDENTITY, fields={"lr": float("nan")}).digest


# Metric


@pytest.mark.parametrize("values", [(np.nan,), (np.inf,), (0.5, np.nan, 0.6), (0.5, 0.6, 0.4)])
def test_a_metric_is_finite_and_its_interval_runs_upwards(values: tuple[float, ...]) -> None:
    with pytest.raises(SSLBenchError, match="metric"):
        Metric(*values)


# Outcome


def outcome(n: int = 3) -> Outcome:
    rng = np.random.default_rng(0)
    return Outcome(
        {
            "id": np.array([f"val/é{i}.jpg" for i in range(n)], dtype=str),
            "target": np.arange(n),
            "prediction": rng.integers(0, 9, (n, 5)),
            "value": rng.standard_normal(n).astype(np.float32),
            "correct": np.arange(n) % 2 == 0,
        },
        {"confusion": np.eye(4), "file": np.array(7)},  # `file` is a parameter of numpy's savez
    )


def test_an_outcome_reads_back_with_its_types(tmp_path: Path) -> None:
    written = outcome()
    written.save(tmp_path / "outcome.npz")
    read = Outcome.load(tmp_path / "outcome.npz")
    assert len(read) == 3
    for a, b in ((written.columns, read.columns), (written.extras, read.extras)):
        assert sorted(a) == sorted(b)
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def test_the_same_outcome_gives_the_same_bytes(tmp_path: Path) -> None:
    first = outcome()
    turned = Outcome(dict(reversed(first.columns.items())), first.extras)
    first.save(tmp_path / "a")
    turned.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_empty_outcome_reads_back(tmp_path: Path) -> None:
    Outcome({"id": np.array([], dtype=str)}).save(tmp_path / "o")
    assert len(Outcome.load(tmp_path / "o")) == 0


def test_numpy_variable_width_strings_become_plain_ones() -> None:
    ids = np.array(["a", "bb"], dtype=np.dtypes.StringDType())
    assert Outcome({"id": ids}).columns["id"].dtype.kind == "U"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"target": np.zeros(2)}, "needs the column 'id'"),
        ({"id": np.arange(2)}, "ids must be strings"),
        ({"id": np.array(["a", "b"]), "v": np.zeros(3)}, "differ in length"),
        ({"id": np.array(["a", "b"]), "v": np.array(1.0)}, "differ in length"),
        ({"id": np.array(["a", "b", "a"])}, "'a' occurs 2 times"),
        ({"id": np.array(["a"], dtype=object)}, "'id' has type object"),
        ({"id": np.array(["a"]), "v": np.array([{}])}, "'v' has type object"),
    ],
)
def test_an_outcome_refuses_what_cannot_be_scored(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(SSLBenchError, match=said):
        Outcome(columns)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "text", "pickle"])
def test_a_broken_outcome_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "outcome.npz"
    outcome(500).save(path)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    elif damage == "pickle":
        np.savez(path, **{"column.id": np.array(["a"], dtype=object)})  # type: ignore[arg-type]
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello"}[damage])
    with pytest.raises(StoreError, match=r"outcome\.npz .*; delete its folder"):
        Outcome.load(path)


# Result


def test_a_result_reads_back() -> None:
    written = result()
    read = Result.from_json(written.to_json())
    assert read == written
    assert json.loads(written.to_json())["digest"] == IDENTITY.digest
    assert ModelRecord.from_dict(read.model) == MODEL


def test_numpy_numbers_and_tuples_are_written_as_json_knows_them() -> None:
    cost = {"seconds": np.float32(0.5), "images": np.int64(3), "flops": float("nan"), "at": (1, 2)}
    read = Result.from_json(result(cost=cost).to_json())
    assert read.cost == {"seconds": 0.5, "images": 3, "flops": None, "at": [1, 2]}


def test_what_json_cannot_hold_is_named() -> None:
    with pytest.raises(TypeError, match="'device' holds a object"):
        result(provenance={"device": object()}).to_json()


def test_a_newer_schema_is_refused_with_advice() -> None:
    text = result().to_json().replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}')
    with pytest.raises(NewerSchema, match="pip install --upgrade sslbench"):
        Result.from_json(text)


def test_an_edited_identity_is_noticed() -> None:
    text = result().to_json().replace('"seed": 0', '"seed": 1')
    with pytest.raises(StoreError, match="identity was edited"):
        Result.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema": 1}', '{"schema": "x"}'])
def test_a_text_that_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="not a stored result"):
        Result.from_json(text)


WARNING = r'"\u00e9 <b>"'  # as JSON writes it


def edited(change: str, value: str) -> str:
    """A whole result with one JSON value in the place of another."""
    text = result().to_json()
    assert text.count(change) == 1
    return text.replace(change, value)


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        ('"value": 0.5', '"value": NaN', "value is nan, expected a finite number"),
        ('"value": 0.5', '"value": -Infinity', "value is -inf"),
        ('"value": 0.5', f'"value": 1{"0" * 400}', "OverflowError"),
        ('"value": 0.5', '"value": "0.5"', "value of the metric 'top1' is a str"),
        ('"value": 0.5', '"value": true', "value of the metric 'top1' is a bool"),
        ('"low": 0.4', '"low": 0.7', "runs from 0.7 down to 0.6"),
        ('"n": 100', '"n": [1]', "n of the metric 'top1' is a list"),
        ('"name": "dino-s16"', '"name": 3', "name of the model is a int"),
        ('"name": "dino-s16"', '"name": ""', "the model has no name"),
        ('"pretrain": null', '"pretrain": [1]', "pretrain of the model is a list"),
        ('"headline": "top1"', '"headline": "map"', "headline 'map' is not among"),
        ('"task_spec": "knn@mini?k=10"', '"task_spec": "knn@"', "nothing follows '@'"),
        ('"task_spec": "knn@mini?k=10"', '"task_spec": "knn"', "names no data set"),
        ('"fields": {\n   "T": 0.07,\n   "k": 10\n  }', '"fields": 3', "fields of the identity"),
        (WARNING, "7", "one of the warnings is a int"),
        (WARNING, "[" * 100_000 + "]" * 100_000, "RecursionError"),
    ],
)
def test_a_part_of_another_type_is_no_result(change: str, value: str, said: str) -> None:
    with pytest.raises(StoreError, match="not a stored result") as caught:
        Result.from_json(edited(change, value))
    assert said in str(caught.value)


def test_the_headline_is_one_of_the_metrics() -> None:
    with pytest.raises(SSLBenchError, match="headline 'map' is not among"):
        result(headline="map")


def test_a_key_report_is_complete_when_nothing_is_missing() -> None:
    assert KeyReport(3, 3, dropped={"head.weight": "a head"}).complete
    assert not KeyReport(2, 3, missing={"norm.bias": "not in the file"}).complete

"""What every task must hold; a new file in ``tasks/*`` is tested here unasked."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest

from bench import plan, registry
from bench.checkpoint import LoadedModel, load_model
from bench.engine import Settings, evaluate
from bench.options import options_of
from bench.plan import Request
from bench.records import Outcome
from bench.store import Store
from bench.task import Task
from bench.values import settable

MODEL = "random:vit_mini_patch4_32"


def spec_of(cls: type[Task]) -> str:
    """The task on its part of the mini benchmark, short where its defaults would take days."""
    name = cls.__module__.rpartition(".")[2]
    return f"{name}@{cls.mini}" + (f"?{cls.mini_options}" if cls.mini_options else "")


@pytest.fixture(params=registry.names("task"))
def cls(request: pytest.FixtureRequest) -> type[Task]:
    found: type[Task] = registry.load("task", str(request.param))
    return found


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    return load_model(MODEL)


@pytest.fixture
def run(
    cls: type[Task], model: LoadedModel, mini: Path, tmp_path: Path
) -> Callable[..., tuple[Task, Outcome]]:
    """Runs the task on its part of the mini benchmark."""

    def runner(**settings: Any) -> tuple[Task, Outcome]:
        from bench.engine import task_data
        from bench.features import FeatureCache

        request: Request = plan.requests([spec_of(cls)])[0]
        seed = settings.pop("seed", 0)
        folder = tmp_path / f"cache-{len(list(tmp_path.iterdir()))}"
        options = {"workers": 0, "device": "cpu"} | settings
        settings_of_run = Settings(data=mini, **options)
        data = task_data(request, seed, settings_of_run, FeatureCache(folder))
        return request.task, request.task.run(model, data)

    return runner


def same(one: Outcome, two: Outcome) -> None:
    assert one.columns.keys() == two.columns.keys()
    for name, column in one.columns.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(column, two.columns[name], atol=2e-3, err_msg=name)
        else:
            np.testing.assert_array_equal(column, two.columns[name], err_msg=name)


def test_its_fields_are_a_frozen_protocol(cls: type[Task]) -> None:
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert isinstance(cls.version, int)
    assert cls.version >= 1
    assert cls.headline
    assert cls.__doc__


def test_an_outcome_scores_with_intervals_and_survives_the_disk(
    cls: type[Task], run: Callable[..., tuple[Task, Outcome]], tmp_path: Path
) -> None:
    task, outcome = run()
    assert "id" in outcome.columns
    assert "value" in outcome.columns
    metrics = task.score(outcome)
    headline = metrics[cls.headline]
    assert headline.low is not None
    assert headline.high is not None
    assert headline.low <= headline.value <= headline.high
    outcome.save(tmp_path / "outcome.npz")
    assert task.score(Outcome.load(tmp_path / "outcome.npz")) == metrics


def test_every_sample_counts_once(
    cls: type[Task], run: Callable[..., tuple[Task, Outcome]], mini: Path
) -> None:
    from bench.dataset import open_split

    _, outcome = run()
    split = open_split(cls.mini, cls.needs[-1], mini)
    assert sorted(outcome.columns["id"]) == sorted(split.ids)


def test_batch_size_and_workers_do_not_change_the_outcome(
    run: Callable[..., tuple[Task, Outcome]],
) -> None:
    _, one = run(batch_size=64)
    _, two = run(batch_size=7, workers=1)
    same(one, two)


def test_the_same_seed_gives_the_same_outcome(run: Callable[..., tuple[Task, Outcome]]) -> None:
    (_, one), (_, two) = run(seed=3), run(seed=3)
    same(one, two)


def test_a_second_request_runs_nothing(cls: type[Task], mini: Path, tmp_path: Path) -> None:
    store, settings = Store(tmp_path / "r"), Settings(data=mini, cache=tmp_path / "c", workers=0)
    first = evaluate([MODEL], [spec_of(cls)], store, settings)
    again = evaluate([MODEL], [spec_of(cls)], store, settings)
    # Cells that it reads are made beside it.
    assert [r.identity.task for r in first.ran].count(cls.__module__.rpartition(".")[2]) == 1
    assert (len(first.stood), first.failed) == (0, {})
    assert (len(again.ran), len(again.stood), again.failed) == (0, 1, {})


def test_no_choice_is_called_none(cls: type[Task]) -> None:
    """`key=none` gives back the protocol's own value: a choice of that name could not be made."""
    for name, kind in settable(cls).items():
        for arm in (kind, *get_args(kind)):
            assert get_origin(arm) is not Literal or "none" not in get_args(arm), name


def test_its_options_are_explained(cls: type[Task]) -> None:
    told = options_of("task", cls.__module__.rpartition(".")[2])
    assert not set(told.defaults) - set(told.texts)

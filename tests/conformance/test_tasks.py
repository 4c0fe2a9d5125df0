"""What every task must hold; a new file in ``tasks/*`` is tested here unasked."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest

from bench import plan, registry
from bench.checkpoint import LoadedModel, load_model
from bench.dataset import open_split
from bench.engine import Settings, evaluate, task_data
from bench.features import FeatureCache
from bench.options import options_of
from bench.plan import Request
from bench.records import Outcome
from bench.task import Task
from bench.values import settable
from tests.conformance.tasks_on_mini import MODEL, NAMES, Evaluated, spec_of

Run = Callable[..., tuple[Task, Outcome]]


@pytest.fixture(params=NAMES, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cls(name: str) -> type[Task]:
    found: type[Task] = registry.load("task", name)
    return found


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    return load_model(MODEL)


@pytest.fixture(scope="module")
def run(
    cls: type[Task], model: LoadedModel, mini: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Runs the task on its part of the mini benchmark, each time with features of its own."""

    def runner(**settings: Any) -> tuple[Task, Outcome]:
        request: Request = plan.requests([spec_of(cls)])[0]
        options = {"data": mini, "workers": 0, "device": "cpu"} | settings
        cache = FeatureCache(tmp_path_factory.mktemp("cache"))
        return request.task, request.task.run(
            model, task_data(request, 0, Settings(**options), cache)
        )

    return runner


@pytest.fixture(scope="module")
def ran(run: Run) -> tuple[Task, Outcome]:
    """The task and its outcome, to be read only."""
    return run()


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
    cls: type[Task], ran: tuple[Task, Outcome], tmp_path: Path
) -> None:
    task, outcome = ran
    assert "id" in outcome.columns
    assert "value" in outcome.columns
    metrics = task.score(outcome)
    headline = metrics[cls.headline]
    assert headline.low is not None
    assert headline.high is not None
    assert headline.low <= headline.value <= headline.high
    outcome.save(tmp_path / "outcome.npz")
    assert task.score(Outcome.load(tmp_path / "outcome.npz")) == metrics


def test_every_sample_counts_once(cls: type[Task], ran: tuple[Task, Outcome], mini: Path) -> None:
    split = open_split(cls.mini, cls.needs[-1], mini)
    assert sorted(ran[1].columns["id"]) == sorted(split.ids)


def test_batch_size_and_workers_do_not_change_the_outcome(
    run: Run, ran: tuple[Task, Outcome]
) -> None:
    _, other = run(batch_size=7, workers=1)
    same(ran[1], other)


def test_the_same_seed_gives_the_same_outcome(
    name: str, ran: tuple[Task, Outcome], evaluated: Callable[[str], Evaluated]
) -> None:
    again = evaluated(name)
    (result,) = [found for found in again.report.ran if found.identity.task == name]
    same(ran[1], again.store.outcome(result))


def test_a_second_request_runs_nothing(name: str, evaluated: Callable[[str], Evaluated]) -> None:
    first = evaluated(name)
    again = evaluate([MODEL], [first.spec], first.store, first.settings)
    # Cells that it reads are made beside it.
    assert [r.identity.task for r in first.report.ran].count(name) == 1
    assert (len(first.report.stood), first.report.failed) == (0, {})
    assert (len(again.ran), len(again.stood), again.failed) == (0, 1, {})


def test_no_choice_is_called_none(cls: type[Task]) -> None:
    """`key=none` gives back the protocol's own value: a choice of that name could not be made."""
    for name, kind in settable(cls).items():
        for arm in (kind, *get_args(kind)):
            assert get_origin(arm) is not Literal or "none" not in get_args(arm), name


def test_its_options_are_explained(name: str) -> None:
    told = options_of("task", name)
    assert not set(told.defaults) - set(told.texts)

"""Success rates of a suite: what counts, how sure a rate is, and what spreads."""

from __future__ import annotations

import numpy as np
import pytest

from bench.records import Outcome
from bench.stats import wilson
from tasks.robot.cloning.scoring import rate, scores, successes


def outcome(solved: dict[str, list[list[int]]], needed: dict[str, int]) -> Outcome:
    """Solved decisions of each task: a row a start, a column a policy."""
    rows = [(task, row) for task, table in solved.items() for row in table]
    columns = {
        "id": np.array([f"{task}/{i}" for i, (task, _) in enumerate(rows)]),
        "task": np.array([task for task, _ in rows]),
        "needed": np.array([needed[task] for task, _ in rows]),
    }
    for k in range(len(rows[0][1])):
        columns[f"solved_{k}"] = np.array([row[k] for _, row in rows])
    return Outcome(columns)


def test_a_success_has_as_many_solved_decisions_as_its_task_needs() -> None:
    found = outcome({"a": [[5, 6], [7, 0]], "b": [[1, 0], [2, 1]]}, {"a": 6, "b": 1})
    np.testing.assert_array_equal(successes(found), [[0, 1], [1, 0], [1, 0], [1, 1]])
    np.testing.assert_array_equal(successes(found, 1), [[1, 1], [1, 0], [1, 0], [1, 1]])


def test_the_suite_is_the_mean_over_tasks_not_over_rollouts() -> None:
    found = outcome({"a": [[1]] * 9 + [[0]], "b": [[0]] * 2}, {"a": 1, "b": 1})
    metrics = scores(found)
    assert metrics["success"].value == pytest.approx((0.9 + 0.0) / 2)
    assert metrics["a"].value == pytest.approx(0.9)
    assert metrics["b"].value == 0


def test_spread_is_told_of_tasks_and_of_policies() -> None:
    metrics = scores(outcome({"a": [[1, 0], [1, 1]], "b": [[0, 0], [1, 0]]}, {"a": 1, "b": 1}))
    assert metrics["spread_tasks"].value == pytest.approx(np.std([0.75, 0.25], ddof=1))
    assert metrics["spread_policies"].value == pytest.approx(np.std([0.75, 0.25], ddof=1))
    alone = scores(outcome({"a": [[1], [0]]}, {"a": 1}))
    assert {"spread_tasks", "spread_policies"}.isdisjoint(alone)


def test_policies_that_agree_on_every_start_count_as_one_rollout_a_start() -> None:
    one = (np.arange(50) < 20).astype(float)[:, None]
    alike = rate([np.repeat(one, 3, axis=1)])
    assert (alike.low, alike.high) == pytest.approx(wilson(20, 50), abs=2e-3)


def test_independent_policies_count_every_rollout() -> None:
    rng = np.random.default_rng(0)
    free = rate([(rng.random((2000, 3)) < 0.4).astype(float)])
    assert free.high is not None
    assert free.low is not None
    low, high = wilson(2400, 6000)
    assert free.high - free.low == pytest.approx(high - low, rel=0.05)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_interval_does_not_collapse_where_all_are_alike(value: float) -> None:
    found = rate([np.full((50, 3), value)])
    assert found.value == value
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low > 0.05


def test_the_interval_covers_the_rate_where_starts_differ_in_difficulty() -> None:
    """Five tasks, 20 starts each of its own difficulty, three policies."""
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(600):
        tasks = [0.2, 0.5, 0.6, 0.8, 0.9]
        strata = []
        for mean in tasks:
            easy = rng.beta(mean * 2, (1 - mean) * 2, size=(20, 1))
            strata.append((rng.random((20, 3)) < easy).astype(float))
        found = rate(strata)
        assert found.low is not None
        assert found.high is not None
        inside.append(found.low <= np.mean(tasks) <= found.high)
    assert 0.93 <= np.mean(inside) <= 1.0

"""From what policies did to rows and success rates: by task, over the suite, with its spreads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.records import Metric, Outcome
from bench.stats import wilson

if TYPE_CHECKING:
    from tasks.robot.cloning.task import CloningTask

Rates = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


def outcome_of(
    task: CloningTask,
    starts: dict[str, list[int]],
    pieces: dict[tuple[str, int], dict[str, Array]],
) -> Outcome:
    """A row a start, with the solved decisions and the first solved one (-1: none) of each policy.

    Extras hold, for each task, `actions:<task>` (policies, starts, T, a), `solved:<task>`
    (policies, starts, T), `losses:<task>` (policies, stretches of the training) and, with
    attentive pooling, `queries:<task>` (policies, heads, d), whose products with tokens are the
    scores of the attention.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "task", "seed", "needed", "value")}
    counts: list[list[Array]] = [[] for _ in range(task.policies)]
    firsts: list[list[Array]] = [[] for _ in range(task.policies)]
    extras: dict[str, Array] = {}
    for name, numbers in starts.items():
        found = [pieces[name, number] for number in range(task.policies)]
        solved = np.stack([piece["solved"] for piece in found])  # (k, n, T)
        needed = task.rules(name).needed
        columns["id"] += [f"{name}/{number}" for number in numbers]
        columns["task"] += [name] * len(numbers)
        columns["seed"] += found[0]["seeds"].tolist()
        columns["needed"] += [needed] * len(numbers)
        columns["value"] += (solved.sum(axis=2) >= needed).mean(axis=0).tolist()
        for number in range(task.policies):
            counts[number].append(solved[number].sum(axis=1))
            first = np.where(solved[number].any(axis=1), solved[number].argmax(axis=1), -1)
            firsts[number].append(first)
        for key in ("actions", "solved", "losses", "queries"):
            if key in found[0]:
                extras[f"{key}:{name}"] = np.stack([piece[key] for piece in found])
    arrays: dict[str, Array] = {
        "id": np.array(columns["id"], dtype=np.str_),
        "task": np.array(columns["task"], dtype=np.str_),
        **{name: np.array(columns[name]) for name in ("seed", "needed", "value")},
    }
    for number in range(task.policies):
        arrays[f"solved_{number}"] = np.concatenate(counts[number])
        arrays[f"first_{number}"] = np.concatenate(firsts[number])
    return Outcome(arrays, extras)


def successes(outcome: Outcome, needed: npt.NDArray[np.int64] | int | None = None) -> Rates:
    """(episodes, policies) of 0 and 1: which rollouts had enough solved decisions.

    `needed` replaces the protocol's own number of them.
    """
    columns = outcome.columns
    enough = columns["needed"] if needed is None else np.broadcast_to(needed, len(outcome))
    solved = np.stack([columns[name] for name in solved_columns(outcome)], axis=1)
    return (solved >= enough[:, None]).astype(np.float64)


def solved_columns(outcome: Outcome) -> list[str]:
    """Names of the columns of solved decisions, one for each policy."""
    found = [name for name in outcome.columns if name.startswith("solved_")]
    return sorted(found, key=lambda name: int(name.rpartition("_")[2]))


def scores(outcome: Outcome) -> dict[str, Metric]:
    """All metrics of a suite.

    `success` is the mean over tasks, of rates over all starts and policies; `success_any` counts
    an episode with a single solved decision. `<task>` is each task's own rate. `spread_tasks` is
    the standard deviation between tasks, `spread_policies` that of the suite's mean between
    policies (training seeds).
    """
    task = outcome.columns["task"]
    names = list(dict.fromkeys(task.tolist()))
    found = successes(outcome)  # (n, k)
    by_task = {name: found[task == name] for name in names}
    any_of = successes(outcome, 1)
    metrics = {
        "success": rate(list(by_task.values())),
        "success_any": rate([any_of[task == name] for name in names]),
        **{name: rate([rows]) for name, rows in by_task.items()},
    }
    means = np.array([rows.mean(axis=0) for rows in by_task.values()])  # (tasks, k)
    if len(names) > 1:
        metrics["spread_tasks"] = Metric(float(means.mean(axis=1).std(ddof=1)), n=len(names))
    if found.shape[1] > 1:
        metrics["spread_policies"] = Metric(float(means.mean(axis=0).std(ddof=1)), n=found.shape[1])
    return metrics


def rate(strata: Sequence[Rates]) -> Metric:
    """The mean over strata of success rates, with Wilson's interval at its effective sample size.

    A stratum (a task) is (starts, policies) of 0 and 1. Rollouts of several policies from one start
    are no independent samples, so the size is p (1 - p) over the variance that the starts' means
    show, but never fewer than the starts and never more than the rollouts (Korn and Graubard, 1998,
    Survey Methodology 24). Unlike a bootstrap it stays honest at 0 and 1.
    """
    value = float(np.mean([rows.mean() for rows in strata]))
    starts = sum(len(rows) for rows in strata)
    rollouts = sum(rows.size for rows in strata)
    size = float(starts)
    if all(len(rows) > 1 for rows in strata):
        variance = sum(rows.mean(axis=1).var(ddof=1) / len(rows) for rows in strata)
        variance /= len(strata) ** 2
        if variance > 0:
            size = float(np.clip(value * (1 - value) / variance, starts, rollouts))
    low, high = wilson(value * size, size)
    return Metric(value, min(low, value), max(high, value), rollouts, "wilson95")

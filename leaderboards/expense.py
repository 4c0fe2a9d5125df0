"""What a model cost, and which models nobody beats at their cost."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.summary import Summary, number
from leaderboards.budget import recorded


@dataclass(frozen=True)
class Expense:
    """What is recorded of a model's cost; None where nothing is.

    Attributes:
        views: seen in pre-training.
        flops: of the pre-training.
        parameters: of the model.
        seconds: of all evaluations that the board shows.
    """

    views: float | None
    flops: float | None
    parameters: float | None
    seconds: float | None


def expense_of(results: Sequence[Summary]) -> Expense:
    """What the model of these results cost; where its trainings differ, the mean of them."""
    models = list({id(result.model): result for result in results}.values())
    seconds = [result.seconds for result in results if result.seconds is not None]
    return Expense(
        views=_mean(recorded(result, "views_seen") for result in models),
        flops=_mean(recorded(result, "flops") for result in models),
        parameters=_mean(number(result.model.get("parameters")) for result in models),
        seconds=sum(seconds) if seconds else None,
    )


def pareto(costs: Sequence[float | None], ranks: Sequence[float]) -> list[bool]:
    """Which are dominated by none: no other costs at most as much and ranks at least as high.

    One of the two must be better for one to dominate another, so equals stand side by side. What
    has no cost neither dominates nor is marked.
    """
    models = list(zip(costs, ranks, strict=True))
    best, front = math.inf, set()
    # By cost, then by rank: who comes later must rank better.
    for cost, rank in sorted({(c, r) for c, r in models if c is not None}):
        if rank < best:
            best = rank
            front.add((cost, rank))
    return [model in front for model in models]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

"""One score from the results of a model in a column: over pre-trainings and evaluation seeds."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.summary import Scored, Summary, as_summary
from leaderboards.cells import selected_on_test


class Cell(NamedTuple):
    """One score: the mean over pre-trainings of the means over their evaluation seeds.

    `low` and `high` are the sampling interval (averaged alike: the seeds share the test samples,
    and averaging does not shrink that part). Apart from it stand the seeds: `seed_low` and
    `seed_high` are the range of all results, `training_low` and `training_high` that of the means
    of the pre-trainings. Two cells are tied when their `band`s, which cover all of these, overlap.

    Attributes:
        seeds: how many results there are.
        trainings: of how many pre-trainings.
        evaluations: with how many seeds of the evaluation.
        group: tie group in the column, 1 for the best.
        tied_with_best: whether the band meets that of the best score.
    """

    value: float
    low: float | None
    high: float | None
    seed_low: float
    seed_high: float
    seeds: int
    selected_on_test: bool
    results: tuple[Summary, ...]
    trainings: int
    evaluations: int
    training_low: float
    training_high: float
    tied_with_best: bool = False
    group: int = 0

    @property
    def band(self) -> tuple[float, float]:
        """The smallest range that holds both the interval and every seed."""
        low = self.seed_low if self.low is None else min(self.low, self.seed_low)
        high = self.seed_high if self.high is None else max(self.high, self.seed_high)
        return low, high


def aggregate(results: Sequence[Scored]) -> Cell:
    """One cell from the results of one model in one column, a result for each seed.

    `leaderboards.grid` does the same for all cells of a board at once.
    """
    found = tuple(map(as_summary, results))
    values = [result.value for result in found]
    groups: dict[str, list[Summary]] = {}
    for result in found:
        groups.setdefault(result.weights, []).append(result)
    trainings = groups.values()
    means = [_mean([result.value for result in group]) for group in trainings]
    low = _balanced([[result.low for result in group] for group in trainings])
    high = _balanced([[result.high for result in group] for group in trainings])
    whole = low is not None and high is not None
    return Cell(
        value=_mean(means),
        low=low if whole else None,
        high=high if whole else None,
        seed_low=min(values),
        seed_high=max(values),
        seeds=len(found),
        selected_on_test=any(map(selected_on_test, found)),
        results=found,
        trainings=len(groups),
        evaluations=len({result.setting.seed for result in found}),
        training_low=min(means),
        training_high=max(means),
    )


def _balanced(groups: Sequence[Sequence[float | None]]) -> float | None:
    """The mean of the groups' means; None where a number is missing."""
    means = []
    for group in groups:
        known = [number for number in group if number is not None]
        if len(known) < len(group):
            return None
        means.append(_mean(known))
    return _mean(means)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

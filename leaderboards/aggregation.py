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
    tied_with_best: bool = False
    group: int = 0
    trainings: int = 1
    evaluations: int = 1
    training_low: float = 0.0
    training_high: float = 0.0

    @property
    def band(self) -> tuple[float, float]:
        """The smallest range that holds both the interval and every seed."""
        low = self.seed_low if self.low is None else min(self.low, self.seed_low)
        high = self.seed_high if self.high is None else max(self.high, self.seed_high)
        return low, high

    def placed(self, tied_with_best: bool, group: int) -> "Cell":
        """The cell with what its column says of it."""
        return Cell(*self[:8], tied_with_best, group, *self[10:])


def aggregate(results: Sequence[Scored]) -> Cell:
    """One cell from the results of one model in one column, a result for each seed."""
    found = tuple(map(as_summary, results))
    if len(found) == 1:  # nearly always, and there may be a hundred thousand
        (one,) = found
        value, chosen = one.value, selected_on_test(one)
        low, high = (None, None) if one.low is None or one.high is None else (one.low, one.high)
        return Cell(value, low, high, value, value, 1, chosen, found, False, 0, 1, 1, value, value)
    values = [result.value for result in found]
    groups: dict[str, list[Summary]] = {}
    for result in found:
        groups.setdefault(result.weights, []).append(result)
    means = [_mean([result.value for result in group]) for group in groups.values()]
    low = _balanced([[result.low for result in group] for group in groups.values()])
    high = _balanced([[result.high for result in group] for group in groups.values()])
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
    known = [[number for number in group if number is not None] for group in groups]
    if sum(map(len, known)) < sum(map(len, groups)):
        return None
    return _mean([_mean(group) for group in known])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""Places in a column, against their definitions written out one pair at a time."""

import random

import numpy as np
import pytest

from bench.records import Metric
from bench.stats import intervals_overlap, tie_groups
from leaderboards.expense import pareto
from leaderboards.places import places

Band = tuple[float, float, float]  # value, low, high


def column(seed: int) -> list[Band]:
    """Scores in steps of a tenth, so that many are equal, some without an interval."""
    dice = random.Random(seed)

    def band() -> Band:
        value = dice.randrange(10) / 10
        down, up = (dice.choice([0, 0.05, 0.1, 0.3]) for _ in range(2))
        return value, value - down, value + up

    return [band() for _ in range(dice.randrange(1, 15))]


def better(a: float, b: float, lower: bool) -> bool:
    return a < b if lower else a > b


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_places_are_what_they_are_defined_as(seed: int, lower: bool) -> None:
    bands = column(seed)
    found = places(*np.array(bands).T, lower)
    metrics = [Metric(*band) for band in bands]
    assert found.group.tolist() == tie_groups(metrics, higher_is_better=not lower)
    best = (min if lower else max)(value for value, _, _ in bands)
    leader = [m for m, group in zip(metrics, found.group, strict=True) if group == 1]
    leader = [m for m in leader if m.value == best]
    # Of several best scores the one that reaches least beyond itself decides.
    judge = max(leader, key=lambda m: m.low) if lower else min(leader, key=lambda m: m.high)
    for i, (value, low, high) in enumerate(bands):
        others = [band for j, band in enumerate(bands) if j != i]
        ahead = sum(better(v, value, lower) for v, _, _ in others)
        equal = sum(v == value for v, _, _ in others)
        assert found.rank[i] == np.mean([ahead + 1 + k for k in range(equal + 1)])
        surely_ahead = sum(h < low if lower else lo > high for _, lo, h in others)
        surely_behind = sum(lo > high if lower else h < low for _, lo, h in others)
        assert found.first[i] == 1 + surely_ahead
        assert found.last[i] == len(bands) - surely_behind
        assert found.first[i] <= found.rank[i] <= found.last[i]
        assert found.tied[i] == intervals_overlap(metrics[i], judge)


def test_places_do_not_depend_on_the_order_of_the_models() -> None:
    bands = np.array(column(3))
    order = np.random.default_rng(0).permutation(len(bands))
    one, two = places(*bands.T, False), places(*bands[order].T, False)
    for ours, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(ours[order], theirs)


def test_a_score_without_an_interval_is_a_point() -> None:
    found = places(*np.array([[0.5, 0.5, 0.5], [0.4, 0.4, 0.4]]).T, False)
    assert found.group.tolist() == [1, 2]
    assert found.first.tolist() == found.last.tolist() == [1, 2]


def test_a_wide_interval_behind_a_narrow_one_ties_with_the_best_in_a_later_group() -> None:
    bands = [(0.9, 0.85, 0.95), (0.7, 0.69, 0.71), (0.5, 0.1, 0.9)]
    found = places(*np.array(bands).T, False)
    assert found.group.tolist() == [1, 2, 2]
    assert found.tied.tolist() == [True, False, True]


# Who is beaten by nobody at its cost


@pytest.mark.parametrize("seed", range(60))
def test_the_front_holds_those_that_no_other_dominates(seed: int) -> None:
    dice = random.Random(seed)
    n = dice.randrange(12)
    costs = [dice.choice([None, 1e17, 2e17, 3e17, 4e17]) for _ in range(n)]
    ranks = [dice.choice([1.0, 1.5, 2.0, 3.0]) for _ in range(n)]

    def dominates(i: int, j: int) -> bool:
        a, b = costs[i], costs[j]
        return (
            a is not None
            and b is not None
            and a <= b
            and ranks[i] <= ranks[j]
            and (a < b or ranks[i] < ranks[j])
        )

    expected = [
        costs[j] is not None and not any(dominates(i, j) for i in range(n)) for j in range(n)
    ]
    assert pareto(costs, ranks) == expected

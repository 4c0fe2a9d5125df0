"""Simulations: intervals cover the truth as often as they say, tests err as often as they say.

The bands are 93-97 % and 4-6 %. Enough trials are drawn that the simulation's own standard error
is below half a point for tests and one for intervals; sums over all outcomes have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy import stats

from bench.paired_stats import holm, mcnemar_exact, mcnemar_mid, tango, unpaired
from bench.resampling import Ratio, studentised
from bench.stats import accuracy_metric, bootstrap, wilson

TRIALS = 2500
Draw = Callable[[np.random.Generator, int], np.ndarray]


def within(share: float, low: float, high: float) -> bool:
    """Whether a share lies in the band; the share is printed."""
    print(f"{share:.4f} in [{low}, {high}]?")
    return low <= share <= high


def covers(share: float) -> bool:
    return within(share, 0.93, 0.97)


def errs(share: float) -> bool:
    return within(share, 0.04, 0.06)


# Rates


@pytest.mark.parametrize("n", [10, 50, 200, 1000])
def test_wilson_covers_rates_on_average(n: int) -> None:
    ends = np.array([wilson(k, n) for k in range(n + 1)])  # (n + 1, 2)
    rates = (np.arange(1000) + 0.5) / 1000
    inside = (ends[:, 0] <= rates[:, None]) & (rates[:, None] <= ends[:, 1])
    coverage = (stats.binom.pmf(np.arange(n + 1), n, rates[:, None]) * inside).sum(axis=1)
    assert covers(float(coverage.mean()))


def discordant(n: int, share: float, difference: float) -> Iterator[tuple[int, int, float]]:
    """All counts that may be found, with their probabilities."""
    half = (share + difference) / 2
    only_first = np.arange(n + 1)
    first = stats.binom.pmf(only_first, n, half)
    for b in only_first[first > 1e-7].tolist():
        rest = stats.binom.pmf(np.arange(n - b + 1), n - b, (share - half) / (1 - half))
        for c in np.flatnonzero(first[b] * rest > 1e-7).tolist():
            yield b, c, float(first[b] * rest[c])


@pytest.mark.parametrize("n", [50, 100])
def test_tango_covers_differences_of_rates_on_average(n: int) -> None:
    coverage = []
    for share in (0.1, 0.2, 0.4):
        for difference in (0.0, 0.02, 0.05, 0.1):
            chances = 0.0
            for b, c, chance in discordant(n, share, difference):
                low, high = tango(b, c, n)
                chances += chance * (low <= difference <= high)
            coverage.append(chances)
    assert covers(float(np.mean(coverage)))
    assert min(coverage) > 0.92


@pytest.mark.parametrize(("n", "share"), [(50, 0.25), (100, 0.1), (100, 0.4), (500, 0.1)])
def test_mid_p_of_mcnemar_errs_in_five_percent(n: int, share: float) -> None:
    cells = [*discordant(n, share, 0.0)]
    assert errs(sum(chance for b, c, chance in cells if mcnemar_mid(b, c) <= 0.05))
    # why it is not the exact test that decides
    assert sum(chance for b, c, chance in cells if mcnemar_exact(b, c) <= 0.05) < 0.04


def test_mid_p_of_mcnemar_is_cautious_for_few_discordant_samples() -> None:
    for n, share in ((20, 0.1), (50, 0.1), (1000, 0.005)):
        error = sum(w for b, c, w in discordant(n, share, 0.0) if mcnemar_mid(b, c) <= 0.05)
        assert error < 0.05


def test_independent_rates_are_told_apart_in_five_percent() -> None:
    rng = np.random.default_rng(0)
    hits = rng.binomial(100, 0.4, (TRIALS, 2)).tolist()
    metric = [accuracy_metric(np.arange(100) < k) for k in range(101)]
    found = [unpaired(metric[a], metric[b]) for a, b in hits]
    assert covers(np.mean([one is not None and one[0] <= 0 <= one[1] for one in found]))
    assert errs(np.mean([one is not None and one[2] <= 0.05 for one in found]))


# Means


def precisions(rng: np.random.Generator, n: int) -> np.ndarray:
    """Differences of two average precisions of the same queries: bounded, many near 0 or 1."""
    shared = rng.beta(0.5, 0.5, n)
    first, second = np.clip(shared + 0.1 * rng.standard_normal((2, n)), 0, 1)
    return first - second


def sparse(rng: np.random.Generator, n: int) -> np.ndarray:
    """Differences that most samples do not show."""
    return rng.standard_normal(n) * (rng.random(n) < 0.4)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.exponential(1.0, n) - 1


@pytest.mark.parametrize(("draw", "n"), [(precisions, 30), (sparse, 100), (skewed, 100)])
def test_studentised_bootstrap_of_a_mean_holds_its_level(draw: Draw, n: int) -> None:
    rng, inside, wrong = np.random.default_rng(0), 0, 0
    for trial in range(TRIALS):
        rows = np.stack([draw(rng, n), np.ones(n)], axis=1)
        found = studentised(rows, Ratio(), seed=trial, resamples=199)
        assert found.low is not None
        assert found.high is not None
        assert found.p is not None
        inside += found.low <= 0 <= found.high
        wrong += found.p <= 0.05
    assert covers(inside / TRIALS)
    assert errs(wrong / TRIALS)


def test_studentised_bootstrap_of_clusters_holds_its_level() -> None:
    # as in DAVIS-2017: 30 videos of 1 to 5 objects that move together
    rng, wrong = np.random.default_rng(0), 0
    for trial in range(TRIALS):
        sizes = rng.integers(1, 6, 30)
        noise = np.sqrt(sizes) * rng.standard_normal(30)
        totals = sizes * rng.standard_normal(30) + noise
        found = studentised(np.stack([totals, sizes], axis=1), Ratio(), seed=trial, resamples=199)
        assert found.p is not None
        wrong += found.p <= 0.05
    assert errs(wrong / TRIALS)


def test_students_interval_of_few_differing_samples_is_too_wide_rather_than_narrow() -> None:
    rng, inside = np.random.default_rng(0), 0
    for trial in range(TRIALS):
        values = rng.standard_normal(40) * (rng.random(40) < 0.1)
        found = studentised(np.stack([values, np.ones(40)], axis=1), Ratio(), seed=trial)
        inside += found.low is None or found.low <= 0 <= (found.high or 0)
    assert inside / TRIALS > 0.95


@pytest.mark.parametrize(
    ("draw", "n", "low", "high"),
    [
        # what `bootstrap` says of its own reach: narrow for few samples, and longer for skewed ones
        (precisions, 20, 0.90, 0.93),
        (precisions, 70, 0.93, 0.97),
        (skewed, 30, 0.90, 0.93),
    ],
)
def test_percentile_bootstrap_covers_means(draw: Draw, n: int, low: float, high: float) -> None:
    rng, inside = np.random.default_rng(0), 0
    for trial in range(1000):
        ends = bootstrap(draw(rng, n), mean, trial, resamples=199)
        inside += ends[0] <= 0 <= ends[1]
    assert within(inside / 1000, low, high)


def mean(rows: np.ndarray) -> float:
    return float(rows.sum() / len(rows))


# Several tests


def test_holm_errs_on_any_of_its_tests_in_at_most_five_percent() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((TRIALS, 8))
    p[:, :3] **= 8  # three real differences
    wrong = [min(holm(row)[3:]) <= 0.05 for row in p.tolist()]
    assert 0.02 <= np.mean(wrong) <= 0.055

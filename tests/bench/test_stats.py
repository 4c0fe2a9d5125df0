"""Intervals agree with hand-computed values, and cover what they claim to cover."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bench.errors import SSLBenchError
from bench.records import Metric
from bench.stats import (
    accuracy_metric,
    bootstrap,
    bootstrap_metric,
    intervals_overlap,
    tie_groups,
    wilson,
)

# Wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # by hand, z = 1.959964, z^2 = 3.841459:
        # 8 of 10: centre (0.8 + 0.192073) / 1.384146 = 0.716740,
        #          half 1.959964 / 1.384146 * sqrt(0.016 + 0.009604) = 0.226578
        (8, 10, 0.490162, 0.943318),
        # 0 of 10: high z^2 / (n + z^2) = 3.841459 / 13.841459
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        # 1 of 2: centre 1/2, half 1.959964 / 2.920729 * sqrt(0.125 + 0.240091)
        (1, 2, 0.094531, 0.905469),
    ],
)
def test_wilson_agrees_with_values_by_hand(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=2e-6)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_wilson_bounds_solve_their_defining_equation(level: float) -> None:
    # (p - k/n)^2 = z^2 p (1 - p) / n, a quadratic in p; z from 2 Phi(z) - 1 = level by bisection
    below, above = 0.0, 10.0
    for _ in range(100):
        z = (below + above) / 2
        below, above = (z, above) if math.erf(z / math.sqrt(2)) < level else (below, z)
    for n in (1, 7, 50, 50_000):
        for successes in {0, 1, n // 3, n - 1, n}:
            p = successes / n
            roots = np.roots([1 + z * z / n, -2 * p - z * z / n, p * p])
            assert wilson(successes, n, level) == pytest.approx(sorted(roots.real), abs=1e-7)


def test_wilson_is_symmetric_and_stays_within_bounds() -> None:
    for n in (1, 3, 1000):
        for successes in range(min(n, 20) + 1):
            low, high = wilson(successes, n)
            mirrored_low, mirrored_high = wilson(n - successes, n)
            assert 0 <= low <= successes / n <= high <= 1
            assert (low, high) == pytest.approx((1 - mirrored_high, 1 - mirrored_low))


@pytest.mark.parametrize(
    ("successes", "n", "level"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0)]
)
def test_wilson_refuses_what_is_no_rate(successes: int, n: int, level: float) -> None:
    with pytest.raises(SSLBenchError, match=r"no rate|outside \(0, 1\)"):
        wilson(successes, n, level)


# Bootstrap


def test_bootstrap_is_determined_by_its_seed() -> None:
    values = np.random.default_rng(0).standard_normal(40)
    assert bootstrap(values, np.mean, seed=1) == bootstrap(values, np.mean, seed=1)
    assert bootstrap(values, np.mean, seed=1) != bootstrap(values, np.mean, seed=2)


def test_bootstrap_does_not_touch_the_global_generator() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    bootstrap([1.0, 2.0, 3.0], np.mean, seed=0, resamples=5)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(0).standard_normal(2000)
    error = values.std() / math.sqrt(len(values))
    low, high = bootstrap(values, np.mean, seed=0, resamples=2000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_bootstrap_covers_the_truth_about_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = bootstrap(rng.exponential(1.0, 80), np.mean, seed, resamples=200)
        covered += low <= 1.0 <= high
    # 95 % claimed; a skewed distribution costs some, and 200 trials are sure to +-3 %
    assert 0.87 <= covered / 200 <= 0.98


def test_bootstrap_resamples_whole_rows() -> None:
    pairs = np.stack([np.arange(50), np.arange(50) + 1], axis=1)  # (n, 2)
    assert bootstrap(pairs, lambda rows: float((rows[:, 1] - rows[:, 0]).mean()), 0) == (1.0, 1.0)


def test_a_wider_level_gives_a_wider_interval() -> None:
    values = np.arange(30.0)
    low50, high50 = bootstrap(values, np.mean, 0, level=0.5)
    low99, high99 = bootstrap(values, np.mean, 0, level=0.99)
    assert low99 < low50 < 14.5 < high50 < high99


def test_bootstrap_needs_two_samples() -> None:
    for values in ([], [1.0], 3.0):
        with pytest.raises(SSLBenchError, match="at least 2 samples"):
            bootstrap(values, np.mean, 0)


# Metrics


def test_bootstrap_metric_has_value_interval_and_count() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    metric = bootstrap_metric(values, np.median, seed=3)
    assert metric.value == np.median(values)
    assert (metric.low, metric.high) == bootstrap(values, np.median, seed=3)
    assert (metric.n, metric.interval) == (50, "bootstrap95")


def test_one_sample_has_a_value_but_no_interval() -> None:
    assert bootstrap_metric([2.0], np.mean, 0) == Metric(2.0, n=1)
    with pytest.raises(SSLBenchError, match="no samples"):
        bootstrap_metric([], np.mean, 0)


def test_accuracy_metric_is_a_rate_with_wilson() -> None:
    metric = accuracy_metric(np.array([True] * 8 + [False] * 2))
    assert (metric.value, metric.n, metric.interval) == (0.8, 10, "wilson95")
    assert (metric.low, metric.high) == wilson(8, 10)


@pytest.mark.parametrize(
    "wrong", [np.array([1, 0]), np.zeros((2, 2), dtype=bool), np.array([], dtype=bool)]
)
def test_accuracy_metric_refuses_what_is_not_one_boolean_a_sample(wrong: np.ndarray) -> None:
    with pytest.raises(SSLBenchError, match="one boolean for each sample"):
        accuracy_metric(wrong)


# Ties


def rate(low: float, value: float, high: float) -> Metric:
    return Metric(value, low, high)


def test_intervals_overlap_when_they_share_a_point() -> None:
    assert intervals_overlap(rate(0.1, 0.2, 0.3), rate(0.3, 0.4, 0.5))
    assert not intervals_overlap(rate(0.1, 0.2, 0.3), rate(0.31, 0.4, 0.5))
    assert intervals_overlap(Metric(0.4), rate(0.3, 0.35, 0.5))
    assert not intervals_overlap(Metric(0.4), Metric(0.5))


def test_tie_groups_follow_the_best_of_each_group() -> None:
    best, tied = rate(0.8, 0.9, 1.0), rate(0.7, 0.75, 0.81)
    chained = rate(0.6, 0.65, 0.72)  # overlaps the tied one, not the best
    last = Metric(0.1)
    assert tie_groups([last, chained, best, tied]) == [3, 2, 1, 1]
    assert tie_groups([]) == []


def test_tie_groups_can_rank_errors() -> None:
    assert tie_groups([rate(1, 2, 3), rate(5, 6, 7), rate(2, 4, 6)], False) == [1, 2, 1]


@pytest.mark.parametrize("higher", [True, False])
def test_tie_groups_do_not_depend_on_order_and_never_split_equals(higher: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        values = rng.integers(0, 4, 5) / 4
        metrics = [
            rate(v - a, v, v + b) for v, (a, b) in zip(values, rng.random((5, 2)) / 4, strict=True)
        ]
        groups = tie_groups(metrics, higher)
        for order in itertools.islice(itertools.permutations(range(5)), 0, None, 17):
            assert tie_groups([metrics[i] for i in order], higher) == [groups[i] for i in order]
        for i, j in itertools.combinations(range(5), 2):
            if values[i] == values[j]:
                assert groups[i] == groups[j]

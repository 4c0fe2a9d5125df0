"""Paired tests agree with other people's code, with brute force and with published examples."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from bench.errors import SSLBenchError
from bench.paired_stats import (
    detectable_mean,
    detectable_rate,
    holm,
    mcnemar_exact,
    mcnemar_mid,
    over_seeds,
    tango,
    unpaired,
)
from bench.records import Metric
from bench.stats import accuracy_metric

COUNTS = [(0, 0), (0, 1), (3, 3), (5, 9), (0, 12), (40, 60), (700, 601)]

# McNemar


@pytest.mark.parametrize(("b", "c"), COUNTS)
def test_exact_p_agrees_with_statsmodels(b: int, c: int) -> None:
    theirs = mcnemar([[100, b], [c, 100]], exact=True).pvalue
    assert mcnemar_exact(b, c) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(("b", "c"), COUNTS)
def test_mid_p_counts_what_was_found_half(b: int, c: int) -> None:
    # summed over all outcomes in whole numbers: less likely ones, and half of the equally likely
    ways = [math.comb(b + c, k) for k in range(b + c + 1)]
    less, equal = (sum(w for w in ways if keep(w)) for keep in (ways[b].__gt__, ways[b].__eq__))
    expected = 1.0 if b == c else float(Fraction(2 * less + equal, 2 ** (b + c + 1)))
    assert mcnemar_mid(b, c) == pytest.approx(expected, abs=1e-12)
    assert mcnemar_mid(b, c) == mcnemar_mid(c, b) <= mcnemar_exact(b, c)


def test_mid_p_agrees_with_a_published_example() -> None:
    # Fagerland et al. (2013), Table 1: 1 and 7 discordant pairs of 21; exact 0.070, mid-p 0.039
    assert mcnemar_exact(1, 7) == pytest.approx(0.070, abs=5e-4)
    assert mcnemar_mid(1, 7) == pytest.approx(0.039, abs=5e-4)


def test_negative_counts_are_refused() -> None:
    for test in (mcnemar_exact, mcnemar_mid, lambda b, c: tango(b, c, 9)):
        with pytest.raises(SSLBenchError, match="-1 and 3"):
            test(-1, 3)


# Tango


def score_interval(b: int, c: int, n: int) -> tuple[float, float]:
    """The same interval with the constrained likelihood maximised by brute force."""

    def excess(d: float) -> float:
        def loss(q: float) -> float:
            cells = ((b, q + d), (c, q), (n - b - c, 1 - 2 * q - d))
            return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

        ends = (max(0.0, -d), (1 - d) / 2)
        q = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-12})
        z = stats.norm.ppf(0.975)
        return float((b - c - n * d) ** 2 - z * z * n * (2 * q.x + d - d * d))

    rate = (b - c) / n
    return optimize.brentq(excess, 1e-9 - 1, rate), optimize.brentq(excess, rate, 1 - 1e-9)


@pytest.mark.parametrize(
    ("b", "c", "n"), [(12, 2, 50), (0, 1, 44), (5, 5, 30), (20, 3, 40), (0, 7, 10), (0, 0, 20)]
)
def test_tango_agrees_with_brute_force(b: int, c: int, n: int) -> None:
    assert tango(b, c, n) == pytest.approx(score_interval(b, c, n), abs=1e-6)


def test_tango_without_discordant_samples_is_known_in_closed_form() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    assert tango(0, 0, 20) == pytest.approx((-z2 / (20 + z2), z2 / (20 + z2)))


def test_tango_is_symmetric_and_holds_its_rate_within_bounds() -> None:
    for n in (1, 5, 200):
        for b, c in itertools.product(range(0, n + 1, max(1, n // 4)), repeat=2):
            if b + c <= n:
                low, high = tango(b, c, n)
                assert -1 <= low <= (b - c) / n <= high <= 1
                assert (low, high) == pytest.approx([-end for end in tango(c, b, n)[::-1]])
    with pytest.raises(SSLBenchError, match="discordant samples of 9"):
        tango(5, 5, 9)


def test_tango_leaves_out_zero_where_mcnemars_score_test_does() -> None:
    for b, c in itertools.product(range(0, 40, 3), repeat=2):
        low, high = tango(b, c, 100)
        outside = abs(b - c) > stats.norm.ppf(0.975) * math.sqrt(b + c)
        assert (not low <= 0 <= high) == outside


# What could have been seen


@pytest.mark.parametrize(("share", "n"), [(0.1, 200), (0.2, 100), (0.3, 1000), (0.02, 60)])
def test_detectable_rate_is_found_in_80_percent_of_simulations(share: float, n: int) -> None:
    difference = detectable_rate(round(share * n), n)
    assert difference is not None
    share = max(round(share * n) / n, difference)
    cells = [(share + difference) / 2, (share - difference) / 2, 1 - share]
    drawn = np.random.default_rng(0).multinomial(n, cells, 20_000)[:, :2]
    found, times = np.unique(drawn, axis=0, return_counts=True)
    seen = sum(
        k for (b, c), k in zip(found.tolist(), times, strict=True) if mcnemar_mid(b, c) <= 0.05
    )
    assert seen / 20_000 == pytest.approx(0.8, abs=0.012)  # four standard errors


def test_detectable_rate_is_connors_for_many_samples() -> None:
    # Connor (1987), Biometrics 43: d sqrt(n) = 1.96 sqrt(rate) + 0.84 sqrt(rate - d^2)
    n, rate = 50_000, 0.1
    z = stats.norm.ppf([0.975, 0.8])
    expected = optimize.brentq(
        lambda d: d * math.sqrt(n) - z[0] * math.sqrt(rate) - z[1] * math.sqrt(rate - d * d), 0, 0.1
    )
    assert detectable_rate(5000, n) == pytest.approx(expected, rel=0.01)


def test_detectable_rate_falls_with_samples_and_rises_with_the_level() -> None:
    rates = [detectable_rate(n // 10, n) or 1.0 for n in (20, 100, 1000, 10_000)]
    assert rates == sorted(rates, reverse=True)
    assert (detectable_rate(10, 100, alpha=0.005) or 0) > (detectable_rate(10, 100) or 1)
    # p = 0.03 for all of five on one side, which at a rate d has the probability d^5; never for 4
    assert detectable_rate(0, 5) == pytest.approx(0.8 ** (1 / 5))
    assert detectable_rate(0, 4) is None
    with pytest.raises(SSLBenchError, match="6 discordant samples of 5"):
        detectable_rate(6, 5)


def test_detectable_mean_is_found_in_80_percent_of_simulations() -> None:
    n, error = 40, 1 / math.sqrt(40)
    difference = detectable_mean(error, n)
    drawn = np.random.default_rng(0).standard_normal((20_000, n)) + difference
    seen = stats.ttest_1samp(drawn, 0.0, axis=1).pvalue <= 0.05
    assert seen.mean() == pytest.approx(0.8, abs=0.012)


# Scores that cannot be paired


def test_unpaired_interval_agrees_with_newcombes_example() -> None:
    # Newcombe (1998), Stat. Med. 17:873, Table II a: 56/70 - 48/80 by method 10: 0.0524 to 0.3339
    first, second = (accuracy_metric(np.arange(n) < k) for k, n in ((56, 70), (48, 80)))
    found = unpaired(first, second)
    assert found is not None
    assert found[:2] == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert 0.005 < found[2] < 0.01  # z = 2.64 by the pooled test: 0.008


def test_unpaired_p_is_five_percent_where_the_interval_ends_at_zero() -> None:
    first = Metric(0.5, 0.4, 0.7)
    gap = math.hypot(0.1, 0.2)  # down from the first, up to the second
    found = unpaired(first, Metric(0.5 - gap, 0.1, 0.7 - gap))
    assert found is not None
    assert found[0] == pytest.approx(0.0, abs=1e-12)
    assert found[2] == pytest.approx(0.05)


def test_unpaired_needs_both_intervals() -> None:
    assert unpaired(Metric(0.5), Metric(0.4, 0.3, 0.5)) is None
    assert unpaired(Metric(0.5, 0.4, 0.6), Metric(0.5, 0.2, 0.7)) == pytest.approx(
        (-math.hypot(0.1, 0.2), math.hypot(0.1, 0.3), 1.0)
    )


# Many tests, many seeds


def test_holm_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 60):
        p = rng.random(size) ** 3
        p[rng.random(size) < 0.2] = 0.01  # ties
        assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == []


def test_holm_does_not_depend_on_the_order() -> None:
    p = [0.04, 0.001, 0.04, 0.9, 0.02]
    adjusted = dict(zip(p, holm(p), strict=True))
    for order in itertools.permutations(p):
        assert holm(order) == [adjusted[one] for one in order]


def test_spread_over_seeds_is_students() -> None:
    values = [0.1, 0.3, 0.2, 0.25]
    spread = over_seeds(values)
    assert spread is not None
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (spread.low, spread.high) == pytest.approx(tuple(theirs))
    assert (spread.mean, spread.n) == (pytest.approx(0.2125), 4)
    assert spread.std == pytest.approx(np.std(values, ddof=1))
    assert over_seeds([0.1]) is None

"""Two models on the same samples: which scores differ by more than chance, and by how much.

Differences are first minus second. All of it describes the sampling of the evaluation set for the
weights at hand; how differences spread over training seeds is `over_seeds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy import stats

from bench.errors import SSLBenchError
from bench.records import Metric

ALPHA, POWER = 0.05, 0.8
TAIL = 1e-9  # probability of what is left out of sums over counts


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test, from the counts of discordant samples.

    Each of the samples that just one side has right is as likely the first's as the second's where
    neither is better. It never errs more often than it says, and for few discordant samples far
    less often: too cautious.
    """
    both = _checked(only_first, only_second)
    return min(1.0, 2 * float(stats.binom.cdf(min(only_first, only_second), both, 0.5)))


def mcnemar_mid(only_first: int, only_second: int) -> float:
    """Two-sided mid-p-value of McNemar's test: the counts that were found count half.

    Fagerland, Lydersen and Laake (2013), BMC Med. Res. Methodol. 13:91: as good as never above its
    level, and much nearer to it than the exact test.
    """
    both = _checked(only_first, only_second)
    return float(_mid_p(np.array(min(only_first, only_second)), np.array(both)))


def tango(only_first: int, only_second: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval (low, high) of the difference of two rates on the same n samples.

    Tango (1998), Stat. Med. 17: the d with (b - c - n d)^2 <= z^2 n (2 q + d (1 - d)), where q is
    the likeliest probability of c = `only_second` under d. It stays honest where no sample is
    discordant.
    """
    if _checked(only_first, only_second) > n or n < 1:
        raise SSLBenchError(f"{only_first} and {only_second} discordant samples of {n}")
    z = NormalDist().inv_cdf((1 + level) / 2)

    def holds(d: float) -> bool:
        slope = (2 * n - only_first + only_second) * d - only_first - only_second
        root = math.sqrt(max(slope**2 + 8 * n * only_second * d * (1 - d), 0.0))
        q = (root - slope) / (4 * n)
        return (only_first - only_second - n * d) ** 2 <= z * z * n * (2 * q + d * (1 - d))

    rate = (only_first - only_second) / n
    return _last(holds, rate, -1.0), _last(holds, rate, 1.0)


def detectable_rate(
    discordant: int, n: int, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """The difference of rates that McNemar's mid-p test finds with the probability `power`.

    By summing over all counts, at the share of discordant samples that was found; where a larger
    difference needs more of them, all are taken to be of one side. None where n samples are too few
    to find any difference.
    """
    if not 0 <= discordant <= n or n < 1:
        raise SSLBenchError(f"{discordant} discordant samples of {n}")

    def missed(difference: float) -> bool:
        rate = max(discordant / n, difference)
        low, high = stats.binom.ppf([TAIL, 1 - TAIL], n, rate)
        both = np.arange(low, high + 1)  # (m,) numbers of discordant samples that may occur
        limit = stats.binom.ppf(alpha / 2, both, 0.5)  # significant up to it, or up to one less
        limit -= _mid_p(limit, both) > alpha
        share = (1 + difference / rate) / 2
        seen = stats.binom.cdf(limit, both, share) + stats.binom.sf(both - limit - 1, both, share)
        return bool((stats.binom.pmf(both, n, rate) * seen).sum() < power)

    found = _last(missed, 0.5 / n, 1.0)
    return None if found == 1.0 else found


def detectable_mean(error: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The difference of means that a test finds with the probability `power`.

    Args:
        error: standard error of the difference.
        n: samples, or clusters, behind it.
        alpha: level of the test.
        power: as above.
    """
    return error * float(stats.t.ppf(1 - alpha / 2, n - 1) + stats.t.ppf(power, n - 1))


def unpaired(first: Metric, second: Metric) -> tuple[float, float, float] | None:
    """(low, high, p) of the difference of two metrics as if their samples were not the same.

    Square-and-add of their 95 % intervals: Newcombe (1998), Stat. Med. 17, method 10 without
    correlation. For scores on the same samples, which mostly rise and fall together, it is too
    cautious. None where a metric has no interval.
    """
    ends = (first.low, first.high, second.low, second.high)
    if None in ends:
        return None
    low_1, high_1, low_2, high_2 = (float(end) for end in ends if end is not None)
    gap = first.value - second.value
    down = math.hypot(first.value - low_1, high_2 - second.value)
    up = math.hypot(high_1 - first.value, second.value - low_2)
    towards = (down if gap > 0 else up) / NormalDist().inv_cdf(0.975)  # one standard error
    p = 1.0 if gap == 0 else 2 * NormalDist().cdf(-abs(gap) / towards) if towards else 0.0
    return gap - down, gap + up, p


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted so that all tests together err no more often than one.

    Holm (1979), Scand. J. Stat. 6: the smallest of m is taken m times, the next m - 1 times, and so
    on, none below the one before. In the order of the input.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


@dataclass(frozen=True)
class Spread:
    """How a number varies over seeds.

    Attributes:
        mean: over seeds.
        low: end of Student's 95 % interval of the mean, which takes seeds for draws.
        high: the other end.
        std: of the seeds, with n - 1.
        n: seeds.
    """

    mean: float
    low: float
    high: float
    std: float
    n: int


def over_seeds(values: Sequence[float]) -> Spread | None:
    """Mean and spread of one value a seed; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Spread(mean, mean - half, mean + half, std, n)


def _mid_p(
    fewer: npt.NDArray[np.generic], both: npt.NDArray[np.generic]
) -> npt.NDArray[np.float64]:
    """Two-sided mid-p-values, at most 1, of the smaller of two counts and their sum."""
    tail = 2 * stats.binom.cdf(fewer, both, 0.5) - stats.binom.pmf(fewer, both, 0.5)
    return np.asarray(np.minimum(tail, 1.0))


def _checked(only_first: int, only_second: int) -> int:
    if min(only_first, only_second) < 0:
        raise SSLBenchError(f"{only_first} and {only_second} discordant samples: no counts")
    return only_first + only_second


def _last(holds: Callable[[float], bool], inside: float, end: float) -> float:
    """The last value from `inside`, where it holds, towards `end` at which it still does."""
    if holds(end):
        return end
    for _ in range(60):
        middle = (inside + end) / 2
        inside, end = (middle, end) if holds(middle) else (inside, middle)
    return inside

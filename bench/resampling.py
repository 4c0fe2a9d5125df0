"""Studentised bootstrap of statistics that are smooth functions of sums over samples.

A mean, a mean over clusters, an mIoU and the difference of two of them are functions of sums, so
that a resample is a row of counts and all resamples together are matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import stats

from bench.errors import SSLBenchError

FEW = 10  # rows unlike the most frequent one; with fewer, too many resamples would miss them all
DRAWS = 50_000_000  # of samples in one bootstrap, by default: a second or two
BLOCK = 4_000_000  # numbers held at once

Floats = npt.NDArray[np.float64]


class Statistic(Protocol):
    """A function of sums over samples which stays the same when all of them are multiplied."""

    def value(self, sums: Floats) -> Floats:
        """(...,) values of sums (..., k)."""

    def gradient(self, sums: Floats) -> Floats:
        """(..., k) derivatives of the values by the sums."""


@dataclass(frozen=True)
class Ratio:
    """The first sum over the second: a mean, from rows (total, count)."""

    def value(self, sums: Floats) -> Floats:
        """(...,) ratios of sums (..., 2)."""
        return np.asarray(sums[..., 0] / sums[..., 1])

    def gradient(self, sums: Floats) -> Floats:
        """(..., 2) derivatives."""
        total, count = sums[..., 0], sums[..., 1]
        return np.stack([1 / count, -total / count**2], axis=-1)


@dataclass(frozen=True)
class Estimate:
    """A statistic, how sure it is, and the p-value of its being 0.

    Attributes:
        value: of all samples.
        n: samples or clusters that were resampled.
        error: standard error of the value.
        low: end of the interval; None where nothing can be said of it.
        high: the other end.
        p: two-sided; None as the interval.
        method: `bootstrap-t`; `t` where too few samples differ; empty without an interval.
    """

    value: float
    n: int
    error: float = 0.0
    low: float | None = None
    high: float | None = None
    p: float | None = None
    method: str = ""


def studentised(
    rows: npt.ArrayLike,
    statistic: Statistic,
    seed: int = 0,
    resamples: int | None = None,
    level: float = 0.95,
) -> Estimate:
    """The statistic of all rows (n, k) with the symmetric bootstrap-t interval.

    Hall (1988), Ann. Stat. 16: how far resamples lie from the whole, each in its own standard
    errors (infinitesimal jackknife), tells how many standard errors wide the interval is. The
    p-value comes from the same distances: it is at most 1 - level where the interval leaves out 0,
    and never below 1 / (resamples + 1). Unlike a percentile interval it holds its level with 30
    samples, if these are not very skewed.

    With fewer than `FEW` rows unlike the most frequent one it is Student's interval, which is then
    rather too wide. There is none for one row, nor where all rows say the same but 0.

    Args:
        rows: of samples, or of clusters of them.
        statistic: of their sums.
        seed: of the resampling; equal input gives equal output.
        resamples: 9,999 by default, down to 1,999 for many samples.
        level: of the interval.
    """
    table = np.asarray(rows, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise SSLBenchError(f"expected (n, k) rows of numbers, found shape {table.shape}")
    n, total = len(table), table.sum(axis=0)
    value = float(statistic.value(total))
    influence = table @ statistic.gradient(total)  # (n,)
    if n < 2:
        return Estimate(value, n)
    error = float(influence.std(ddof=1)) * math.sqrt(n)
    if error <= 1e-12 * float(np.abs(influence).max()):
        return Estimate(value, n) if value else Estimate(value, n, 0.0, 0.0, 0.0, 1.0, "t")
    wide = float(stats.t.ppf((1 + level) / 2, n - 1))
    p, method = 2 * float(stats.t.sf(abs(value) / error, n - 1)), "t"
    if n - np.unique(table, axis=0, return_counts=True)[1].max() >= FEW:
        drawn = resamples or int(np.clip(DRAWS // n, 1999, 9999))
        distances = _distances(table, statistic, seed, drawn)
        farthest = float(np.sort(distances)[min(drawn, math.ceil((drawn + 1) * level)) - 1])
        if math.isfinite(farthest):
            beyond = int((distances >= abs(value) / error * (1 - 1e-9)).sum())
            wide, p, method = farthest, (1 + beyond) / (1 + drawn), "bootstrap-t"
    return Estimate(value, n, error, value - wide * error, value + wide * error, p, method)


def _distances(rows: Floats, statistic: Statistic, seed: int, resamples: int) -> Floats:
    """(resamples,) |resample - whole| in standard errors of the resample; inf where that is 0."""
    n, whole = len(rows), float(statistic.value(rows.sum(axis=0)))
    rng, found = np.random.default_rng(seed), []
    size = max(1, BLOCK // max(rows.shape))
    for start in range(0, resamples, size):
        times = min(size, resamples - start)
        places = rng.integers(0, n, (times, n)) + n * np.arange(times)[:, None]
        drawn = np.bincount(places.ravel(), minlength=times * n).reshape(times, n).astype(float)
        sums = drawn @ rows  # (b, k)
        influence = statistic.gradient(sums) @ rows.T  # (b, n)
        mean = (drawn * influence).sum(axis=1) / n
        spread = (drawn * influence**2).sum(axis=1) - n * mean**2
        away = np.abs(statistic.value(sums) - whole)
        error = np.sqrt(np.maximum(spread, 0.0) * n / (n - 1))
        none = error <= 1e-9 * np.abs(influence).max(axis=1)
        away[none] = np.where(away[none] > 1e-12 * np.abs(whole), np.inf, 0.0)
        found.append(away / np.where(none, 1.0, error))
    return np.concatenate(found)

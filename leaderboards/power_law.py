"""How an error rate falls with the amount of data: `err(n) = c + b * n**-a`, with uncertainty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.errors import SSLBenchError

FARTHEST = 2.0  # a law is never read further out than this factor beyond its data
FLOOR_SIGMAS = 2.0  # a floor `c` nearer to zero than this many standard errors is none
_EXPONENTS = (1e-3, 30.0)  # where the exponent of a law with a floor is looked for
_GRID, _ROUNDS = 121, 6  # each round looks 60 times closer
_Z95 = 1.959964  # half the width of a 95 % interval in standard deviations

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """`err(n) = c + b * n**-a`, fitted on sizes from `smallest` to `largest`.

    `a_stderr`, `b_stderr`, `c_stderr` are standard errors (None where the data cannot tell: no
    intervals and no more points than coefficients; `c` fixed at zero has none). `distinct` counts
    the different sizes. `covariance` is that of the logarithm of `b * middle**-a`, of `a` and,
    where it was fitted, of `c`.
    """

    a: float
    b: float
    c: float
    a_stderr: float | None
    b_stderr: float | None
    c_stderr: float | None
    distinct: int
    smallest: float
    largest: float
    middle: float = 1.0
    covariance: tuple[tuple[float, ...], ...] | None = None

    def error(self, size: ArrayLike) -> Floats:
        """The error rate at `size` (any shape).

        Raises:
            SSLBenchError: a size is more than `FARTHEST` times beyond the fitted range.
        """
        n = np.asarray(size, dtype=np.float64)
        if n.size and (n.max() > FARTHEST * self.largest or n.min() < self.smallest / FARTHEST):
            raise SSLBenchError(
                f"the law was fitted on {self.smallest:g} to {self.largest:g} and is not read more "
                f"than {FARTHEST:g}x beyond: measure a point nearer to {n.max():g}"
            )
        return self.c + self.b * n**-self.a

    def band(self, size: ArrayLike) -> tuple[Floats, Floats] | None:
        """95 % band of the law at `size` (not of new points), to first order in the coefficients.

        None where the data cannot tell. Raises as `error` does.
        """
        if self.covariance is None:
            return None
        n, error = np.asarray(size, dtype=np.float64), self.error(size)
        falling = error - self.c
        slopes = [falling, -falling * np.log(n / self.middle), np.ones_like(error)]
        gradient = np.stack(slopes[: len(self.covariance)], axis=-1)  # (..., 2 or 3)
        variance = np.einsum("...i,ij,...j", gradient, np.asarray(self.covariance), gradient)
        half = _Z95 * np.sqrt(variance)
        return error - half, error + half

    def __str__(self) -> str:
        """`a = 0.104 ± 0.012, b = 1.92 ± 0.13`, with `c` where it was fitted."""
        fitted = [("a", self.a, self.a_stderr), ("b", self.b, self.b_stderr)]
        fitted += [("c", self.c, self.c_stderr)] if self.c_stderr is not None else []
        return ", ".join(f"{name} = {_rounded(value, spread)}" for name, value, spread in fitted)


def _rounded(value: float, spread: float | None) -> str:
    """`0.104 ± 0.012`: both to two digits of the spread, or three digits without one."""
    if spread is None or spread <= 0:
        return f"{value:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(spread)))
    return f"{value:.{decimals}f} ± {spread:.{decimals}f}"


def fit_power_law(
    sizes: Sequence[float],
    errors: Sequence[float],
    low: Sequence[float | None] | None = None,
    high: Sequence[float | None] | None = None,
) -> PowerLaw:
    """The law through the points, weighted by their 95 % intervals where all points have one.

    With three distinct sizes or fewer, `c = 0` and the fit is weighted least squares of
    `log(err)` on `log(n)`. With more, `c` in [0, smallest error) is fitted too, and kept when it is
    `FLOOR_SIGMAS` standard errors above zero; else it would only blur the exponent, and the law
    with `c = 0` is returned. Standard errors come from
    the intervals and are widened by `sqrt(chi2 / dof)` where the points scatter more than that.

    Raises:
        SSLBenchError: fewer than two distinct sizes, or an error rate that is not above zero.
    """
    n = np.asarray(sizes, dtype=np.float64)  # (p,)
    e = np.asarray(errors, dtype=np.float64)  # (p,)
    distinct = len(np.unique(n))
    if distinct < 2:
        raise SSLBenchError(f"a law needs two sizes or more, found {distinct}: add another size")
    if not (np.isfinite(e).all() and (e > 0).all() and (n > 0).all()):
        raise SSLBenchError(
            "a power law needs sizes and error rates above zero: leave out the rest"
        )
    sigma = _sigma(e, low, high)
    law = _log_log(n, e, sigma, distinct)
    if distinct > 3 and law.a > 0:
        return _with_floor(n, e, sigma) or law
    return law


def _sigma(
    e: Floats, low: Sequence[float | None] | None, high: Sequence[float | None] | None
) -> Floats | None:
    """Standard deviations of the error rates (p,), or None unless every point has an interval."""
    if low is None or high is None or any(end is None for end in [*low, *high]):
        return None
    width = np.abs(np.asarray(high, dtype=np.float64) - np.asarray(low, dtype=np.float64))
    return width / (2 * _Z95) if (width > 0).all() else None


def _log_log(n: Floats, e: Floats, sigma: Floats | None, distinct: int) -> PowerLaw:
    design = np.stack([np.ones_like(n), -np.log(n)], axis=1)  # (p, 2): log b, a
    weight = np.ones_like(e) if sigma is None else e / sigma  # 1 / sd of log(err)
    (log_b, a), covariance = _least_squares(design, np.log(e), weight, known=sigma is not None)
    b = math.exp(log_b)
    return PowerLaw(
        a=float(a),
        b=b,
        c=0.0,
        a_stderr=None if covariance is None else math.sqrt(covariance[1, 1]),
        b_stderr=None if covariance is None else b * math.sqrt(covariance[0, 0]),
        c_stderr=None,
        distinct=distinct,
        smallest=float(n.min()),
        largest=float(n.max()),
        covariance=_rows(covariance),
    )


def _rows(matrix: Floats | None) -> tuple[tuple[float, ...], ...] | None:
    return None if matrix is None else tuple(tuple(map(float, row)) for row in matrix)


def _least_squares(
    design: Floats, target: Floats, weight: Floats, known: bool
) -> tuple[Floats, Floats | None]:
    """Weighted coefficients (k,) and their covariance (k, k); `known`: weights are 1 / sigma."""
    x, y = design * weight[:, None], target * weight
    coefficients: Floats = np.linalg.lstsq(x, y, rcond=None)[0].astype(np.float64)
    freedom = len(y) - x.shape[1]
    scatter = float(np.sum((y - x @ coefficients) ** 2)) / freedom if freedom > 0 else None
    if scatter is None and not known:
        return coefficients, None
    scale = max(scatter or 0.0, 1.0) if known else scatter
    assert scale is not None
    covariance: Floats = np.linalg.inv(x.T @ x) * scale
    return coefficients, covariance


def _with_floor(n: Floats, e: Floats, sigma: Floats | None) -> PowerLaw | None:
    """The law with `c > 0`, or None when the data do not tell `c` from zero."""
    scale = np.ones_like(e) if sigma is None else sigma
    middle = float(np.exp(np.log(n).mean()))  # sizes around 1 keep the problem well conditioned
    ceiling = float(e.min())
    a, b_middle, c, squares = _best_floor(n / middle, e, 1 / scale**2, ceiling)
    if not 1e-3 * ceiling < c < (1 - 1e-3) * ceiling or not _EXPONENTS[0] < a < _EXPONENTS[1]:
        return None
    falling = b_middle * (n / middle) ** -a
    slopes = np.stack([falling, -falling * np.log(n / middle), np.ones_like(e)], axis=1)
    information = (slopes / scale[:, None]).T @ (slopes / scale[:, None])  # (3, 3)
    freedom = len(e) - 3  # at least one: there are four sizes or more
    if np.linalg.matrix_rank(information) < 3:
        return None
    chi2 = squares / freedom
    widened = chi2 if sigma is None else max(chi2, 1.0)
    covariance: Floats = np.linalg.inv(information).astype(np.float64) * widened
    if c < FLOOR_SIGMAS * math.sqrt(covariance[2, 2]):
        return None
    # b = b_middle * middle**a, so its error carries that of a.
    gradient = np.array([1.0, math.log(middle), 0.0])
    b = b_middle * middle**a
    return PowerLaw(
        a=a,
        b=b,
        c=c,
        a_stderr=math.sqrt(covariance[1, 1]),
        b_stderr=b * math.sqrt(gradient @ covariance @ gradient),
        c_stderr=math.sqrt(covariance[2, 2]),
        distinct=len(np.unique(n)),
        smallest=float(n.min()),
        largest=float(n.max()),
        middle=middle,
        covariance=_rows(covariance),
    )


def _best_floor(
    n: Floats, e: Floats, weight: Floats, ceiling: float
) -> tuple[float, float, float, float]:
    """(a, b, c, weighted sum of squares) of the best `c + b * n**-a` with c in [0, ceiling].

    For a given exponent the other two are a linear fit, so the search is over `a` alone: a grid
    that no local minimum can trap, refined around its best point.
    """
    low, high = _EXPONENTS
    for _ in range(_ROUNDS):
        a = np.geomspace(low, high, _GRID)  # (g,)
        u = n ** -a[:, None]  # (g, p)
        mean_u, mean_e = (u @ weight) / weight.sum(), (e @ weight) / weight.sum()
        apart = u - mean_u[:, None]
        spread = (apart**2) @ weight
        slope = (apart * (e - mean_e)) @ weight / np.where(spread > 0, spread, 1)
        c = np.clip(mean_e - slope * mean_u, 0, ceiling)
        b = np.maximum((u * (e - c[:, None])) @ weight / ((u**2) @ weight), np.finfo(float).tiny)
        squares = ((c[:, None] + b[:, None] * u - e) ** 2) @ weight
        best = int(squares.argmin())
        low, high = float(a[max(best - 1, 0)]), float(a[min(best + 1, _GRID - 1)])
    return float(a[best]), float(b[best]), float(c[best]), float(squares[best])

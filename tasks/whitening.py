"""PCA whitening of descriptors, learned on other images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.errors import DataError

Floats = npt.NDArray[np.float64]

#: Directions whose variance is below this share of the largest are noise or rounding.
FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class Whitening:
    """``(x - mean) @ turn``: uncorrelated columns of variance 1 on the images it was learned on."""

    mean: Floats  # (1, d)
    turn: Floats  # (d, r)

    @classmethod
    def learn(cls, x: npt.NDArray[np.floating]) -> Whitening:
        """From rows (n, d); at most n - 1 directions have a variance, and only those are kept."""
        if len(x) < 2:
            raise DataError(f"{len(x)} images are too few to learn a whitening; give hundreds")
        wide = np.asarray(x, dtype=np.float64)
        mean = wide.mean(0, keepdims=True)
        centred = wide - mean
        variance, directions = np.linalg.eigh(centred.T @ centred / (len(x) - 1))  # rising
        kept = variance > max(FLOOR * variance[-1], 0.0)
        if not kept.any():
            raise DataError(f"all {len(x)} images of the whitening set have the same features")
        return cls(mean, directions[:, kept] / np.sqrt(variance[kept]))

    def __call__(self, x: npt.NDArray[np.floating]) -> Floats:
        """Whitened rows (n, r)."""
        return (np.asarray(x, dtype=np.float64) - self.mean) @ self.turn

"""Closed-form ridge regression on one-hot labels, for many strengths at once, in float64.

The few-shot evaluator of big_vision (`fewshot_lsr`): features are standardised by the mean and
deviation of the shots, a constant of 100 stands for the bias (so large that it is hardly
regularised), targets are 1 for the class and -1 for all others, and the prediction is the largest
of the class regressions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BIAS = 100.0
EPSILON = 1e-5  # added to deviations
CHUNK = 4096  # images scored at once
ROUNDING = 1e-12  # the share of a shot that its own regression leaves open is above zero


@dataclass(frozen=True, eq=False)
class Ridge:
    """The eigenvectors that every strength shares; `fit` makes one.

    With fewer features than shots the normal equations are those of the features, else those of
    the shots; weights are `left @ diag(1 / (eigenvalue + l2)) @ right`.
    """

    mean: Floats  # (1, d)
    deviation: Floats  # (1, d)
    eigenvalues: Floats  # (r,)
    left: Floats  # (d + 1, r)
    right: Floats  # (r, c)
    shots: Floats  # (n, r): each shot in the eigenvectors' terms, for `leave_one_out`
    target: Floats  # (n, c) of -1 and 1
    by_shots: bool

    @classmethod
    def fit(cls, x: npt.NDArray[np.floating], labels: Ints, classes: int) -> Ridge:
        """Of the shots (n, d) and their classes (n,)."""
        wide = np.asarray(x, dtype=np.float64)
        mean, deviation = wide.mean(0, keepdims=True), wide.std(0, keepdims=True) + EPSILON
        design = _design(wide, mean, deviation)  # (n, d + 1)
        target = 2 * np.eye(classes)[labels] - 1  # (n, c)
        by_shots = len(design) < design.shape[1]
        gram = design @ design.T if by_shots else design.T @ design
        eigenvalues, vectors = np.linalg.eigh(gram)
        eigenvalues = np.maximum(eigenvalues, 0)  # rounding may leave a zero below
        if by_shots:
            left, right, shots = design.T @ vectors, vectors.T @ target, vectors
        else:
            left, right, shots = vectors, vectors.T @ (design.T @ target), design @ vectors
        return cls(mean, deviation, eigenvalues, left, right, shots, target, by_shots)

    def predict(self, x: npt.NDArray[np.floating], l2s: tuple[float, ...]) -> Ints:
        """Classes (len(l2s), n) of images (n, d) for every strength; of equals the lower class."""
        found = np.empty((len(l2s), len(x)), dtype=np.int64)
        for start in range(0, len(x), CHUNK):
            rows = slice(start, start + CHUNK)
            wide = np.asarray(x[rows], dtype=np.float64)
            turned = _design(wide, self.mean, self.deviation) @ self.left  # (b, r)
            for index, l2 in enumerate(l2s):
                scores = (turned / (self.eigenvalues + l2)) @ self.right  # (b, r) @ (r, c)
                found[index, rows] = scores.argmax(axis=1)
        return found

    def leave_one_out(self, l2: float) -> Floats:
        """Class regressions (n, c) of every shot by the ridge of all other shots, exactly.

        The mean and the deviation stay those of all shots; labels do not enter them.
        """
        inverse = 1 / (self.eigenvalues + l2)  # (r,)
        if self.by_shots:  # residual_i = (G y)_i / G_ii with G = (X X^T + l2)^-1
            residual = (self.shots * inverse) @ self.right
            own = (self.shots**2) @ inverse
        else:  # residual_i = (y - H y)_i / (1 - H_ii) with H = X (X^T X + l2)^-1 X^T
            residual = self.target - (self.shots * inverse) @ self.right
            own = np.maximum(1 - (self.shots**2) @ inverse, ROUNDING)
        return self.target - residual / own[:, None]


def _design(x: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Standardised features with the constant behind: (n, d) -> (n, d + 1)."""
    return np.pad((x - mean) / deviation, ((0, 0), (0, 1)), constant_values=BIAS)

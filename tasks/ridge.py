"""Closed-form ridge regression on one-hot labels, for many strengths at once, in float64.

The few-shot evaluator of big_vision (`fewshot_lsr`): features are standardised by the mean and
deviation of the shots, a constant of 100 stands for the bias (so large that it is hardly
regularised), targets are 1 for the class and -1 for all others, and the prediction is the largest
of the class regressions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BIAS = 100.0
EPSILON = 1e-5  # added to deviations
CHUNK = 4096  # images scored at once: 10 shots of iNaturalist's 8,142 classes would be 5 GB
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
    labels: Ints  # (n,)
    by_shots: bool

    @classmethod
    def fit(cls, x: npt.NDArray[np.floating], labels: Ints, classes: int) -> Ridge:
        """Of the shots (n, d) and their classes (n,)."""
        wide = np.asarray(x, dtype=np.float64)
        mean, deviation = wide.mean(0, keepdims=True), wide.std(0, keepdims=True) + EPSILON
        design = _design(wide, mean, deviation)  # (n, d + 1)
        by_shots = len(design) < design.shape[1]
        gram = design @ design.T if by_shots else design.T @ design
        eigenvalues, vectors = np.linalg.eigh(gram)
        eigenvalues = np.maximum(eigenvalues, 0)  # rounding may leave a zero below
        if by_shots:
            left, shots = design.T @ vectors, vectors
            right = vectors.T @ _signs(labels, classes)
        else:
            left, shots = vectors, design @ vectors
            moments = np.zeros((design.shape[1], classes))
            for rows in _chunks(len(design)):
                moments += design[rows].T @ _signs(labels[rows], classes)
            right = vectors.T @ moments
        return cls(mean, deviation, eigenvalues, left, right, shots, labels, by_shots)

    def predict(self, x: npt.NDArray[np.floating], l2s: tuple[float, ...]) -> Ints:
        """Classes (len(l2s), n) of images (n, d) for every strength; of equals the lower class."""
        found = np.empty((len(l2s), len(x)), dtype=np.int64)
        for rows in _chunks(len(x)):
            wide = np.asarray(x[rows], dtype=np.float64)
            turned = _design(wide, self.mean, self.deviation) @ self.left  # (b, r)
            for index, l2 in enumerate(l2s):
                scores = (turned / (self.eigenvalues + l2)) @ self.right  # (b, r) @ (r, c)
                found[index, rows] = scores.argmax(axis=1)
        return found

    def leave_one_out(self, l2: float, rows: slice = slice(None)) -> Floats:
        """Class regressions (b, c) of these shots, each by the ridge of all others, exactly.

        The mean and the deviation stay those of all shots; labels do not enter them.
        """
        inverse = 1 / (self.eigenvalues + l2)  # (r,)
        shots, target = self.shots[rows], self.target(rows)
        if self.by_shots:  # residual_i = (G y)_i / G_ii with G = (X X^T + l2)^-1
            residual = (shots * inverse) @ self.right
            own = (shots**2) @ inverse
        else:  # residual_i = (y - H y)_i / (1 - H_ii) with H = X (X^T X + l2)^-1 X^T
            residual = target - (shots * inverse) @ self.right
            own = np.maximum(1 - (shots**2) @ inverse, ROUNDING)
        return target - residual / own[:, None]

    def judged(self, l2: float, mask: npt.NDArray[np.bool_]) -> tuple[int, float]:
        """(how many of the shots in the mask (n,) all others tell right, the squared error)."""
        hits, error = 0, 0.0
        for rows in _chunks(len(mask)):
            scores = self.leave_one_out(l2, rows)[mask[rows]]
            hits += int((scores.argmax(axis=1) == self.labels[rows][mask[rows]]).sum())
            error += float(((scores - self.target(rows)[mask[rows]]) ** 2).sum())
        return hits, error

    def target(self, rows: slice = slice(None)) -> Floats:
        """(b, c): 1 for the class of a shot, -1 for all others."""
        return _signs(self.labels[rows], self.right.shape[1])


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, n, CHUNK))


def _signs(labels: Ints, classes: int) -> Floats:
    return np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)


def _design(x: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Standardised features with the constant behind: (n, d) -> (n, d + 1)."""
    return np.pad((x - mean) / deviation, ((0, 0), (0, 1)), constant_values=BIAS)

"""Accuracy from class scores, with a fixed order among equal scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOP = 5


def in_top5(
    target: npt.NDArray[np.int64], scores: npt.NDArray[np.floating]
) -> npt.NDArray[np.bool_]:
    """Whether each target (n,) is among the five best of its scores (n, classes).

    Equal scores are ordered by the lower class index, so the answer never depends on a sort.
    """
    own = np.take_along_axis(scores, target[:, None], axis=1)  # (n, 1)
    lower = np.arange(scores.shape[1]) < target[:, None]  # (n, classes)
    return ((scores > own) | ((scores == own) & lower)).sum(axis=1) < TOP

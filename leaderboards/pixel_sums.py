"""mIoU as a function of sums over images, so that two of them can be compared by resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.records import Outcome
from bench.resampling import Floats, Statistic

COUNTED = ("intersection", "predicted", "labelled")  # columns (n, classes) of pixels


@dataclass(frozen=True, eq=False)
class MeanIoU:
    """Mean over classes of intersection over union, from the three counts one after another.

    As in `miou` of the segmentation tasks, a class that no drawn image has keeps the value that it
    has in all images.

    Attributes:
        whole: (classes,) IoU in all images; NaN for classes that none has.
    """

    whole: Floats

    @classmethod
    def of(cls, rows: Floats) -> MeanIoU:
        """The statistic of images with the rows (n, 3 * classes)."""
        intersection, union = _counts(rows.sum(axis=0))
        return cls(np.where(union > 0, intersection / np.maximum(union, 1), np.nan))

    def value(self, sums: Floats) -> Floats:
        """(...,) means of sums (..., 3 * classes)."""
        intersection, union = _counts(sums)
        iou = np.where(union > 0, intersection / np.maximum(union, 1), self.whole)
        return np.asarray(np.nanmean(iou, axis=-1))

    def gradient(self, sums: Floats) -> Floats:
        """(..., 3 * classes) derivatives."""
        intersection, union = _counts(sums)
        there = union > 0
        scale = there / np.maximum(union, 1) / np.count_nonzero(~np.isnan(self.whole))
        iou = intersection / np.maximum(union, 1)
        return np.concatenate([(1 + iou) * scale, -iou * scale, -iou * scale], axis=-1)


@dataclass(frozen=True, eq=False)
class Contrast:
    """Mean of first minus second over pairs, from the sums of all of them one after another.

    Attributes:
        statistics: the first and the second of each pair, of equally many sums.
    """

    statistics: Sequence[Statistic]

    def value(self, sums: Floats) -> Floats:
        """(...,) mean differences of sums (..., k)."""
        return np.asarray(sum(weight * one.value(part) for weight, one, part in self._parts(sums)))

    def gradient(self, sums: Floats) -> Floats:
        """(..., k) derivatives."""
        return np.concatenate(
            [weight * one.gradient(part) for weight, one, part in self._parts(sums)], axis=-1
        )

    def _parts(self, sums: Floats) -> list[tuple[float, Statistic, Floats]]:
        count = len(self.statistics)
        weights = [2.0 / count, -2.0 / count] * (count // 2)
        parts = np.split(sums, count, axis=-1)
        return list(zip(weights, self.statistics, parts, strict=True))


def pixel_rows(outcome: Outcome) -> Floats | None:
    """(n, 3 * classes) counts of each image; None where the outcome has none."""
    columns = [outcome.columns.get(name) for name in COUNTED]
    found = [column for column in columns if column is not None and column.ndim == 2]
    if len(found) < len(COUNTED):
        return None
    return np.concatenate(found, axis=1).astype(np.float64)


def _counts(sums: Floats) -> tuple[Floats, Floats]:
    """Intersection and union (..., classes)."""
    intersection, predicted, labelled = np.split(sums, len(COUNTED), axis=-1)
    return intersection, predicted + labelled - intersection

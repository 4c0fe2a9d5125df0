"""mIoU and pixel accuracies from counts of pixels, kept for each image and class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.annotations import VOID, LabelMap
from bench.records import Metric
from bench.stats import bootstrap_metric

Counts = npt.NDArray[Any]  # whole numbers
Floats = npt.NDArray[np.float64]

COUNTED = ("intersection", "predicted", "labelled")


def pixel_counts(truth: LabelMap, prediction: LabelMap, classes: int) -> dict[str, Any]:
    """Pixels of one image that count, those without a true class left out.

    A prediction of `VOID` is no class: a pixel of its true class that is missed.

    Returns:
        `intersection`, `predicted` and `labelled`, each (classes,); `missed`, the pixels predicted
        as no class; `pixels`, all that count.
    """
    counts = truth != VOID
    true, found = truth[counts], prediction[counts]
    return {
        "intersection": _by_class(true[true == found], classes),
        "predicted": _by_class(found, classes),
        "labelled": _by_class(true, classes),
        "missed": np.int64((found == VOID).sum()),
        "pixels": np.int64(len(true)),
    }


def class_iou(intersection: Counts, predicted: Counts, labelled: Counts) -> Floats:
    """(..., classes) intersection over union; NaN for classes that neither side has."""
    return _ratio(intersection, predicted + labelled - intersection)


def class_accuracy(intersection: Counts, labelled: Counts) -> Floats:
    """(..., classes) share of a class's pixels that are found; NaN for classes without any."""
    return _ratio(intersection, labelled)


def mean(values: Floats) -> float:
    """The mean of what is not NaN; NaN where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def image_iou(columns: Mapping[str, Counts]) -> Floats:
    """(n,) mean IoU of each image over the classes that it has or is predicted to have.

    NaN where no pixel of an image counts. Their mean is another number than the mIoU.
    """
    rows = class_iou(*(columns[name] for name in COUNTED))  # (n, classes)
    return np.array([mean(row) for row in rows])


def segmentation_metrics(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, Metric]:
    """`miou`, `miou_void`, `macc` and `aacc` over all pixels, with a bootstrap over images.

    - `miou`: mean over classes of the IoU of all pixels together. A class counts where it is true
      or predicted for some pixel that counts: scikit-learn's macro average, and mmsegmentation's
      NaN mean. Classes of which there is neither have no IoU, not one of 0.
    - `miou_void`: the same with void as one more class, of IoU 0, where it was predicted for a
      pixel that counts. This is what CAPI's script prints.
    - `macc`: mean over true classes of the share of their pixels that are found.
    - `aacc`: share of all pixels that are found.

    In the bootstrap, a class that no drawn image has keeps its value of all images: were it left
    out, intervals would move up by the poor scores of rare classes.
    """
    # Sums of whole numbers below 2^53 are exact in float64, and a product is faster than drawing
    # the rows.
    packed = packed_counts(columns)[columns["labelled"].any(axis=1)].astype(np.float64)

    def of_images(by_class: Callable[[Floats], Floats]) -> Callable[[Counts], float]:
        whole = by_class(packed.sum(axis=0))

        def statistic(drawn: Counts) -> float:
            found = by_class(np.bincount(drawn, minlength=len(packed)) @ packed)
            return mean(np.where(np.isnan(found), whole, found))

        return statistic

    every = np.arange(len(packed))
    found = {"miou": _ious, "miou_void": _ious_with_void, "macc": _accuracies, "aacc": _accuracy}
    return {name: bootstrap_metric(every, of_images(f), seed=0) for name, f in found.items()}


def packed_counts(columns: Mapping[str, npt.NDArray[Any]]) -> Counts:
    """(n, 3 * classes + 1): the three counts of each image by class, then `missed`."""
    parts = [columns[name] for name in COUNTED] + [columns["missed"][:, None]]
    return np.concatenate(parts, axis=1)


def miou_void(total: Counts) -> float:
    """`miou_void` of a sum of rows of `packed_counts`; NaN where no pixel counts."""
    return mean(_ious_with_void(total))


def _ious(total: Counts) -> Floats:
    return class_iou(*_unpacked(total))


def _ious_with_void(total: Counts) -> Floats:
    return np.append(_ious(total), 0.0 if total[-1] else np.nan)


def _accuracies(total: Counts) -> Floats:
    intersection, _, labelled = _unpacked(total)
    return class_accuracy(intersection, labelled)


def _accuracy(total: Counts) -> Floats:
    intersection, _, labelled = _unpacked(total)
    return np.array([intersection.sum() / labelled.sum()])


def _unpacked(total: Counts) -> Counts:
    return total[:-1].reshape(len(COUNTED), -1)  # (3, classes)


def _by_class(labels: LabelMap, classes: int) -> Counts:
    return np.bincount(labels, minlength=VOID + 1)[:classes]


def _ratio(part: Counts, whole: Counts) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)

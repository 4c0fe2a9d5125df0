"""How well the masks of a video fit: region similarity J and contour accuracy F of DAVIS.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (CVPR
2016), and Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation" (2017). Void
pixels play no part in the semi-supervised challenge: they count as background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.annotations import VOID, LabelMap

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOLERANCE = 0.008  # of the image's diagonal: how far apart two contours still match
BINS = 4  # of the frames, for the decay


class Statistics(NamedTuple):
    """One object in one video: mean over frames, share of frames above 0.5, loss over time."""

    mean: float
    recall: float
    decay: float


def statistics(values: npt.ArrayLike) -> Statistics:
    """Mean, recall and decay of the values of one object in the frames that count, (t,).

    The decay is the mean of the first quarter of the frames less that of the last; neighbouring
    quarters share a frame.
    """
    frames = np.asarray(values, dtype=np.float64)
    edges = np.round(np.linspace(1, len(frames), BINS + 1) + 1e-10).astype(np.int64) - 1
    first, last = (frames[edges[i] : edges[i + 1] + 1] for i in (0, BINS - 1))
    recall = float((frames > 0.5).mean())
    return Statistics(float(frames.mean()), recall, float(first.mean() - last.mean()))


def frame_scores(
    prediction: LabelMap, truth: LabelMap, objects: Sequence[int]
) -> tuple[Floats, Floats]:
    """J and F, each (o,), of the objects of these numbers in one frame, from maps (h, w)."""
    pairs = []
    for number in objects:
        if number in (0, VOID):
            raise ValueError(f"object {number}: 0 is background and {VOID} void")
        pairs.append((prediction == number, truth == number))
    scores = [(region_similarity(*pair), contour_accuracy(*pair)) for pair in pairs]
    found = np.array(scores, dtype=np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def region_similarity(mask: Bools, truth: Bools) -> float:
    """J of two masks (h, w): intersection over union; 1 where both are empty."""
    union = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union if union else 1.0


def contour_accuracy(mask: Bools, truth: Bools) -> float:
    """F of two masks (h, w): harmonic mean of the shares of either contour near the other.

    Near is a distance of at most ceil(0.008 diagonals), 8 pixels at 480 x 854. Two empty contours
    score 1, an empty one against another 0. A mask of the whole image has no contour.
    """
    radius = math.ceil(TOLERANCE * float(np.linalg.norm(mask.shape)))
    box = _box(mask | truth)
    ours, theirs = contour(mask[box]), contour(truth[box])
    counts = int(np.count_nonzero(ours)), int(np.count_nonzero(theirs))
    if not all(counts):
        return float(not any(counts))
    precision = _near(ours, theirs, radius) / counts[0]
    recall = _near(theirs, ours, radius) / counts[1]
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def contour(mask: Bools) -> Bools:
    """(h, w) pixels that differ from their right, lower or lower right neighbour.

    In the last row only the right and in the last column only the lower neighbour counts, and the
    last pixel has none.
    """
    found = np.zeros_like(mask)
    right, lower = mask[:, :-1] ^ mask[:, 1:], mask[:-1] ^ mask[1:]  # (h, w - 1), (h - 1, w)
    found[:, :-1] = right
    found[:-1] |= lower
    found[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return found


def _box(mask: Bools) -> tuple[slice, slice]:
    """The part of the image outside of which no contour can be: all around it one pixel more."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    return slice(top, int(rows[-1]) + 2), slice(left, int(columns[-1]) + 2)


def _near(contour: Bools, other: Bools, radius: int) -> int:
    """How many pixels of a contour lie at most `radius` from one of the other, which has some.

    A disk is a stack of runs, and one holds a pixel of a sorted list if the first one that is not
    before its start is not behind its end. What is found near leaves, so most of the disk is asked
    of few pixels; no dilated image is made.
    """
    width = contour.shape[1] + 2 * radius + 1  # so that runs stay in their row
    places, asked = (_places(each, width) for each in (contour, other))
    end = np.append(asked, np.iinfo(np.int64).max)
    left = places
    for shift in sorted(range(-radius, radius + 1), key=abs):
        half = math.isqrt(radius**2 - shift**2)  # x^2 + y^2 <= r^2
        start = left + (shift * width - half)
        left = left[end[np.searchsorted(asked, start)] > start + 2 * half]
        if not len(left):
            break
    return len(places) - len(left)


def _places(contour: Bools, width: int) -> Ints:
    """Rising indices of the pixels in an image of this width."""
    y, x = np.divmod(np.flatnonzero(contour), contour.shape[1])
    return y * width + x

"""Labels of patches: the pixels of each, the shares of its classes, and which are remembered."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.annotations import VOID, LabelMap
from tasks.segknn_protocols import Void, Vote

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Blocks = npt.NDArray[np.uint8]  # (patches, pixels of a patch), both row by row


def blocks(labels: LabelMap, patch: int) -> Blocks:
    """(g * g, patch * patch) pixels of each patch of square labels (s, s), s = g * patch."""
    grid = len(labels) // patch
    cut = labels.reshape(grid, patch, grid, patch).swapaxes(1, 2)
    return np.ascontiguousarray(cut.reshape(grid * grid, patch * patch))


def joined(pixels: Blocks, patch: int) -> LabelMap:
    """(s, s): the inverse of `blocks`."""
    grid = math.isqrt(len(pixels))
    cut = pixels.reshape(grid, grid, patch, patch).swapaxes(1, 2)
    return np.ascontiguousarray(cut.reshape(grid * patch, grid * patch))


def class_counts(pixels: Blocks, classes: int) -> npt.NDArray[np.int16]:
    """(patches, classes + 1) pixels of each class in each patch; the last column counts void."""
    columns = np.minimum(pixels, classes) + np.arange(len(pixels))[:, None] * (classes + 1)
    counts = np.bincount(columns.ravel(), minlength=len(pixels) * (classes + 1))
    return counts.reshape(len(pixels), classes + 1).astype(np.int16)


def taken(labels: LabelMap, void: Void) -> LabelMap:
    """Labels as a memory takes them: with void `first`, 0 is void and class c is c + 1."""
    if void == "first":
        return labels + np.uint8(1)  # VOID, which is 255, becomes 0
    return np.where(labels == VOID, 0, labels).astype(np.uint8) if void == "zero" else labels


def given(labels: LabelMap, void: Void) -> LabelMap:
    """Labels as a memory gives them: the inverse of `taken`, but for void as class `zero`."""
    return labels - np.uint8(1) if void == "first" else labels


def remembered(pixels: Blocks, classes: int, vote: Vote, void: Void) -> tuple[Any, Bools]:
    """What a memory keeps of each patch, (patches, width), and which patches it takes (patches,).

    Pixels vote with their labels: patches that are void for the most part are left out. Shares
    vote softly as counts of pixels: patches without any class are left out where void has no vote.
    `pixels` are labels that were `taken`.
    """
    counts = _columns(pixels, classes, void)
    if vote == "pixels":
        largest = counts.argmax(axis=1)  # numpy: the first of equals
        return pixels, largest != (0 if void == "first" else classes)
    if void in ("vote", "first"):
        return counts, np.ones(len(counts), dtype=np.bool_)
    return counts[:, :classes], np.asarray(counts[:, :classes].any(axis=1), dtype=np.bool_)


def rare_first(
    pixels: Blocks, classes: int, void: Void, most: int, rng: np.random.Generator
) -> Rows:
    """At most so many patches of an image, rising, those of rare classes more likely.

    A patch's score is the number of the image's patches that share a class with it, summed over its
    classes, times a uniform number; the smallest are taken (Balazevic et al., 2023, and
    open-hummingbird-eval). Void is a class like others where it votes; else patches of nothing else
    are never taken.
    """
    present = _columns(pixels, classes, void) > 0  # (p, classes + 1)
    if void in ("skip", "zero"):
        present = present[:, :classes]
    frequency = present.sum(axis=0)  # (c,) patches that hold each class
    score = (present @ frequency) * rng.random(len(present))  # (p,)
    open_rows = np.flatnonzero(present.any(axis=1))
    order = np.argsort(score[open_rows], kind="stable")
    return np.sort(open_rows[order[:most]])


def _columns(pixels: Blocks, classes: int, void: Void) -> npt.NDArray[np.int16]:
    """(patches, classes + 1) counts of labels that were `taken`: void is the last, or the first."""
    counts = class_counts(pixels, classes + 1 if void == "first" else classes)
    return counts[:, : classes + 1]

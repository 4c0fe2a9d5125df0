"""Masks cut from maps of patches, and how well the best of them covers each annotated region."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.annotations import VOID, LabelMap

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def kept_cells(maps: Floats, mass: float) -> Bools:
    """(n, h, w) cells of each map (n, h, w) >= 0 that remain when the smallest are dropped.

    Cells are dropped from the smallest on while together they hold no more than 1 - `mass` of the
    map's sum; of equal ones the first in reading order goes first. A map of zeros keeps nothing.
    Shares are summed in float64 (DINO's visualize_attention.py sums in float32).
    """
    n, h, w = maps.shape
    flat = maps.reshape(n, h * w).astype(np.float64)
    order = flat.argsort(axis=1, kind="stable")
    rising = np.take_along_axis(flat, order, axis=1)
    total = rising.sum(axis=1, keepdims=True)
    shares = np.cumsum(rising / np.where(total > 0, total, 1.0), axis=1)
    kept = np.zeros(flat.shape, dtype=np.bool_)
    np.put_along_axis(kept, order, shares > 1 - mass, axis=1)
    return kept.reshape(maps.shape)


def best_ious(
    masks: Bools, labels: LabelMap, patch: int, background: int | None, void_counts: bool
) -> Floats:
    """(r,) the largest |m and o| / |m or o| over the masks m, for each region o of the labels.

    Args:
        masks: (n, h, w), one cell a patch; without masks every region has 0.
        labels: (h * patch, w * patch); every value but `VOID` and `background` is a region.
        patch: side of a cell in pixels.
        background: label that is no region; None where all are.
        void_counts: whether void pixels count as outside of all regions, as in the public scripts,
            instead of not at all.

    Pixels are counted once for each cell, so that no mask is enlarged: (n, h*w) @ (h*w, r).
    """
    h, w = masks.shape[1:]
    counts = _pixels(labels, patch, (h, w))  # (h*w, 256)
    sizes = counts.sum(axis=0)  # (256,)
    regions = [v for v in np.flatnonzero(sizes).tolist() if v not in (VOID, background)]
    if not len(masks) or not regions:
        return np.zeros(len(regions))
    cells = masks.reshape(len(masks), h * w).astype(np.float64)  # (n, h*w)
    both = cells @ counts[:, regions]  # (n, h*w) @ (h*w, r) -> (n, r)
    weights = counts.sum(axis=1) - (0 if void_counts else counts[:, VOID])  # (h*w,)
    either = (cells @ weights)[:, None] + sizes[regions] - both
    best: Floats = (both / either).max(axis=0)
    return best


def _pixels(labels: LabelMap, patch: int, grid: tuple[int, int]) -> Floats:
    """(h*w, 256) how many pixels of each label lie in each cell."""
    h, w = grid
    cell = np.arange(h * w).reshape(h, w).repeat(patch, axis=0).repeat(patch, axis=1)
    counts = np.bincount((cell * 256 + labels).ravel(), minlength=h * w * 256)
    return counts.reshape(h * w, 256).astype(np.float64)

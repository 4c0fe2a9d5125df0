"""Crop geometry: where a view came from, and what follows from that.

A crop is a box ``(x0, y0, x1, y1)`` in fractions of the source image plus a flip bit. Everything
that a loss needs to relate two views (overlap, patch correspondence, relative boxes) is derived
from those two.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from bench.transforms import crop_box

Box = tuple[int, int, int, int]  # left, top, right, bottom in source pixels


def overlapping_crop(
    rng: np.random.Generator,
    size: tuple[int, int],
    area: tuple[float, float],
    ratio: tuple[float, float],
    others: Sequence[Box],
    least: float,
    tries: int = 10,
) -> Box:
    """A random crop of which at least ``least`` of its own area lies in each of ``others``.

    After ``tries`` draws an unconditioned crop is returned, as SlotMIM's transform does; losses
    must therefore cope with pairs that do not overlap.
    """
    for _ in range(tries):
        box = crop_box(size, rng, area, ratio)
        own = (box[2] - box[0]) * (box[3] - box[1])
        if all(intersection(box, other) >= least * own for other in others):
            return box
    return crop_box(size, rng, area, ratio)


def intersection(a: Box, b: Box) -> int:
    """Common area of two boxes, in pixels."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0)


def relative_box(source: Tensor, target: Tensor) -> Tensor:
    """``target`` in the frame of ``source``, where ``source`` is the unit square.

    Args:
        source: (..., 4) boxes x0, y0, x1, y1.
        target: (..., 4) boxes in the same frame as ``source``.

    Returns:
        (..., 4); values outside [0, 1] lie outside the source crop. Flips are not applied.
    """
    origin = source[..., [0, 1, 0, 1]]
    size = (source[..., 2:] - source[..., :2])[..., [0, 1, 0, 1]]
    return (target - origin) / size


def mirror(boxes: Tensor, flipped: Tensor) -> Tensor:
    """Boxes in a crop's own frame after the crop was mirrored where ``flipped``.

    Args:
        boxes: (..., 4) in the frame of the unflipped crop.
        flipped: (...) bool.
    """
    turned = torch.stack((1 - boxes[..., 2], boxes[..., 1], 1 - boxes[..., 0], boxes[..., 3]), -1)
    return torch.where(flipped[..., None], turned, boxes)


def overlap_boxes(
    a: Tensor, b: Tensor, flip_a: Tensor, flip_b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The common region of two crops, in the frame of each of them as seen (mirrored if flipped).

    Args:
        a: (n, 4) source boxes of the first view; ``b`` likewise.
        b: (n, 4) source boxes of the second view.
        flip_a: (n,) bool; ``flip_b`` likewise.
        flip_b: (n,) bool.

    Returns:
        box in ``a`` (n, 4), box in ``b`` (n, 4), and (n,) bool: whether the crops overlap at all.
        Boxes of pairs that do not overlap are meaningless and must not be used.
    """
    low = torch.maximum(a[:, :2], b[:, :2])
    high = torch.minimum(a[:, 2:], b[:, 2:])
    common = torch.cat((low, high), -1)  # (n, 4)
    valid = (high > low).all(-1)
    return (
        mirror(relative_box(a, common), flip_a),
        mirror(relative_box(b, common), flip_b),
        valid,
    )


def align(scores: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
    """Score maps resampled over a box of the crop and turned back where the crop was mirrored.

    Args:
        scores: (b, n, K) on a square grid.
        boxes: (b, 4) in fractions of the crop as seen.
        flipped: (b,) bool.

    Returns:
        (b, n, K) on the same grid, covering the box.
    """
    b, n, k = scores.shape
    grid = int(n**0.5)
    maps = scores.transpose(1, 2).reshape(b, k, grid, grid)
    rois = torch.cat((torch.arange(b, device=boxes.device)[:, None].to(boxes), boxes * grid), 1)
    maps = roi_align(maps, rois, (grid, grid), aligned=True)
    maps = torch.where(flipped[:, None, None, None], maps.flip(-1), maps)
    return maps.flatten(2).transpose(1, 2)


def patch_map(
    query: Tensor,
    reference: Tensor,
    flip_query: Tensor,
    flip_reference: Tensor,
    grid: int,
    ref_grid: int,
) -> Tensor:
    """For each query patch, the reference patch under its centre, or -1 when there is none.

    Args:
        query: (n, 4) source boxes of the query views.
        reference: (n, 4) source boxes of the reference views.
        flip_query: (n,) bool.
        flip_reference: (n,) bool.
        grid: query patches per side.
        ref_grid: reference patches per side.

    Returns:
        (n, grid * grid) int64 in raster order. This is LOCA's correspondence h in closed form.
    """
    centre = (torch.arange(grid, device=query.device, dtype=query.dtype) + 0.5) / grid
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    x = torch.where(flip_query[:, None], 1 - x.flatten(), x.flatten())  # (n, g*g)
    y = y.flatten().expand_as(x)
    size = query[:, 2:] - query[:, :2]
    source_x = query[:, :1] + x * size[:, :1]
    source_y = query[:, 1:2] + y * size[:, 1:]
    ref_size = reference[:, 2:] - reference[:, :2]
    u = (source_x - reference[:, :1]) / ref_size[:, :1]
    v = (source_y - reference[:, 1:2]) / ref_size[:, 1:]
    u = torch.where(flip_reference[:, None], 1 - u, u)
    inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    column = (u * ref_grid).long().clamp(0, ref_grid - 1)
    row = (v * ref_grid).long().clamp(0, ref_grid - 1)
    return torch.where(inside, row * ref_grid + column, -1)

"""Soft, muted backgrounds that tell nothing about the class."""

from __future__ import annotations

import numpy as np

from bench.data.mini.materials import MATERIALS, RGB_FROM_YUV, Floats, Part, photograph

LUMA = (0.4, 0.6)
CHROMA = 0.05  # largest distance from grey


def mean_colours(n: int, rng: np.random.Generator) -> Floats:
    """Muted colours (n, 3) in luma and chroma."""
    luma = rng.uniform(*LUMA, n)
    radius, hue = CHROMA * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    return np.stack([luma, radius * np.cos(hue), radius * np.sin(hue)], 1)


def backgrounds(
    n: int, side_px: int, part: Part, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Soft, low-contrast grounds (n, side, side, 3) in RGB, and their mean colours (n, 3) in YUV.

    Each is a very blurred piece of a photograph of any class: seven points across, interpolated.
    """
    coarse = 7
    values = np.empty((n, coarse, coarse, 3))
    source = rng.integers(0, len(MATERIALS), n)
    place = rng.random((n, 2))
    for index in np.unique(source):
        boxes = MATERIALS[index].boxes(part)
        x0, y0, x1, y1 = boxes[0]
        piece = photograph(MATERIALS[index].photo)[y0:y1, x0:x1]
        rows = np.flatnonzero(source == index)
        values[rows] = _blurred(piece, place[rows], coarse)
    values -= values.mean((1, 2), keepdims=True)
    values /= values[..., :1].std((1, 2), keepdims=True) + 0.02
    mean = mean_colours(n, rng)
    yuv = mean[:, None, None] + rng.uniform(0.02, 0.07, (n, 1, 1, 1)) * np.clip(values, -2, 2)
    spread = _spread(coarse, side_px)  # (side, coarse)
    smooth = np.einsum("ia,nabc,jb->nijc", spread, yuv, spread, optimize=True)
    return np.clip(smooth @ RGB_FROM_YUV.T, 0, 1), mean


def _blurred(piece: Floats, place: Floats, coarse: int) -> Floats:
    """``coarse`` x ``coarse`` block means (n, coarse, coarse, 3) of squares inside the piece."""
    height, width = piece.shape[:2]
    block = min(height, width) * 2 // (3 * coarse)
    total = np.zeros((height + 1, width + 1, 3), np.float64)
    total[1:, 1:] = piece.cumsum(0, dtype=np.float64).cumsum(1)
    y = (place[:, 0] * (height - coarse * block)).astype(np.int64)[:, None, None]
    x = (place[:, 1] * (width - coarse * block)).astype(np.int64)[:, None, None]
    edges = np.arange(coarse + 1) * block
    corner = total[y + edges[:, None], x + edges[None, :]]  # (n, coarse + 1, coarse + 1, 3)
    sums = corner[:, 1:, 1:] - corner[:, :-1, 1:] - corner[:, 1:, :-1] + corner[:, :-1, :-1]
    return np.asarray(sums / block**2)


def _spread(coarse: int, side_px: int) -> Floats:
    """Smooth interpolation weights (side, coarse): a Gaussian around each coarse point."""
    points = (np.arange(coarse) + 0.5) / coarse
    pixels = (np.arange(side_px) + 0.5) / side_px
    weights = np.exp(-0.5 * ((pixels[:, None] - points) * coarse / 0.7) ** 2)
    return np.asarray(weights / weights.sum(1, keepdims=True))

"""Outlines of masks as COCO polygons.

The outlines run along the borders of pixels, so filling them gives back exactly the mask that they
were traced from, and the area inside them is its number of pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Point = tuple[int, int]  # x, y of a pixel corner


def polygons(mask: Mask) -> list[list[int]]:
    """Outlines ``[x0, y0, x1, y1, ...]`` whose union is the mask (h, w), in reading order.

    COCO polygons know no holes: a piece with a hole is cut in two through the hole.
    """
    labels, _ = ndimage.label(mask)
    out: list[list[int]] = []
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        piece = labels[window] == number
        out += _piece(piece, window[1].start, window[0].start)
    return out


def _piece(piece: Mask, left: int, top: int) -> list[list[int]]:
    """Outlines of one 4-connected piece whose window starts at (left, top)."""
    hole = ndimage.binary_fill_holes(piece) & ~piece
    if not hole.any():
        return [[v for x, y in _outline(piece) for v in (x + left, y + top)]]
    # Through the middle of the holes' columns: both halves have fewer holes than the whole.
    columns = np.flatnonzero(hole.any(0))
    cut = int(columns[len(columns) // 2])
    first, second = piece.copy(), piece.copy()
    first[:, cut:] = False
    second[:, :cut] = False
    return [
        [v + (left if i % 2 == 0 else top) for i, v in enumerate(polygon)]
        for half in (first, second)
        for polygon in polygons(half)
    ]


def _outline(piece: Mask) -> list[Point]:
    """Corners of the border of a piece without holes, clockwise from its first pixel.

    No two pixels of such a piece touch at a corner only (one of the two pixels beside them would
    be a hole), so exactly one way leads on from every corner.
    """
    padded = np.pad(piece, 1)
    way: dict[Point, Point] = {}  # corner -> direction, with the inside on the right
    for beside, (ox, oy), direction in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # top side, to the right
        (padded[1:-1, 2:], (1, 0), (0, 1)),  # right side, down
        (padded[2:, 1:-1], (1, 1), (-1, 0)),  # bottom side, to the left
        (padded[1:-1, :-2], (0, 1), (0, -1)),  # left side, up
    ):
        y, x = np.nonzero(piece & ~beside)
        way.update(((int(a) + ox, int(b) + oy), direction) for a, b in zip(x, y, strict=True))
    first = (int(np.argmax(piece[0])), 0)  # the window is tight: its first row is not empty
    corners: list[Point] = []
    corner, last = first, (0, -1)
    while not (corners and corner == first):
        if way[corner] != last:
            corners.append(corner)
            last = way[corner]
        corner = (corner[0] + last[0], corner[1] + last[1])
    return corners

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

# With the inside on the right hand (y down): the way to go on, sharpest right turn first.
_RIGHT_FIRST: dict[Point, tuple[Point, Point, Point]] = {
    (1, 0): ((0, 1), (1, 0), (0, -1)),
    (0, 1): ((-1, 0), (0, 1), (1, 0)),
    (-1, 0): ((0, -1), (-1, 0), (0, 1)),
    (0, -1): ((1, 0), (0, -1), (-1, 0)),
}


def polygons(mask: Mask) -> list[list[int]]:
    """Outlines ``[x0, y0, x1, y1, ...]`` whose union is the mask (h, w), in reading order.

    COCO polygons know no holes: a piece with a hole is cut in two through the hole.
    """
    labels, found = ndimage.label(mask)
    out: list[list[int]] = []
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        piece = labels[window] == number
        out += _piece(piece, window[1].start, window[0].start)
    assert found == 0 or out
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
    """Corners of the border of a piece without holes, clockwise from its first pixel."""
    padded = np.pad(piece, 1)
    inside = padded[1:-1, 1:-1]
    edges: set[tuple[Point, Point]] = set()  # (corner, direction), the inside on the right
    for shifted, (ox, oy), direction in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # top side, to the right
        (padded[1:-1, 2:], (1, 0), (0, 1)),  # right side, down
        (padded[2:, 1:-1], (1, 1), (-1, 0)),  # bottom side, to the left
        (padded[1:-1, :-2], (0, 1), (0, -1)),  # left side, up
    ):
        y, x = np.nonzero(inside & ~shifted)
        edges.update(((int(a) + ox, int(b) + oy), direction) for a, b in zip(x, y, strict=True))
    first = (int(np.argmax(piece[0])), 0)  # the window is tight: its first row is not empty
    corner, direction = first, (1, 0)
    corners: list[Point] = [first]
    while True:
        corner = (corner[0] + direction[0], corner[1] + direction[1])
        turned = next(d for d in _RIGHT_FIRST[direction] if (corner, d) in edges)
        if corner == first and turned == (1, 0):
            return corners
        if turned != direction:
            corners.append(corner)
            direction = turned

"""Cut materials out in the shapes of digits and lay them on soft backgrounds, many at a time.

Place, size, turn, digit and background are drawn independently of the class: only the material's
own look tells it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.grounds import backgrounds
from bench.data.mini.materials import RGB_FROM_YUV, Floats, Ints, Part
from bench.data.mini.shapes import GRID, shapes
from bench.data.mini.surface import JITTER, Jitter, Pieces, bilinear, pieces, recoloured, surface

AREA = (0.36, 0.48)  # share of the image that a single object covers


@dataclass(frozen=True)
class Objects:
    """A table of objects to draw; every column has one row per object. Lengths in pixels."""

    material: Ints
    shape: Ints  # row in shapes(part)
    x: Floats  # centre of the tight box
    y: Floats
    scale: Floats  # pixels per side of a distance map
    angle: Floats  # turn of the shape, radians

    def __len__(self) -> int:
        return len(self.material)


@dataclass(frozen=True)
class Drawn:
    """Square cut-outs of objects: opacity (n, t, t), colour (n, t, t, 3), and their corners."""

    opacity: Floats
    colour: Floats
    left: Ints  # x of the first column of the cut-out, may be negative
    top: Ints


def draw(
    objects: Objects,
    part: Part,
    side_px: int,
    tile_px: int,
    ground: Floats,
    rng: np.random.Generator,
    cut: Pieces | None = None,
    jitter: Jitter = JITTER,
) -> Drawn:
    """Render each object into a tile of its own.

    ``side_px`` is the image's side (it fixes how much photograph an object shows), ``ground``
    (n, 3) the mean background colour in luma and chroma that each object has to stand out from.
    Without ``cut`` the pieces of photograph are random.
    """
    left = np.floor(objects.x - tile_px / 2 + 0.5).astype(np.int64)
    top = np.floor(objects.y - tile_px / 2 + 0.5).astype(np.int64)
    steps = np.arange(tile_px) + 0.5
    dx = left[:, None] + steps - objects.x[:, None]  # (n, t) from the object's centre
    dy = top[:, None] + steps - objects.y[:, None]
    opacity = _opacity(objects, part, dx, dy)
    if cut is None:
        cut = pieces(len(objects), rng, jitter)
    yuv = surface(objects.material, part, side_px, dx, dy, cut)  # (n, t, t, 3)
    yuv = recoloured(yuv, opacity, ground, rng, jitter)
    return Drawn(opacity, np.clip(yuv @ RGB_FROM_YUV.T, 0, 1), left, top)


def _opacity(objects: Objects, part: Part, dx: Floats, dy: Floats) -> Floats:
    """Antialiased coverage (n, t, t) of the shapes."""
    all_shapes = shapes(part)
    cos, sin = np.cos(objects.angle)[:, None, None], np.sin(objects.angle)[:, None, None]
    scale = objects.scale[:, None, None]
    centre = all_shapes.centre[objects.shape]  # (n, 2)
    # Image to map: turn back, then scale; the map's middle is at 0.
    u = (cos * dx[:, None, :] + sin * dy[:, :, None]) / scale + centre[:, 0, None, None]
    v = (-sin * dx[:, None, :] + cos * dy[:, :, None]) / scale + centre[:, 1, None, None]
    columns, rows = (u + 0.5) * GRID - 0.5, (v + 0.5) * GRID - 0.5
    maps = all_shapes.distance
    distance = bilinear(maps, objects.shape[:, None, None], rows, columns)  # in map sides
    outside = (np.abs(u) > 0.5) | (np.abs(v) > 0.5)
    coverage = np.clip(distance * scale + 0.5, 0, 1)
    return np.asarray(np.where(outside, 0.0, coverage))


def paste(canvas: Floats, image: Ints, drawn: Drawn) -> NDArray[np.bool_]:
    """Lay one object per listed image on ``canvas`` (N, h, w, 3) in place; masks (n, h, w)."""
    height, width = canvas.shape[1:3]
    n, tile = drawn.opacity.shape[:2]
    rows = drawn.top[:, None] + np.arange(tile)  # (n, t)
    columns = drawn.left[:, None] + np.arange(tile)
    rows_in, columns_in = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    inside = rows_in[:, :, None] & columns_in[:, None, :]
    which, r, c = np.nonzero(inside & (drawn.opacity > 0))
    y, x, at = rows[which, r], columns[which, c], image[which]
    opacity = drawn.opacity[which, r, c][:, None]
    canvas[at, y, x] = canvas[at, y, x] * (1 - opacity) + drawn.colour[which, r, c] * opacity
    masks = np.zeros((n, height, width), np.bool_)
    masks[which, y, x] = opacity[:, 0] > 0.5
    return masks


def to_bytes(canvas: Floats) -> NDArray[np.uint8]:
    """8-bit pixels of floats in 0..1."""
    return np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)


def single(classes: Ints, part: Part, side_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Object-centric images (n, side, side, 3): one large object of each given material."""
    n = len(classes)
    chosen = rng.integers(0, len(shapes(part)), n)
    angle = rng.uniform(-0.3, 0.3, n)
    scale, half = fit(chosen, angle, rng.uniform(*AREA, n), 0.97, part, side_px)
    room = (side_px / 2 - half).clip(0)  # (n, 2)
    centre = side_px / 2 + rng.uniform(-1, 1, (n, 2)) * room
    objects = Objects(classes, chosen, centre[:, 0], centre[:, 1], scale, angle)
    canvas, ground = backgrounds(n, side_px, part, rng)
    paste(canvas, np.arange(n), draw(objects, part, side_px, side_px + 2, ground, rng))
    return to_bytes(canvas)


def fit(
    chosen: Ints, angle: Floats, area: Floats, longest: float, part: Part, side_px: int
) -> tuple[Floats, Floats]:
    """Scales (n,) that give each shape its share ``area`` of the image, and half boxes (n, 2).

    A thin shape that would grow longer than ``longest`` image sides stays smaller instead.
    """
    turned = turned_half(chosen, angle, part)
    scale = side_px * np.sqrt(area / shapes(part).area[chosen])
    scale = np.minimum(scale, longest * side_px / (2 * turned.max(1)))
    return scale, turned * scale[:, None]


def turned_half(chosen: Ints, angle: Floats, part: Part) -> Floats:
    """Half width and half height (n, 2) of turned shapes' boxes, in map sides."""
    half = shapes(part).half[chosen].astype(np.float64)  # (n, 2)
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    return np.stack([half[:, 0] * cos + half[:, 1] * sin, half[:, 0] * sin + half[:, 1] * cos], 1)


def tile_for(objects: Objects, part: Part) -> int:
    """Side of a tile that holds any of the objects, however turned."""
    if not len(objects):
        return 2
    half = np.linalg.norm(shapes(part).half[objects.shape], axis=1) * objects.scale
    return 2 * int(np.ceil(half.max())) + 4

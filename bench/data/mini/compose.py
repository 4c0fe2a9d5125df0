"""Cut materials out in the shapes of digits and lay them on soft backgrounds, many at a time.

What must not tell the class is drawn independently of it: place, size, turn, digit, background,
and the mean colour of the object (the photograph's own mean is taken out before a random one is
put in). What tells it is the fine structure of the photograph.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.grounds import backgrounds, stand_out
from bench.data.mini.materials import (
    LEVELS,
    MATERIALS,
    RGB_FROM_YUV,
    Floats,
    Part,
    Texture,
    textures,
)
from bench.data.mini.shapes import GRID, shapes

Ints = NDArray[np.int64]


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

    def take(self, rows: Ints) -> Objects:
        return Objects(*(getattr(self, field.name)[rows] for field in fields(self)))


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
) -> Drawn:
    """Render each object into a tile of its own.

    ``side_px`` is the image's side (it fixes how much photograph an object shows), ``ground``
    (n, 3) the mean background colour in luma and chroma that each object has to stand out from.
    """
    n = len(objects)
    left = np.floor(objects.x - tile_px / 2 + 0.5).astype(np.int64)
    top = np.floor(objects.y - tile_px / 2 + 0.5).astype(np.int64)
    steps = np.arange(tile_px, dtype=np.float32) + 0.5
    dx = left[:, None] + steps - objects.x[:, None]  # (n, t) from the object's centre
    dy = top[:, None] + steps - objects.y[:, None]
    opacity = _opacity(objects, part, dx, dy)
    yuv = _surface(objects, part, side_px, dx, dy, opacity, rng)  # (n, t, t, 3), mean 0, std 1
    contrast = rng.uniform(0.11, 0.2, (n, 1, 1, 1)).astype(np.float32)
    yuv = stand_out(ground, rng)[:, None, None] + contrast * np.clip(yuv, -2.5, 2.5)
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
    distance = _bilinear(maps, objects.shape[:, None, None], rows, columns)  # in map sides
    outside = (np.abs(u) > 0.5) | (np.abs(v) > 0.5)
    coverage = np.clip(distance * scale + 0.5, 0, 1)
    return np.where(outside, np.float32(0), coverage).astype(np.float32)


def _bilinear(maps: Floats, which: Ints, rows: Floats, columns: Floats) -> Floats:
    """Values of ``maps[which]`` at fractional places, borders repeated."""
    height, width = maps.shape[1:3]
    rows = np.clip(rows, 0, height - 1.001)
    columns = np.clip(columns, 0, width - 1.001)
    r, c = rows.astype(np.int64), columns.astype(np.int64)
    fr, fc = (rows - r).astype(np.float32), (columns - c).astype(np.float32)
    if maps.ndim == 4:  # the last axis is colour
        fr, fc = fr[..., None], fc[..., None]
    upper = maps[which, r, c] * (1 - fc) + maps[which, r, c + 1] * fc
    lower = maps[which, r + 1, c] * (1 - fc) + maps[which, r + 1, c + 1] * fc
    blended: Floats = upper * (1 - fr) + lower * fr
    return blended


def _surface(
    objects: Objects,
    part: Part,
    side_px: int,
    dx: Floats,
    dy: Floats,
    opacity: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Luma and chroma (n, t, t, 3) of each object's material, luma of mean 0 and deviation <= 1."""
    n, tile = len(objects), dx.shape[1]
    out = np.zeros((n, tile, tile, 3), np.float32)
    zoom_jitter = 2.0 ** rng.uniform(-0.35, 0.35, n)
    turn = rng.uniform(-0.5, 0.5, n)
    flip = rng.choice([-1.0, 1.0], n)
    hue = rng.uniform(0, 2 * np.pi, n)
    tint = rng.normal(0, 0.2, (n, 2))
    pick = rng.random((n, 2))
    for index in np.unique(objects.material):
        material = MATERIALS[index]
        pieces = textures(material, part)
        weights = np.cumsum([len(piece.centres) for piece in pieces])
        box = np.searchsorted(weights / weights[-1], pick[:, 0], side="right")
        for number, piece in enumerate(pieces):
            rows = np.flatnonzero((objects.material == index) & (box == number))
            if not len(rows):
                continue
            zoom = material.span_px / side_px * zoom_jitter[rows]
            centre = piece.centres[(pick[rows, 1] * len(piece.centres)).astype(np.int64)]
            out[rows] = _sample(piece, centre, zoom, turn[rows], flip[rows], dx[rows], dy[rows])
            _normalise(out, rows, opacity, piece.luma_std)
    out[..., 1:] = _recolour(out, hue, tint)
    return out


def _sample(
    piece: Texture, centre: Floats, zoom: Floats, turn: Floats, flip: Floats, dx: Floats, dy: Floats
) -> Floats:
    """The piece around ``centre``, ``zoom`` photograph pixels per step, mirrored at its borders."""
    cos, sin = (zoom * np.cos(turn))[:, None, None], (zoom * np.sin(turn))[:, None, None]
    px, py = (flip[:, None] * dx)[:, None, :], dy[:, :, None]
    columns = centre[:, 0, None, None] + cos * px - sin * py  # (n, t, t)
    rows = centre[:, 1, None, None] + sin * px + cos * py
    height, width = piece.levels[0].shape[:2]
    rows = (height - 1) - np.abs(np.mod(rows, 2 * (height - 1)) - (height - 1))
    columns = (width - 1) - np.abs(np.mod(columns, 2 * (width - 1)) - (width - 1))
    level = np.clip(np.rint(2 * np.log2(np.maximum(zoom, 1))), 0, LEVELS - 1).astype(np.int64)
    out = np.empty((*rows.shape, 3), np.float32)
    for which in np.unique(level):
        at = level == which
        zeros = np.zeros((int(at.sum()), 1, 1), np.int64)
        out[at] = _bilinear(piece.levels[which][None], zeros, rows[at], columns[at])
    return out


def _normalise(yuv: Floats, rows: Ints, opacity: Floats, box_std: float) -> None:
    """Take out the mean under the mask and scale luma, in place; quiet crops stay quiet."""
    weight = opacity[rows][..., None]  # (m, t, t, 1)
    total = weight.sum((1, 2), keepdims=True) + 1e-6
    crop = yuv[rows]
    crop = crop - (weight * crop).sum((1, 2), keepdims=True) / total
    variance = (weight * crop * crop).sum((1, 2), keepdims=True) / total
    deviation = np.sqrt(variance[..., :1])
    yuv[rows] = crop / np.maximum(deviation, 0.5 * box_std)


def _recolour(yuv: Floats, hue: Floats, tint: Floats) -> Floats:
    """Chroma (n, t, t, 2): the photograph's, turned by a random hue and weakened, plus a tint.

    Grey photographs get their colours from the tint (chroma that follows luma), so that being
    grey is no mark of a class.
    """
    cos, sin = np.cos(hue)[:, None, None], np.sin(hue)[:, None, None]
    u, v = yuv[..., 1], yuv[..., 2]
    turned = np.stack([cos * u - sin * v, sin * u + cos * v], axis=-1)
    coloured = 0.5 * turned + tint[:, None, None] * yuv[..., :1]
    return np.asarray(coloured, dtype=np.float32)


def paste(canvas: Floats, image: Ints, drawn: Drawn) -> NDArray[np.bool_]:
    """Lay one object per listed image on ``canvas`` (N, s, s, 3) in place; masks (n, s, s)."""
    side = canvas.shape[1]
    n, tile = drawn.opacity.shape[:2]
    rows = drawn.top[:, None] + np.arange(tile)  # (n, t)
    columns = drawn.left[:, None] + np.arange(tile)
    rows_in, columns_in = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    inside = rows_in[:, :, None] & columns_in[:, None, :]
    which, r, c = np.nonzero(inside & (drawn.opacity > 0))
    y, x, at = rows[which, r], columns[which, c], image[which]
    opacity = drawn.opacity[which, r, c][:, None]
    canvas[at, y, x] = canvas[at, y, x] * (1 - opacity) + drawn.colour[which, r, c] * opacity
    masks = np.zeros((n, side, side), np.bool_)
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
    scale, half = fit(chosen, angle, rng.uniform(0.3, 0.42, n), 0.97, part, side_px)
    room = (side_px / 2 - half).clip(0)  # (n, 2)
    centre = side_px / 2 + rng.uniform(-1, 1, (n, 2)) * room
    objects = Objects(
        classes, chosen, *(v.astype(np.float32) for v in (centre[:, 0], centre[:, 1], scale, angle))
    )
    canvas, ground = backgrounds(n, side_px, part, rng)
    paste(canvas, np.arange(n), draw(objects, part, side_px, side_px + 2, ground, rng))
    return to_bytes(canvas)


def fit(
    chosen: Ints, angle: Floats, area: Floats, longest: float, part: Part, side_px: int
) -> tuple[Floats, Floats]:
    """Scales (n,) that give each shape its share ``area`` of the image, and half boxes (n, 2).

    A thin shape that would grow longer than ``longest`` image sides stays smaller instead.
    """
    all_shapes = shapes(part)
    half = all_shapes.half[chosen].astype(np.float64)  # (n, 2)
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    turned = np.stack([half[:, 0] * cos + half[:, 1] * sin, half[:, 0] * sin + half[:, 1] * cos], 1)
    scale = side_px * np.sqrt(area / all_shapes.area[chosen])
    scale = np.minimum(scale, longest * side_px / (2 * turned.max(1)))
    return scale, turned * scale[:, None]

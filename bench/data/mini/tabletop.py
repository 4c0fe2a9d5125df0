"""Objects standing on a floor, seen from above as in CLEVR: the nearer, the larger and lower.

A camera that is pitched and not rolled sees 1 / depth of a flat floor grow evenly from the horizon
down, so that the row on which an object stands tells its depth. Distant objects and the distant
floor are hazy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.compose import (
    Drawn,
    Objects,
    draw,
    paste,
    tile_for,
    to_bytes,
    turned_half,
)
from bench.data.mini.grounds import backgrounds
from bench.data.mini.materials import MATERIALS, RGB_FROM_YUV, YUV_FROM_RGB, Floats, Ints, Part
from bench.data.mini.shapes import shapes
from bench.data.mini.surface import pieces

FEWEST, MOST = 3, 10
NEAREST = ((7.0, 8.0), (8.0, 8.5), (8.5, 9.0), (9.0, 9.5), (9.5, 10.0), (10.0, 11.5))
FARTHEST = 16.0
HORIZON = -0.2  # row of the horizon in image heights: above the picture
LOWEST = 0.97  # row on which an object at the least depth stands, in image heights
FOCAL = 1.64  # focal length in image heights, CLEVR's
ASPECT = 1.5  # width / height, CLEVR's
HALF_HEIGHT = {"small": 0.6, "large": 0.95}  # in units of depth
TRIES = 48  # places, of which the least crowded is taken
HAZE_FROM, HAZE_LENGTH = 6.0, 16.0
# CLEVR's colours as chroma; what an object is made of keeps its own luma.
COLOURS: dict[str, tuple[float, float]] = {
    "gray": (0.0, 0.0),
    "red": (-0.07, 0.22),
    "blue": (0.22, -0.07),
    "green": (-0.13, -0.15),
    "brown": (-0.12, 0.08),
    "purple": (0.16, 0.13),
    "cyan": (0.09, -0.18),
    "yellow": (-0.24, 0.03),
}


@dataclass(frozen=True)
class Tables:
    """Objects on ``n`` floors, the nearest of each in column 0; lengths in pixels."""

    counts: Ints  # (n,) objects that are there; later columns are not drawn
    material: Ints  # (n, MOST), as all below
    shape: Ints  # row in shapes(part)
    colour: Ints  # place in COLOURS
    large: NDArray[np.bool_]
    angle: Floats  # radians
    depth: Floats
    x: Floats  # centre of the box
    y: Floats
    scale: Floats  # pixels per side of a distance map


def floor_row(depth: Floats) -> Floats:
    """The row, in image heights, at which the floor has this depth."""
    return HORIZON + (LOWEST - HORIZON) * NEAREST[0][0] / depth


def world(x: float, depth: float, half_height: float) -> list[float]:
    """Place to the right, away from the camera and up, in units of depth; ``x`` in image heights.

    The origin is where the camera looks at the floor.
    """
    pitch = np.arctan((0.5 - HORIZON) / FOCAL)  # of the camera below the horizontal
    middle = (LOWEST - HORIZON) * NEAREST[0][0] / (0.5 - HORIZON)  # depth there
    return [(x - ASPECT / 2) * depth / FOCAL, float((depth - middle) / np.cos(pitch)), half_height]


def placed(
    counts: Ints, nearest: Floats, part: Part, height_px: int, rng: np.random.Generator
) -> Tables:
    """Objects for floors with these ``counts``, whose least depths are ``nearest`` (n,)."""
    n = len(counts)
    chosen = rng.integers(0, len(shapes(part)), (n, MOST))
    angle = rng.uniform(-0.15, 0.15, (n, MOST))
    large = rng.random((n, MOST)) < 0.5
    tall = np.where(large, HALF_HEIGHT["large"], HALF_HEIGHT["small"])
    unit = turned_half(chosen.ravel(), angle.ravel(), part).reshape(n, MOST, 2)
    depth, centre, scale = np.zeros((n, MOST)), np.zeros((n, MOST, 2)), np.zeros((n, MOST))
    boxes = np.zeros((n, MOST, 4))
    every = np.arange(n)
    for rank in range(MOST):
        inverse = rng.uniform(0, 1, (n, TRIES)) * (1 / (nearest + 0.05) - 1 / FARTHEST)[:, None]
        far = np.repeat(nearest[:, None], TRIES, 1) if rank == 0 else 1 / (1 / FARTHEST + inverse)
        own = FOCAL * height_px * tall[:, rank, None] / far / unit[:, rank, 1:]  # (n, TRIES)
        half = own[..., None] * unit[:, rank, None]  # (n, TRIES, 2)
        room = ASPECT * height_px / 2 - half[..., 0] - 0.5
        x = ASPECT * height_px / 2 + rng.uniform(-1, 1, (n, TRIES)) * room
        middle = np.stack([x, height_px * floor_row(far) - half[..., 1]], -1)
        tried = np.concatenate([middle - half, middle + half], -1)  # (n, TRIES, 4)
        best = _overlap(tried, boxes[:, :rank]).argmin(1)
        depth[:, rank], scale[:, rank] = far[every, best], own[every, best]
        centre[:, rank], boxes[:, rank] = middle[every, best], tried[every, best]
    material = rng.integers(0, len(MATERIALS), (n, MOST))
    colour = rng.integers(0, len(COLOURS), (n, MOST))
    x, y = centre[..., 0], centre[..., 1]
    return Tables(counts, material, chosen, colour, large, angle, depth, x, y, scale)


def _overlap(tried: Floats, taken: Floats) -> Floats:
    """How much of the smaller box each tried one (n, t, 4) shares with any taken (n, r, 4)."""
    a, b = tried[:, :, None], taken[:, None]
    size = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0)
    area = np.minimum(
        (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    )  # (n, t, r)
    shared: Floats = (size.prod(-1) / area).max(2, initial=0.0)
    return shared


def rendered(
    tables: Tables, part: Part, height_px: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The pictures (n, h, w, 3)."""
    n, width = len(tables.counts), round(ASPECT * height_px)
    canvas, ground = backgrounds(n, width, part, rng)
    top = (width - height_px) // 2
    canvas = canvas[:, top : top + height_px]
    air = np.clip(canvas.mean((1, 2)) + 0.2, 0, 1)  # (n, 3)
    rows = (np.arange(height_px) + 0.5) / height_px
    floor_depth = (LOWEST - HORIZON) * NEAREST[0][0] / (rows - HORIZON)
    haze = _haze(floor_depth)[:, None, None]
    canvas = canvas * (1 - haze) + air[:, None, None] * haze
    there = np.arange(MOST) < tables.counts[:, None]
    order = np.argsort(np.where(there, -tables.depth, np.inf), axis=1, kind="stable")
    for turn in range(MOST):
        image = np.flatnonzero(tables.counts > turn)
        at = (image, order[image, turn])
        objects = Objects(
            tables.material[at], tables.shape[at], tables.x[at], tables.y[at], tables.scale[at],
            tables.angle[at],
        )  # fmt: skip
        canvas[image] *= 1 - _shadow(objects, part, height_px, width)
        cut = pieces(len(image), rng)
        # A fixed size in the world: the farther, the more photograph in a pixel.
        cut = replace(cut, zoom=cut.zoom * tables.depth[at] / NEAREST[0][0])
        tile = tile_for(objects, part)
        drawn = draw(objects, part, height_px, tile, ground[image], rng, cut)
        paste(canvas, image, _seen(drawn, tables.colour[at], tables.depth[at], air[image]))
    return to_bytes(canvas)


def _haze(depth: Floats) -> Floats:
    """Share of the air's colour at a depth."""
    return np.asarray(1 - np.exp(-np.maximum(depth - HAZE_FROM, 0) / HAZE_LENGTH))


def _seen(drawn: Drawn, colour: Ints, depth: Floats, air: Floats) -> Drawn:
    """The objects in their colours, behind the air before them."""
    yuv = drawn.colour @ YUV_FROM_RGB.T  # (n, t, t, 3)
    yuv[..., 1:] *= 0.3
    yuv[..., 1:] += np.array(list(COLOURS.values()))[colour][:, None, None]
    haze = _haze(depth)[:, None, None, None]
    rgb = np.clip(yuv @ RGB_FROM_YUV.T, 0, 1)
    return replace(drawn, colour=rgb * (1 - haze) + air[:, None, None] * haze)


def _shadow(objects: Objects, part: Part, height_px: int, width_px: int) -> Floats:
    """How much darker (n, h, w, 1) the floor is around the feet of the objects."""
    half = turned_half(objects.shape, objects.angle, part) * objects.scale[:, None]  # (n, 2)
    x = (np.arange(width_px) + 0.5 - objects.x[:, None]) / (1.1 * half[:, :1])  # (n, w)
    foot = (objects.y + half[:, 1])[:, None]
    y = (np.arange(height_px) + 0.5 - foot) / (0.35 * half[:, 1:])  # (n, h)
    shadow: Floats = 0.45 * np.exp(-(x**2))[:, None, :] * np.exp(-(y**2))[:, :, None]
    return shadow[..., None]

"""Views of single things: one shape of one piece of photograph, seen again and again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.compose import Objects, draw, paste, tile_for, to_bytes, turned_half
from bench.data.mini.grounds import backgrounds
from bench.data.mini.materials import MATERIALS, Floats, Ints, Part
from bench.data.mini.shapes import shapes
from bench.data.mini.surface import JITTER, Jitter, Pieces, pieces

REFERENCE = 0.8  # longest side, in short image sides, at which a thing shows its span of photograph


@dataclass(frozen=True)
class View:
    """How a thing is shown; the range of its longest side is in short image sides."""

    longest: tuple[float, float]
    stray: float = 1.0  # from the middle of the picture, in what room there is
    turn: float = 0.2  # radians, either way
    clutter: int = 1  # other things behind it
    cover: int = 0  # other things, as large, in front of it
    jitter: Jitter = JITTER


_MILD = Jitter(luma=0.04, hue=0.08, saturation=(0.9, 1.1), chroma=0.01, tint=0.02)
_STRONG = Jitter(luma=0.12, hue=0.4, saturation=(0.5, 1.2), chroma=0.03, tint=0.06)

VIEWS: dict[str, View] = {
    "query": View((0.75, 0.9), stray=0.4, jitter=_MILD),
    "easy": View((0.65, 0.9), stray=0.4, jitter=_MILD),
    "changed": View((0.6, 0.8), stray=0.6, turn=0.6, clutter=2, jitter=_STRONG),  # hard
    "far": View((0.38, 0.5), stray=0.8, turn=0.3, clutter=3, jitter=_MILD),  # hard
    "tiny": View((0.13, 0.17), clutter=3),  # junk
    "covered": View((0.55, 0.75), cover=3),  # junk
    "other": View((0.4, 0.9), stray=0.6, clutter=2),
}
CLUTTER = View((0.22, 0.4), turn=0.5)  # other things, behind and in front


@dataclass(frozen=True)
class Things:
    """One row per thing."""

    material: Ints
    shape: Ints  # row in shapes(part)
    cut: Pieces

    def __len__(self) -> int:
        return len(self.material)

    def take(self, rows: Ints) -> Things:
        return Things(self.material[rows], self.shape[rows], self.cut.take(rows))


@dataclass(frozen=True)
class Seen:
    """Pictures of one thing each."""

    pixels: NDArray[np.uint8]  # (n, h, w, 3)
    boxes: Floats  # (n, 4) x0, y0, x1, y1 of the thing, as if nothing were in front of it
    visible: Floats  # (n,) share of the thing that is seen


def things(n: int, part: Part, rng: np.random.Generator) -> Things:
    """Random things; their materials are as different as they can be."""
    material = rng.permutation(np.arange(n) % len(MATERIALS))
    return Things(material, rng.integers(0, len(shapes(part)), n), pieces(n, rng))


def seen(
    shown: Things, view: View, size: tuple[int, int], part: Part, rng: np.random.Generator
) -> Seen:
    """One picture of each thing; ``size`` is width and height in pixels."""
    n, (width, height) = len(shown), size
    every, short = np.arange(n), min(size)
    canvas, ground = backgrounds(n, max(size), part, rng)
    top, left = (max(size) - height) // 2, (max(size) - width) // 2
    canvas = canvas[:, top : top + height, left : left + width].copy()

    def put(
        what: Things, view: View, longest: tuple[float, float], near: Objects | None = None
    ) -> tuple[Objects, NDArray[np.bool_]]:
        longest_px = short * rng.uniform(*longest, n)
        objects = _objects(what, longest_px, view, size, part, rng, near)
        cut = attached(what, objects, short, part)
        tile = tile_for(objects, part)
        drawn = draw(objects, part, short, tile, ground, rng, cut, view.jitter)
        return objects, paste(canvas, every, drawn)

    for _ in range(view.clutter):
        put(things(n, part, rng), CLUTTER, CLUTTER.longest)
    main, masks = put(shown, view, view.longest)
    free = masks.copy()
    for _ in range(view.cover):
        free &= ~put(things(n, part, rng), CLUTTER, view.longest, main)[1]
    visible = free.sum((1, 2)) / masks.sum((1, 2))
    return Seen(to_bytes(canvas), np.array([_box(mask) for mask in masks]), visible)


def _objects(
    what: Things,
    longest: Floats,
    view: View,
    size: tuple[int, int],
    part: Part,
    rng: np.random.Generator,
    near: Objects | None,
) -> Objects:
    """Where the things go: wholly inside the picture, or close to the objects ``near``."""
    n = len(what)
    angle = rng.uniform(-view.turn, view.turn, n)
    unit = turned_half(what.shape, angle, part)  # (n, 2)
    scale = longest / (2 * unit.max(1))
    offset = rng.uniform(-1, 1, (n, 2))
    if near is None:
        middle = np.array(size) / 2
        centre = middle + view.stray * offset * (middle - unit * scale[:, None] - 0.5).clip(0)
    else:
        centre = np.stack([near.x, near.y], 1) + 0.2 * longest[:, None] * offset
    return Objects(what.material, what.shape, centre[:, 0], centre[:, 1], scale, angle)


def attached(what: Things, objects: Objects, short_px: int, part: Part) -> Pieces:
    """The pieces of photograph, turned and scaled together with the shapes."""
    whole = 2 * shapes(part).half[what.shape].max(1)  # longest sides in map sides
    zoom = REFERENCE * short_px / (whole * objects.scale)
    # Turning the picture by an angle looks the photograph up under the opposite one.
    return replace(
        what.cut, zoom=what.cut.zoom * zoom, turn=what.cut.turn - what.cut.flip * objects.angle
    )


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    y, x = np.nonzero(mask)
    return float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)

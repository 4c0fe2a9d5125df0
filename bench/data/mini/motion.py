"""Things that move: their ways through short videos, and the frames, over grounds that drift.

A thing keeps its piece of photograph and its colours while it turns, comes nearer and goes away;
where two ways cross, the later thing passes in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.compose import Objects, draw, paste, tile_for, to_bytes, turned_half
from bench.data.mini.grounds import backgrounds
from bench.data.mini.materials import MATERIALS, Floats, Ints, Part
from bench.data.mini.views import Things, attached, things

MOST = 3
LONGEST = (0.42, 0.58)  # longest side half-way, in short sides of the frame
GROWTH = 0.35  # natural logarithm of the last size over the first, either way
TURN = (0.15, 0.7)  # radians from the first frame to the last, either way
WAY = (0.35, 0.8)  # distance from the first place to the last, in short sides
BEND = 0.25  # how far the way bends aside, in its length
FIRST_OVERLAP = 0.05  # of the smaller box, in the first frame
OVERLAP = 0.6  # later
TRIES = 240
STILL = 4  # things that belong to the ground
STILL_LONGEST = (0.2, 0.35)
DRIFT = 0.3  # of the ground from the first frame to the last, in short sides, at most


@dataclass(frozen=True)
class Movers:
    """One thing of each listed video; the last axis of lengths (pixels) and angles is time."""

    video: Ints  # (m,)
    thing: Things
    x: Floats  # (m, t) centre of the tight box
    y: Floats
    scale: Floats
    angle: Floats

    def at(self, time: int) -> Objects:
        lengths = [v[:, time] for v in (self.x, self.y, self.scale, self.angle)]
        return Objects(self.thing.material, self.thing.shape, *lengths)


@dataclass(frozen=True)
class Videos:
    """``n`` videos, ready to be drawn; ``movers`` from the one behind to the one in front."""

    part: Part
    size: tuple[int, int]  # width, height
    ground: Floats  # (n, side, side, 3), larger than a frame
    mean: Floats  # (n, 3) its mean colour
    corner: Ints  # (n, t, 2) x, y of each frame on the ground
    movers: tuple[Movers, ...]
    looks: Ints  # (MOST,) a seed of each thing's colours: the same in every frame

    def frames(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Pixels (n, h, w, 3) and numbers of the objects (n, h, w), 0 behind them, at each time."""
        width, height = self.size
        for time in range(self.corner.shape[1]):
            canvas = np.stack(
                [
                    ground[y : y + height, x : x + width]
                    for ground, (x, y) in zip(self.ground, self.corner[:, time], strict=True)
                ]
            )
            labels = np.zeros(canvas.shape[:3], np.uint8)
            for number, (movers, seed) in enumerate(zip(self.movers, self.looks, strict=True), 1):
                masks = _put(
                    canvas,
                    movers.video,
                    movers.thing,
                    movers.at(time),
                    self.part,
                    height,
                    self.mean[movers.video],
                    np.random.default_rng(seed),
                )
                at, y, x = np.nonzero(masks)
                labels[movers.video[at], y, x] = number
            yield to_bytes(canvas), labels


def videos(
    counts: Ints, times: int, size: tuple[int, int], part: Part, rng: np.random.Generator
) -> Videos:
    """Videos of ``times`` frames with so many moving things each; ``size`` is width and height.

    A thing that finds no way between the others is left out; a video never loses its only one.
    """
    n, short = len(counts), min(size)
    ground, mean = _ground(n, size, part, rng)
    boxes = np.full((n, MOST, times, 4), -1.0)
    movers = []
    materials = rng.permutation(len(MATERIALS))
    for rank in range(MOST):  # no two objects of a video are of one material
        place = np.arange(n) + rank * len(MATERIALS) // MOST
        shown = replace(things(n, part, rng), material=materials[place % len(MATERIALS)])
        movers.append(_moving(shown, np.flatnonzero(counts > rank), rank, boxes, size, part, rng))
    slack = np.array([ground.shape[2] - size[0], ground.shape[1] - size[1]])  # x, y
    room = round(DRIFT * short)
    share = rng.uniform(0.5, 1, (n, 2)) * rng.choice([-1, 1], (n, 2)) * room  # (n, 2)
    u = np.linspace(-0.5, 0.5, times)[:, None]
    corner = np.rint(slack / 2 + u * share[:, None]).astype(np.int64)  # (n, t, 2)
    looks = rng.integers(0, 2**32, MOST)
    return Videos(part, size, ground, mean, corner, tuple(movers), looks)


def _ground(
    n: int, size: tuple[int, int], part: Part, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Grounds (n, side, side, 3) wide enough to drift on, with things that stay, and mean colours.

    What stays is no object: it tells that the camera moves, and that not every digit does.
    """
    short = min(size)
    side = max(size) + round(DRIFT * short)
    ground, mean = backgrounds(n, side, part, rng)
    for _ in range(STILL):
        other = rng.integers(0, len(MATERIALS), n)
        shown = replace(things(n, part, rng), material=other)
        angle = rng.uniform(-0.5, 0.5, n)
        half = turned_half(shown.shape, angle, part)
        scale = short * rng.uniform(*STILL_LONGEST, n) / (2 * half.max(1))
        x, y = rng.uniform(0, side, n), side / 2 + rng.uniform(-0.6, 0.6, n) * short
        still = Objects(shown.material, shown.shape, x, y, scale, angle)
        _put(ground, np.arange(n), shown, still, part, short, mean, rng)
    return ground, mean


def _put(
    canvas: Floats,
    image: Ints,
    shown: Things,
    objects: Objects,
    part: Part,
    short_px: int,
    ground: Floats,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Lay things on ``canvas`` in place, each with its own piece of photograph; their masks."""
    cut = attached(shown, objects, short_px, part)
    tile = tile_for(objects, part)
    return paste(canvas, image, draw(objects, part, short_px, tile, ground, rng, cut))


def _moving(
    shown: Things,
    video: Ints,
    rank: int,
    boxes: Floats,
    size: tuple[int, int],
    part: Part,
    rng: np.random.Generator,
) -> Movers:
    """Ways for the things of ``rank``; enters their boxes (n, rank, t, 4) into ``boxes``."""
    shown, m, times = shown.take(video), len(video), boxes.shape[2]
    u = np.linspace(0, 1, times)
    angle = rng.uniform(-0.3, 0.3, m)[:, None] + _signed(rng, TURN, m) * (u - 0.5)
    unit = np.stack([turned_half(shown.shape, a, part) for a in angle.T], 1)  # (m, t, 2)
    middle = min(size) * rng.uniform(*LONGEST, m) / (2 * unit.max((1, 2)))
    scale = middle[:, None] * np.exp(rng.uniform(-GROWTH, GROWTH, m)[:, None] * (u - 0.5))
    half = unit * scale[..., None]  # (m, t, 2)
    centre = np.zeros((m, times, 2))
    open_rows = np.arange(m)
    for attempt in range(TRIES):
        if attempt and attempt % 24 == 0:
            scale[open_rows] *= 0.93
            half[open_rows] *= 0.93
        way, inside = _ways(half[open_rows].max(1), u, size, rng)
        corners = np.concatenate([way - half[open_rows], way + half[open_rows]], -1)
        free = inside & _free(corners, boxes[video[open_rows], :rank])
        centre[open_rows[free]] = way[free]
        boxes[video[open_rows[free]], rank] = corners[free]
        open_rows = open_rows[~free]
        if not len(open_rows):
            break
    rows = np.setdiff1d(np.arange(m), open_rows)
    lengths = [v[rows] for v in (centre[..., 0], centre[..., 1], scale, angle)]
    return Movers(video[rows], shown.take(rows), *lengths)


def _signed(rng: np.random.Generator, bounds: tuple[float, float], m: int) -> Floats:
    """Amounts (m, 1) within the bounds, either way."""
    signed: Floats = (rng.uniform(*bounds, m) * rng.choice([-1.0, 1.0], m))[:, None]
    return signed


def _ways(
    half: Floats, u: Floats, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Bent ways (m, t, 2) of things with half boxes (m, 2), and whether they stay in the frame."""
    m = len(half)
    middle = np.array(size) / 2
    room = middle - half - 0.5
    first = middle + rng.uniform(-1, 1, (m, 2)) * room
    heading = rng.uniform(0, 2 * np.pi, m)
    length = min(size) * rng.uniform(*WAY, m)
    along = length[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    aside = np.stack([-along[:, 1], along[:, 0]], 1) * _signed(rng, (0, BEND), m)
    t = u[:, None]
    way = first[:, None] + t * along[:, None] + 4 * t * (1 - t) * aside[:, None]
    return way, (np.abs(way - middle) <= room[:, None]).all((1, 2))


def _free(corners: Floats, taken: Floats) -> NDArray[np.bool_]:
    """Whether boxes (m, t, 4) keep clear of those (m, r, t, 4) that are there already."""
    own = corners[:, None]
    size = (
        np.minimum(own[..., 2:], taken[..., 2:]) - np.maximum(own[..., :2], taken[..., :2])
    ).clip(0)
    area = np.minimum(
        (own[..., 2:] - own[..., :2]).prod(-1), (taken[..., 2:] - taken[..., :2]).prod(-1)
    )
    share = size.prod(-1) / np.maximum(area, 1e-9)  # (m, r, t)
    unused = taken[..., 0, 0] < 0  # a thing that found no way has no boxes
    clear = (share[..., 0] <= FIRST_OVERLAP) & (share.max(-1) <= OVERLAP)
    return np.asarray((clear | unused).all(1))

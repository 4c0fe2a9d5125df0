"""What an object is made of: pieces of photograph, resampled and with jittered colours.

The fine structure of the photograph tells the class. Its colours only hint at it: luma, hue and
saturation are jittered until k-NN on mean colours is far behind what structure gives (see
``Jitter``), and grey photographs get colours too, so that being grey is no mark of a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.mini.materials import (
    LEVELS,
    MATERIALS,
    Floats,
    Ints,
    Part,
    Texture,
    textures,
)


@dataclass(frozen=True)
class Jitter:
    """How far an object's look is moved from its photograph's; luma and chroma in 0..1.

    The defaults were tuned on ``mini_objects`` (small; 18 classes, chance 5.6 %; k-NN with k = 20,
    T = 0.07) with a ViT of 96 x 4 blocks, CLS / average token. Random weights 18-20 / 20-21 %, raw
    pixels 28 %, the picture's mean colour 18 %, the object's own mean colour 31 %; after 100-130
    CPU seconds of plain training (spread over runs and small changes of these numbers): MAE 27-29
    / 28-30 %, SimCLR 31-39 / 27-35 %, DINO 24 / 24 %. Supervised: a small CNN 64-69 %, the same ViT
    63 %. More jitter (hue 0.6, tint 0.12) leaves short trainings at the level of random weights;
    less lets colour decide.
    """

    turn: float = 0.5  # radians, either way
    octaves: float = 0.35  # of scale, either way
    contrast: float = 0.15  # the deviation of luma that every crop is moved towards ...
    equalise: float = 0.15  # ... by this power: 0 leaves it, 1 makes all crops alike
    keep_luma: float = 0.8  # of the mean's distance from middle grey
    luma: float = 0.08  # added to the mean, either way
    hue: float = 0.3  # radians, either way
    saturation: tuple[float, float] = (0.6, 1.1)
    chroma: float = 0.03  # deviation of what is added to the mean
    tint: float = 0.06  # deviation of the chroma that follows luma
    stand_out: float = 0.1  # least distance of the mean from the background's


JITTER = Jitter()


@dataclass(frozen=True)
class Pieces:
    """Which piece of its photograph each object is cut from; one row per object."""

    zoom: Floats  # times the material's own photograph pixels per image pixel
    turn: Floats  # of the photograph, radians
    flip: Floats  # -1 mirrors it
    pick: Floats  # (n, 2) in 0..1: the box, and the centre in it

    def take(self, rows: Ints) -> Pieces:
        return Pieces(self.zoom[rows], self.turn[rows], self.flip[rows], self.pick[rows])


def pieces(n: int, rng: np.random.Generator, jitter: Jitter = JITTER) -> Pieces:
    """Random pieces for ``n`` objects."""
    return Pieces(
        zoom=2.0 ** rng.uniform(-jitter.octaves, jitter.octaves, n),
        turn=rng.uniform(-jitter.turn, jitter.turn, n),
        flip=rng.choice([-1.0, 1.0], n),
        pick=rng.random((n, 2)),
    )


def surface(
    material: Ints, part: Part, side_px: int, dx: Floats, dy: Floats, cut: Pieces
) -> Floats:
    """Luma and chroma (n, t, t, 3) of each object's piece of its material's photograph.

    ``dx``, ``dy`` (n, t) are the pixels' distances from the objects' centres; an object as wide as
    ``side_px`` shows ``span_px`` pixels of the photograph.
    """
    n, tile = len(material), dx.shape[1]
    out = np.zeros((n, tile, tile, 3))
    for index in np.unique(material):
        own = textures(MATERIALS[index], part)
        weights = np.cumsum([len(piece.centres) for piece in own])
        box = np.searchsorted(weights / weights[-1], cut.pick[:, 0], side="right")
        for number, piece in enumerate(own):
            rows = np.flatnonzero((material == index) & (box == number))
            if not len(rows):
                continue
            zoom = MATERIALS[index].span_px / side_px * cut.zoom[rows]
            centre = piece.centres[(cut.pick[rows, 1] * len(piece.centres)).astype(np.int64)]
            out[rows] = _sample(
                piece, centre, zoom, cut.turn[rows], cut.flip[rows], dx[rows], dy[rows]
            )
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
    out = np.empty((*rows.shape, 3))
    for which in np.unique(level):
        at = level == which
        zeros = np.zeros((int(at.sum()), 1, 1), np.int64)
        out[at] = bilinear(piece.levels[which][None], zeros, rows[at], columns[at])
    return out


def bilinear(maps: Floats, which: Ints, rows: Floats, columns: Floats) -> Floats:
    """Values of ``maps[which]`` at fractional places, borders repeated."""
    height, width = maps.shape[1:3]
    rows = np.clip(rows, 0, height - 1.001)
    columns = np.clip(columns, 0, width - 1.001)
    r, c = rows.astype(np.int64), columns.astype(np.int64)
    fr, fc = rows - r, columns - c
    if maps.ndim == 4:  # the last axis is colour
        fr, fc = fr[..., None], fc[..., None]
    upper = maps[which, r, c] * (1 - fc) + maps[which, r, c + 1] * fc
    lower = maps[which, r + 1, c] * (1 - fc) + maps[which, r + 1, c + 1] * fc
    blended: Floats = upper * (1 - fr) + lower * fr
    return blended


def recoloured(
    yuv: Floats,
    opacity: Floats,
    ground: Floats,
    rng: np.random.Generator,
    jitter: Jitter = JITTER,
) -> Floats:
    """Objects (n, t, t, 3) in luma and chroma, with jittered mean colours and contrasts.

    ``opacity`` (n, t, t) says which pixels count, ``ground`` (n, 3) which mean colours to keep
    away from.
    """
    n = len(yuv)
    weight = opacity[..., None]  # (n, t, t, 1)
    total = weight.sum((1, 2)) + 1e-6  # (n, 1)
    mean = (weight * yuv).sum((1, 2)) / total  # (n, 3)
    rest = yuv - mean[:, None, None]
    deviation = np.sqrt((weight * rest**2).sum((1, 2)) / total)[:, :1]  # (n, 1) of luma
    gain = (jitter.contrast / (deviation + 0.02)) ** jitter.equalise
    rest = rest * (gain * rng.uniform(0.8, 1.25, (n, 1)))[:, None, None]
    angle = rng.uniform(-jitter.hue, jitter.hue, n)
    saturation = rng.uniform(*jitter.saturation, (n, 1, 1, 1))
    tint = rng.normal(0, jitter.tint, (n, 1, 1, 2))
    rest[..., 1:] = saturation * _turned(rest[..., 1:], angle) + tint * rest[..., :1]
    base = np.empty((n, 3))
    base[:, 0] = 0.5 + jitter.keep_luma * (mean[:, 0] - 0.5)
    base[:, 0] += rng.uniform(-jitter.luma, jitter.luma, n)
    base[:, 1:] = (saturation * _turned(mean[:, None, None, 1:], angle))[:, 0, 0]
    base[:, 1:] += rng.normal(0, jitter.chroma, (n, 2))
    base[:, 0] = np.clip(_pushed(base, ground, jitter.stand_out), 0.2, 0.8)
    moved: Floats = base[:, None, None] + rest
    return moved


def _turned(chroma: Floats, angle: Floats) -> Floats:
    """Chroma (n, h, w, 2) with its hue turned by one angle per row."""
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    u, v = chroma[..., 0], chroma[..., 1]
    turned: Floats = np.stack([cos * u - sin * v, sin * u + cos * v], axis=-1)
    return turned


def _pushed(base: Floats, ground: Floats, least: float) -> Floats:
    """Luma (n,) moved just so far that colours (n, 3) are ``least`` apart from the ground's."""
    away = base - ground
    needed = np.sqrt(np.clip(least**2 - (away[:, 1:] ** 2).sum(1), 0, None))  # (n,)
    pushed: Floats = ground[:, 0] + np.where(away[:, 0] < 0, -needed, needed)
    luma: Floats = np.where(np.abs(away[:, 0]) < needed, pushed, base[:, 0])
    return luma

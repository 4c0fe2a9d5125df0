"""Where the objects of a scene go: one clearly largest object and one to five smaller ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.compose import Objects, draw, fit, paste, tile_for, to_bytes
from bench.data.mini.grounds import backgrounds
from bench.data.mini.materials import MATERIALS, Floats, Ints, Part
from bench.data.mini.shapes import shapes

MOST = 6
MAIN_AREA = (0.15, 0.22)  # share of the image; the second largest has at most a third of that
OTHER_AREA = (0.025, 0.05)
OVERLAP = 0.12  # of the smaller box
TRIES = 72


@dataclass(frozen=True)
class Scene:
    """One image and its objects, the largest first; later objects lie in front."""

    pixels: NDArray[np.uint8]  # (s, s, 3)
    masks: NDArray[np.bool_]  # (k, s, s) what is seen of each
    materials: Ints  # (k,)
    digits: Ints  # (k,)


def scenes(mains: Ints, part: Part, side_px: int, rng: np.random.Generator) -> list[Scene]:
    """One scene for each material of a main object."""
    n = len(mains)
    counts = rng.integers(2, MOST + 1, n)
    canvas, ground = backgrounds(n, side_px, part, rng)
    boxes = np.full((n, MOST, 4), -1.0)
    layers: list[tuple[Ints, Objects, NDArray[np.bool_]]] = []
    for rank in range(MOST):
        image = np.flatnonzero(counts > rank)
        material = mains if rank == 0 else rng.integers(0, len(MATERIALS), len(image))
        image, objects = _place(image, material, rank, boxes, part, side_px, rng)
        tile = side_px if rank == 0 else tile_for(objects, part)
        drawn = draw(objects, part, side_px, tile, ground[image], rng)
        layers.append((image, objects, paste(canvas, image, drawn)))
    pixels = to_bytes(canvas)
    digits = shapes(part).digits
    found: list[list[tuple[NDArray[np.bool_], int, int]]] = [[] for _ in range(n)]
    for image, objects, masks in layers:
        for row, at in enumerate(image):
            entry = (masks[row], int(objects.material[row]), int(digits[objects.shape[row]]))
            found[at].append(entry)
    return [_scene(pixels[at], own) for at, own in enumerate(found)]


def _scene(pixels: NDArray[np.uint8], own: list[tuple[NDArray[np.bool_], int, int]]) -> Scene:
    masks = np.stack([mask for mask, _, _ in own])
    in_front = np.zeros_like(masks[0])
    for index in range(len(masks) - 1, -1, -1):
        own_mask = masks[index].copy()
        masks[index] &= ~in_front
        in_front |= own_mask
    materials = np.array([material for _, material, _ in own])
    return Scene(pixels, masks, materials, np.array([digit for _, _, digit in own]))


def _place(
    image: Ints,
    material: Ints,
    rank: int,
    boxes: Floats,
    part: Part,
    side_px: int,
    rng: np.random.Generator,
) -> tuple[Ints, Objects]:
    """Find room for the object of ``rank`` in each image; enters its box into ``boxes``.

    Tries again a little smaller where there is none; what never fits is left out, which only
    happens from the third object on.
    """
    n = len(image)
    chosen = rng.integers(0, len(shapes(part)), n)
    angle = rng.uniform(-0.35, 0.35, n)
    low, high = MAIN_AREA if rank == 0 else OTHER_AREA
    longest = 0.7 if rank == 0 else 0.36
    scale, half = fit(chosen, angle, rng.uniform(low, high, n), longest, part, side_px)
    centre = np.zeros((n, 2))
    open_rows = np.arange(n)
    for attempt in range(TRIES):
        if attempt and attempt % 6 == 0:
            scale[open_rows] *= 0.93
            half[open_rows] *= 0.93
        room = side_px / 2 - half[open_rows] - 0.5
        centre[open_rows] = side_px / 2 + rng.uniform(-1, 1, (len(open_rows), 2)) * room
        corners = np.concatenate([centre - half, centre + half], 1)[open_rows]  # (m, 4)
        free = _free(corners, boxes[image[open_rows], :rank])
        boxes[image[open_rows[free]], rank] = corners[free]
        open_rows = open_rows[~free]
        if not len(open_rows):
            break
    rows = np.setdiff1d(np.arange(n), open_rows)
    lengths = [v[rows] for v in (centre[:, 0], centre[:, 1], scale, angle)]
    return image[rows], Objects(material[rows], chosen[rows], *lengths)


def _free(corners: Floats, taken: Floats) -> NDArray[np.bool_]:
    """Whether each box (m, 4) hardly overlaps the boxes (m, r, 4) that are there already."""
    own = corners[:, None]
    size = (
        np.minimum(own[..., 2:], taken[..., 2:]) - np.maximum(own[..., :2], taken[..., :2])
    ).clip(0)
    shared = size.prod(-1)  # (m, r)
    area = np.minimum(
        (own[..., 2:] - own[..., :2]).prod(-1), (taken[..., 2:] - taken[..., :2]).prod(-1)
    )
    unused = taken[..., 0] < 0  # an object that found no room has no box
    return np.asarray(((shared <= OVERLAP * area) | unused).all(1))

"""Scenes in other formats than squares: windows on them that keep the largest object whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.layout import Scene, scenes
from bench.data.mini.materials import MATERIALS, Ints, Part

CHUNK = 400  # images drawn at once


@dataclass(frozen=True)
class Window:
    """What is seen of a scene; later objects lie in front."""

    pixels: NDArray[np.uint8]  # (h, w, 3)
    front: NDArray[np.uint8]  # (h, w) number of the object that is seen, 1 .. k; 0: background
    materials: Ints  # (k,)
    cut: NDArray[np.bool_]  # (k,) whether the window's edge cuts a part of the object off

    def mask(self, number: int) -> NDArray[np.bool_]:
        return np.asarray(self.front == number)


def windows(
    per_class: int, sizes: tuple[tuple[int, int], ...], side_px: int, part: Part,
    rng: np.random.Generator,
) -> Iterator[Window]:  # fmt: skip
    """As many windows for each material of a main object; ``sizes`` are (width, height)."""
    n = per_class * len(MATERIALS)
    mains = rng.permutation(np.arange(n) % len(MATERIALS))
    for start in range(0, n, CHUNK):
        for scene in scenes(mains[start : start + CHUNK], part, side_px, rng):
            yield window(scene, sizes[int(rng.integers(len(sizes)))], rng)


def window(scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> Window:
    """A window of a size (width, height) that holds the first object; what it misses is gone."""
    places = []
    for axis, length in ((1, size[0]), (0, size[1])):
        seen = np.flatnonzero(scene.masks[0].any(1 - axis))
        low = max(0, int(seen[-1]) + 1 - length)
        high = min(scene.masks.shape[1] - length, int(seen[0]))
        start = int(rng.integers(low, high + 1))
        places.append(slice(start, start + length))
    columns, rows = places
    inside = scene.masks[:, rows, columns]
    left = np.flatnonzero(inside.any((1, 2)))
    front = np.zeros(inside.shape[1:], np.uint8)
    for number, index in enumerate(left, start=1):  # what is seen of them: no two overlap
        front[inside[index]] = number
    cut = inside[left].sum((1, 2)) < scene.masks[left].sum((1, 2))
    return Window(scene.pixels[rows, columns], front, scene.materials[left], cut)

"""Five templated captions for a scene, saying only what is to be seen in it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from bench.data.mini.layout import Scene
from bench.data.mini.materials import MATERIALS

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def captions(scene: Scene) -> list[str]:
    """Five sentences, as COCO has them; the largest object comes first in each that names it."""
    things = [
        f"{DIGITS[digit]} made of {MATERIALS[material].name}"
        for digit, material in zip(scene.digits, scene.materials, strict=True)
    ]
    main, others = things[0], things[1:]
    material = MATERIALS[scene.materials[0]].name
    counted = Counter(MATERIALS[i].name for i in scene.materials)
    seen = [name if many == 1 else f"{name} ({many} times)" for name, many in counted.items()]
    return [
        f"A large {main} with {_listed(['a small ' + thing for thing in others])}.",
        f"There are {DIGITS[len(things)]} handwritten digits in the picture.",
        f"A {main} in the {_where(scene)} of the picture.",
        f"Digits cut out of {_listed(seen)} on a soft background.",
        f"The largest of the digits is made of {material}.",
    ]


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _where(scene: Scene) -> str:
    """The third of the picture, by rows and columns, that holds the largest object's middle."""
    side = scene.masks.shape[1]
    y, x = np.nonzero(scene.masks[0])
    row = ("top", "", "bottom")[min(2, int(3 * y.mean() / side))]
    column = ("left", "", "right")[min(2, int(3 * x.mean() / side))]
    return " ".join(word for word in (row, column) if word) or "middle"

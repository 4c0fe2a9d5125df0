"""Photographs with masks on them, at the size at which figures draw them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures

from bench.figures._sheet import Image, Mask, grey, resized

LONG = 420  # pixels of the long side
SMALL = 100  # pixels; the pixels of smaller images are shown as squares
TINT, EDGE = 0.55, 1  # share of a mask's colour, and its border in pixels

Layer = tuple[Mask, npt.NDArray[Any]]  # a mask of any size, and its RGB colour in [0, 1]


def at_size(image: Pictures.Image, long_px: int = LONG) -> Image:
    """A photograph whose long side has `long_px` pixels."""
    longest = max(image.size)
    kind = Pictures.Resampling.NEAREST if longest < SMALL else Pictures.Resampling.LANCZOS
    size = tuple(max(1, round(side * long_px / longest)) for side in image.size)
    return np.asarray(image.convert("RGB").resize((size[0], size[1]), kind)) / 255


def painted(photo: Image, layers: Iterable[Layer], colours: float = 0.0) -> Image:
    """The photo under masks with their borders, the later ones on top.

    Args:
        photo: (h, w, 3).
        layers: masks, brought to the size of the photo, and their colours.
        colours: share of its own colours that the photo keeps.
    """
    found = colours * photo + (1 - colours) * grey(photo)  # (h, w, 3)
    under = found
    for mask, colour in layers:
        inside = resized(mask, photo.shape[:2])
        found = np.where(inside[..., None], TINT * colour + (1 - TINT) * under, found)
        found = np.where(border(inside, EDGE)[..., None], colour, found)
    return np.asarray(found)


def border(mask: Mask, width: int) -> Mask:
    """The pixels of a mask that are at most `width` from its outside; the image has none."""
    from scipy.ndimage import binary_erosion

    return np.asarray(mask & ~binary_erosion(mask, iterations=width, border_value=1))

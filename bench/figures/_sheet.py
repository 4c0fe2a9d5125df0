"""A page whose parts are placed in inches, and how masks are drawn over a photograph."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Page

from bench.errors import SpecError
from bench.page import GREY, plain

Image = npt.NDArray[np.float64]  # (h, w, 3) in [0, 1]
Mask = npt.NDArray[np.bool_]  # (h, w)

MARGIN = 0.18  # inches
HEAD, LINE = 0.52, 0.135  # of a title and the space below its paragraph, of a paragraph's line
LETTERS, TITLE_LETTERS = 17, 8  # in an inch: of a paragraph in the mean, of a title at most
TALLEST = 300  # inches; the largest picture that matplotlib writes is 65,536 px high
DIMMED = 0.3  # share of the photo where a mask leaves it out


def lines(text: str, width: float) -> list[str]:
    """The lines of a paragraph of 8 points on a page of this width in inches."""
    return textwrap.wrap(plain(text, 1000), int((width - 2 * MARGIN) * LETTERS))


class Sheet:
    """A page on which things are placed in inches from the upper left corner.

    Raises:
        SpecError: it is taller than a picture can be.
    """

    def __init__(self, width: float, height: float) -> None:
        if height > TALLEST:
            raise SpecError(
                f"the picture would be {height:,.0f} inches tall, {TALLEST} at most: draw fewer "
                "images or fewer models at once"
            )
        self.width, self.height = width, height
        self.page = Page(figsize=(width, height))

    def write(self, text: str, left: float, top: float, **style: Any) -> None:
        """Text whose upper left corner is there; `ha="center"` its upper middle."""
        style = {"va": "top", "fontsize": 7.5, **style}
        self.page.text(left / self.width, 1 - top / self.height, text, **style)

    def head(self, title: str, text: str) -> None:
        """A title over a paragraph in grey: `HEAD` and a `LINE` for each of its `lines` tall."""
        title = plain(title, int((self.width - 2 * MARGIN) * TITLE_LETTERS))
        self.write(title, MARGIN, MARGIN, fontsize=12, fontweight="bold")
        top = MARGIN + 0.25
        for line in lines(text, self.width):
            self.write(line, MARGIN, top, fontsize=8, color=GREY)
            top += LINE

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """A frame for an image, without ticks."""
        x, y = left / self.width, 1 - (top + height) / self.height
        axes = self.page.add_axes((x, y, width / self.width, height / self.height))
        axes.set_xticks([])
        axes.set_yticks([])
        return axes


def fill(axes: Axes, image: npt.NDArray[Any], **style: Any) -> None:
    """An image that fills its panel, small ones in visible pixels; no frame around it."""
    small = image.shape[1] < 96
    kind = "nearest" if small else "antialiased"
    axes.imshow(image, aspect="auto", interpolation=kind, **style)
    for spine in axes.spines.values():
        spine.set_visible(False)


def grey(photo: Image) -> Image:
    """The luminance (h, w, 1) of a photo, by the weights of BT.601."""
    return np.asarray(photo @ np.array([0.299, 0.587, 0.114]))[..., None]


def resized(values: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """(h, w, ...) values in `size` (height, width), each pixel the value that covers its centre."""
    rows, cols = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, values.shape, strict=False)
    )
    return np.asarray(values[rows][:, cols])


def lifted(photo: Image, mask: Mask) -> Image:
    """The photo where the mask is, pale and without colours elsewhere."""
    inside = resized(mask, photo.shape[:2])[..., None]
    return np.where(inside, photo, DIMMED * grey(photo) + (1 - DIMMED) * 0.9)

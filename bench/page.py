"""How figures look: type, colours, and a page as bytes."""

from __future__ import annotations

import colorsys
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.figure import Figure as Page

GREY = "#5f6368"
PALE = "#a8b1ba"
BLUE = "#0072b2"

STYLE: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "svg.hashsalt": "sslbench",  # with no date, the same page gives the same bytes
    "svg.fonttype": "path",
}


@contextmanager
def style() -> Iterator[None]:
    """Within, pages look alike; a letter that the font lacks is drawn as a box."""
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def png(page: Page, dpi: int = 200) -> bytes:
    """The page as pixels."""
    buffer = io.BytesIO()
    page.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def svg(page: Page) -> bytes:
    """The page as shapes."""
    buffer = io.BytesIO()
    page.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "sslbench"})
    return buffer.getvalue()


def plain(text: str, length: int = 60) -> str:
    """Text as it is, in one line: a dollar sign would start a formula.

    Bytes of file names that are no UTF-8, which no font can draw, become question marks.
    """
    text = " ".join(text.split()).encode("utf-8", "replace").decode()
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.replace("$", r"\$")


def distinct_colours(count: int) -> npt.NDArray[np.float64]:
    """(count, 3) RGB in [0, 1]; neighbours in the list lie far apart in hue and in lightness."""
    colours = []
    for index in range(count):
        hue = (0.58 + index * 0.618034) % 1  # the golden angle never comes back to a hue
        value, saturation = ((0.95, 0.75), (0.72, 0.90), (1.0, 0.45))[index % 3]
        colours.append(colorsys.hsv_to_rgb(hue, saturation, value))
    return np.array(colours).reshape(count, 3)

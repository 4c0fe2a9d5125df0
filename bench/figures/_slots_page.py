"""The page of the figure `slots`: tiles of images, placed to the hundredth of an inch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Page
from matplotlib.patches import Rectangle

from bench.figures._sheet import Image, Mask, grey, lifted, resized
from bench.page import GREY, distinct_colours, plain

if TYPE_CHECKING:
    from bench.figures.slots import Found

Lines = list[list[tuple[float, float]]]

WIDTH, MARGIN, GAP = 7.2, 0.12, 0.05  # inches
LARGEST_TILE = 2.3
TITLE, HEADING, CHIP = 0.27, 0.20, 0.18  # heights of lines of text
TINT = 0.62  # share of the colour in a map


def slots_page(found: Found, shown: int, prototypes: int, segments: int) -> Page:
    """Photos over their maps, and below a column of segments for each prototype."""
    shown, columns = min(shown, len(found.names)), found.order[:prototypes]
    ranked = {k: found.segments(k, segments) for k in columns}
    rows = max(len(images) for images in ranked.values())
    colour = colours_of(found, shown, columns)
    upper, lower = tile(shown), tile(len(columns))
    height = (
        2 * MARGIN + TITLE + 2 * HEADING + 0.08 + CHIP + 2 * (upper + GAP) + rows * (lower + GAP)
    )
    page = Page(figsize=(WIDTH, height))

    def place(left: float, top: float, side: float) -> Axes:
        axes = page.add_axes((left / WIDTH, 1 - (top + side) / height, side / WIDTH, side / height))
        axes.set_axis_off()
        return axes

    def write(text: str, left: float, top: float, **style: object) -> None:
        page.text(left / WIDTH, 1 - top / height, text, va="top", **style)  # type: ignore[arg-type]

    top = MARGIN
    write(plain(found.model.name), MARGIN, top, fontsize=11, fontweight="bold")
    write(summary(found), WIDTH - MARGIN, top + 0.03, ha="right", fontsize=8, color=GREY)
    top += TITLE
    write("Images, and the prototype that each patch is closest to", MARGIN, top, fontsize=8.5)
    top += HEADING
    for i in range(shown):
        left = MARGIN + i * (upper + GAP)
        photo = found.pixels[i] / 255
        show(place(left, top, upper), photo)
        draw_map(place(left, top + upper + GAP, upper), photo, found.maps[i], colour)
    top += 2 * (upper + GAP) + 0.08
    write(
        "Most used prototypes, and the images where each wins the most", MARGIN, top, fontsize=8.5
    )
    top += HEADING
    for c, k in enumerate(columns):
        left = MARGIN + c * (lower + GAP)
        share = found.use[k] / found.maps.size
        chip = (left / WIDTH, 1 - (top + 0.12) / height, 0.10 / WIDTH, 0.10 / height)
        page.add_artist(Rectangle(chip[:2], *chip[2:], color=colour[k], transform=page.transFigure))
        write(f"{k}", left + 0.15, top + 0.015, fontsize=7.5)
        write(
            f"{100 * share:.1f} %", left + lower, top + 0.015, fontsize=7.5, ha="right", color=GREY
        )
        for r, segment in enumerate(ranked[k]):
            axes = place(left, top + CHIP + r * (lower + GAP), lower)
            won = found.maps[segment.image] == k
            draw_segment(axes, found.pixels[segment.image] / 255, won, colour[k])
    return page


def tile(count: int) -> float:
    """Side in inches of one of `count` tiles in a row."""
    return min(LARGEST_TILE, (WIDTH - 2 * MARGIN - (count - 1) * GAP) / count)


def summary(found: Found) -> str:
    """What was looked at, in a line."""
    s, (h, w) = found.pixels.shape[1], found.maps.shape[1:]
    return (
        f"{len(found.order)} of {found.count} prototypes in use on {len(found.names)} images "
        f"of {s} px ({h} x {w} patches)"
    )


def colours_of(found: Found, shown: int, columns: list[int]) -> dict[int, Image]:
    """A colour for each prototype that is seen, the most used ones the furthest apart."""
    seen = set(np.unique(found.maps[:shown]).tolist()) | set(columns)
    ranked = [k for k in found.order if k in seen]
    return dict(zip(ranked, distinct_colours(len(ranked)), strict=True))


def show(axes: Axes, image: Image) -> None:
    """An image whose lower right corner has the coordinates (width, height)."""
    h, w = image.shape[:2]
    axes.imshow(image, extent=(0, w, h, 0), interpolation="nearest" if w < 96 else "antialiased")


def draw_map(
    axes: Axes, photo: Image, prototypes: npt.NDArray[np.int64], colour: dict[int, Image]
) -> None:
    """The photo in grey under the colour of each patch's prototype, with borders between them."""
    size = len(photo)
    tint = np.stack([[colour[k] for k in row] for row in prototypes.tolist()])  # (h, w, 3)
    show(axes, TINT * resized(tint, photo.shape[:2]) + (1 - TINT) * grey(photo))
    outline(axes, borders(prototypes, size), "white", 0.8, len(prototypes))


def draw_segment(axes: Axes, photo: Image, won: Mask, colour: Image) -> None:
    """The surroundings of the patches that were won, the others dimmed, their border in colour."""
    size = len(photo)
    show(axes, lifted(photo, won))
    top, left, side = square(won)
    outline(axes, borders(won, size), colour, 1.2, side)
    step = size / len(won)
    axes.set_xlim(left * step, (left + side) * step)
    axes.set_ylim((top + side) * step, top * step)


def outline(axes: Axes, lines: Lines, colour: object, points: float, patches: int) -> None:
    """Lines of at most `points`, and less where `patches` a side leave them little room."""
    room = axes.get_window_extent().width / axes.figure.dpi * 72 / patches
    width = min(points, 0.16 * room)
    axes.add_collection(LineCollection(lines, colors=[colour], linewidths=width))


def borders(values: npt.NDArray[Any], size: int) -> Lines:
    """Lines in pixels between neighbouring patches of different value."""
    y, x = size / values.shape[0], size / values.shape[1]
    right = np.argwhere(values[:, 1:] != values[:, :-1])
    below = np.argwhere(values[1:] != values[:-1])
    upright = [[((c + 1) * x, r * y), ((c + 1) * x, (r + 1) * y)] for r, c in right]
    level = [[(c * x, (r + 1) * y), ((c + 1) * x, (r + 1) * y)] for r, c in below]
    return upright + level


def square(won: Mask) -> tuple[int, int, int]:
    """Top, left and side in patches of the square around the won patches, with a margin.

    It is at least a third of the image wide, so that what a single patch is part of can be seen.
    """
    n = len(won)
    (top, left), (bottom, right) = np.argwhere(won).min(0), np.argwhere(won).max(0) + 1
    side = min(n, max(bottom - top + 2, right - left + 2, -(-n // 3)))
    middle = (top + bottom) / 2, (left + right) / 2
    corner = [min(max(round(m - side / 2), 0), n - side) for m in middle]
    return int(corner[0]), int(corner[1]), int(side)

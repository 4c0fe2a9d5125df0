"""The page of the figure `neighbours`: a row of tiles for each query, placed in inches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Page

from bench.figures._sheet import Sheet
from bench.page import GREY, plain

if TYPE_CHECKING:
    from bench.figures._gallery import Found, Neighbour, Pixels, Query

TILE, GAP, MARGIN = 0.98, 0.10, 0.18  # inches
APART = 0.30  # between a query and its neighbours
TITLE, HEADING, CAPTION = 0.50, 0.42, 0.42  # heights of text
NARROWEST = 5.6
DRAWN = 16  # neighbours
LETTERS = 16  # of a class under a tile

# Of Okabe and Ito's colours, told apart by colour-blind readers; a mark and the line say it too.
SAME, OTHER = "#009e73", "#d55e00"
MARKS = {True: "✓", False: "✗"}


def neighbours_page(found: Found, drawn: Sequence[Query], k: int) -> Page:
    """Rows of queries without verdict, then right ones, then wrong ones, each under a heading."""
    groups = [
        (kind, rows)
        for kind in (None, True, False)
        if (rows := [query for query in drawn if query.right is kind])
    ]
    columns = max(1, *(min(DRAWN, len(query.neighbours)) for query in drawn))
    width = max(NARROWEST, 2 * MARGIN + TILE + APART + columns * (TILE + GAP) - GAP)
    height = 2 * MARGIN + TITLE + len(groups) * HEADING + len(drawn) * (TILE + CAPTION)
    page = Sheet(width, height)
    page.write(plain(found.model.name), MARGIN, MARGIN, fontsize=12, fontweight="bold")
    page.write(plain(caption(found, k), 150), MARGIN, MARGIN + 0.25, fontsize=8.5, color=GREY)
    top = MARGIN + TITLE
    for kind, rows in groups:
        page.write(heading(found, kind), MARGIN, top + 0.15, fontsize=9.5, fontweight="bold")
        top += HEADING
        for query in rows:
            draw_row(page, found, query, top)
            top += TILE + CAPTION
    return page.page


def draw_row(page: Sheet, found: Found, query: Query, top: float) -> None:
    """A query, its class and what was voted, and its neighbours."""
    axes = page.panel(MARGIN, top, TILE, TILE)
    show(axes, query.pixels)
    frame(axes, None)
    middle, below = MARGIN + TILE / 2, top + TILE + 0.045
    centred: dict[str, Any] = {"ha": "center"}
    if query.label:
        page.write(plain(query.label, LETTERS), middle, below, fontweight="bold", **centred)
    if query.voted:
        mark = f" {MARKS[query.right]}" if query.right is not None else ""
        text = f"→ {plain(query.voted, LETTERS)}{mark}"
        line = below + (0.135 if query.label else 0)
        page.write(text, middle, line, color=colour(query.right), **centred)
    if not query.neighbours:
        left = MARGIN + TILE + APART
        page.write("no other image to compare with", left, top + TILE / 2, color=GREY)
    for place, neighbour in enumerate(query.neighbours[:DRAWN]):
        left = MARGIN + TILE + APART + place * (TILE + GAP)
        same = neighbour.label == query.label if known(query, neighbour) else None
        axes = page.panel(left, top, TILE, TILE)
        show(axes, found.gallery.pixels(neighbour.row))
        frame(axes, same)
        middle, line = left + TILE / 2, below
        if neighbour.label:
            mark = f"{MARKS[same]} " if same is not None else ""
            text = f"{mark}{plain(neighbour.label, LETTERS)}"
            page.write(text, middle, line, color=colour(same), **centred)
            line += 0.135
        page.write(f"{neighbour.cosine:.3f}", middle, line, color=GREY, **centred)


def known(query: Query, neighbour: Neighbour) -> bool:
    """Whether it can be told if both are of one class."""
    return bool(neighbour.label) and query.right is not None


def show(axes: Axes, pixels: Pixels) -> None:
    """An image that fills its tile."""
    small = len(pixels) < 96
    axes.imshow(np.asarray(pixels), interpolation="nearest" if small else "antialiased")


def frame(axes: Axes, same: bool | None) -> None:
    """A solid line around the same class, a dashed one around another, a thin one else."""
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_edgecolor(colour(same) if same is not None else GREY)
        spine.set_linewidth(0.6 if same is None else 2.2)
        spine.set_linestyle((0, (2.2, 1.1)) if same is False else "solid")
        spine.set_capstyle("butt")


def colour(verdict: bool | None) -> str:
    """The colour of right, wrong, or neither."""
    return "black" if verdict is None else SAME if verdict else OTHER


def heading(found: Found, kind: bool | None) -> str:
    """What the rows below have in common."""
    if kind is None:
        return "Neither right nor wrong: without a class that could be compared"
    judged = [query.right for query in found.queries if query.right is not None]
    share = judged.count(kind) / len(judged)
    count = f"{judged.count(kind):,} of {len(judged):,} images ({100 * share:.0f} %)"
    return f"{'Right' if kind else 'Wrong'}: the vote of {count}"


def caption(found: Found, k: int) -> str:
    """What is shown, in a line."""
    nearest = f"{k} nearest" + (f" ({DRAWN} drawn)" if k > DRAWN else "")
    text = (
        f"Each image and its {nearest} among {found.gallery.title}, by the cosine of {found.token}"
    )
    voted = any(query.voted for query in found.queries)
    judged = any(query.right is not None for query in found.queries)
    return text + "; → their vote" * voted + ", ✓ its class, ✗ another class" * judged

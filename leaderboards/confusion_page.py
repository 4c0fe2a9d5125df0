"""The picture of a confusion matrix: right in blue, wrong in orange, each row a true class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Page

from bench.page import BLUE, GREY, plain, png, style
from bench.records import Result
from leaderboards.columns import columns_of
from leaderboards.confusion import Confusion

ORANGE, PALE_ORANGE = "#d55e00", "#f3b98d"
COUNTED = 25  # classes up to which the counts are written into the matrix
NAMED = 60  # classes up to which all have their names at the axes
FILLED = 250  # classes up to which a cell is wide enough to be filled
PAIRS = 25  # confusions listed beside a matrix without counts
GAMMA = 0.6  # of the shade, so that a share of a few per cent is seen
LONGEST = 22  # letters of a class name

Image = npt.NDArray[np.float64]


def draw(confusion: Confusion, result: Result) -> bytes:
    """The picture as PNG: with counts for a few classes, else with the worst confusions beside."""
    with style():
        few = len(confusion.names) <= COUNTED
        return png(_with_counts(confusion, result) if few else _with_pairs(confusion, result))


def _with_counts(confusion: Confusion, result: Result) -> Page:
    classes = len(confusion.names)
    side = max(2.6, 0.36 * classes)
    page = Page(figsize=(max(5.4, side + 2.9), side + 2.5))
    page.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    axes = page.add_subplot()
    _matrix(axes, confusion)
    _names(axes, confusion)
    largest = int(confusion.counts.max())
    size = min(9.0, 14.0 / max(2, len(str(largest))) + 2.0)
    for (row, column), count in np.ndenumerate(confusion.counts):
        if count:
            dark = confusion.shares[row, column] > 0.38
            colour = "white" if dark else "black"
            axes.text(
                column, row, f"{count}", ha="center", va="center", fontsize=size, color=colour
            )
    _title(page, confusion, result)
    _legend(axes)
    return page


def _with_pairs(confusion: Confusion, result: Result) -> Page:
    page = Page(figsize=(12.4, 8.0))
    page.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    left, right = page.subplots(1, 2, width_ratios=(2.0, 1.0))
    _matrix(left, confusion)
    _names(left, confusion)
    _bars(right, confusion)
    _title(page, confusion, result)
    _legend(left)
    return page


def _matrix(axes: Axes, confusion: Confusion) -> None:
    classes = len(confusion.names)
    if classes > FILLED:
        _dots(axes, confusion.shares)
    else:
        axes.imshow(shades(confusion.shares), interpolation="nearest")
    if classes <= NAMED:
        edges = np.arange(classes + 1) - 0.5
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", color="#e4e6e8", linewidth=0.6)
    axes.set_xlabel("predicted class\n(full colour: all samples of the true class)")
    axes.set_ylabel("true class")
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.tick_params(which="both", length=0)


def _dots(axes: Axes, shares: Image) -> None:
    """A dot for each pair that occurs: cells of so many classes would be smaller than a pixel."""
    classes = len(shares)
    true, predicted = np.nonzero(shares)
    order = np.argsort(shares[true, predicted], kind="stable")  # the darkest on top
    true, predicted = true[order], predicted[order]
    share = shares[true, predicted]
    wrong = true != predicted
    size = np.where(wrong, 1.0 + 70 * share, 4.0)  # square points
    colours = shades(shares)[true, predicted]
    axes.scatter(predicted, true, size, colours, linewidths=0)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    axes.set_aspect("equal")


def shades(shares: Image) -> Image:
    """(c, c, 3) RGB: white for nothing, full colour for a whole row, blue on the diagonal."""
    right = np.eye(len(shares), dtype=bool)[..., None]
    full = np.where(right, to_rgb(BLUE), to_rgb(ORANGE))
    strength = (shares**GAMMA)[..., None]
    return np.asarray(1 - strength * (1 - full))


def _names(axes: Axes, confusion: Confusion) -> None:
    """Names at the axes, of some classes where there are many; samples behind the true ones."""
    classes, totals = len(confusion.names), confusion.counts.sum(1)
    step = 1 if classes <= NAMED else -(-classes // 20)
    places = range(0, classes, step)
    size = 9.0 if classes <= COUNTED else 7.5 if classes > NAMED else 6.5
    names = [plain(confusion.names[place], LONGEST) for place in places]
    counted = [f"{name} ({totals[place]})" for name, place in zip(names, places, strict=True)]
    axes.set_xticks(places, names, rotation=90, fontsize=size)
    axes.set_yticks(places, counted, fontsize=size)


def _bars(axes: Axes, confusion: Confusion) -> None:
    """The classes confused most often, as bars of their share of the true class."""
    pairs, totals = confusion.pairs(PAIRS), confusion.counts.sum(1)
    axes.set_title("Confused most often", loc="left", fontsize=10.5, fontweight="bold")
    axes.set_axis_off()
    if not pairs:
        axes.text(0, 1, "nothing is confused", transform=axes.transAxes, va="top")
    for place, (true, predicted) in enumerate(pairs):
        count, total = confusion.counts[true, predicted], totals[true]
        names = [plain(confusion.names[index], LONGEST) for index in (true, predicted)]
        axes.barh(place, 1, 0.8, color="#f4f5f6")
        axes.barh(place, count / total, 0.8, color=PALE_ORANGE)
        text = f"{names[0]} → {names[1]}"
        axes.text(0.015, place, text, va="center_baseline", fontsize=8)
        text = f"{count} of {total}"
        axes.text(0.985, place, text, va="center_baseline", ha="right", fontsize=8, color=GREY)
    axes.set_xlim(0, 1)
    axes.set_ylim(PAIRS - 0.5, -0.5)


def _title(page: Page, confusion: Confusion, result: Result) -> None:
    (column,) = columns_of([result]).values()
    score = column.show(result.metrics[result.headline].value)
    score = f"{column.unit.replace(' %', '')} {score}" + " %" * column.percent
    out = f", {confusion.left_out:,} without a class left out" if confusion.left_out else ""
    count = f"{confusion.right:,} of {confusion.samples:,} right{out}"
    name = plain(str(result.model["name"]), 70)
    text = f"{name}\n{plain(result.task_spec, 60)}: {score}, {count}"
    page.suptitle(text, x=0.02, ha="left", fontsize=10.5)


def _legend(axes: Axes) -> None:
    """Two scales of the shade above the matrix."""
    ramp = (np.linspace(0, 1, 101) ** GAMMA)[None, :, None]
    for left, colour, text in ((0.0, BLUE, "right"), (0.32, ORANGE, "wrong")):
        bar = axes.inset_axes((left, 1.02, 0.12, 0.022))
        bar.imshow(1 - ramp * (1 - np.array(to_rgb(colour))), aspect="auto")
        bar.set_axis_off()
        axes.annotate(
            text,
            (left + 0.135, 1.031),
            xycoords="axes fraction",
            va="center",
            fontsize=8,
        )

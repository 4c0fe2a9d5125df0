"""Draws a curve with matplotlib: log x axis, error bars, fitted laws, readable at README size."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from leaderboards.power_law import FARTHEST, PowerLaw
from leaderboards.series import Curve, Series

# Okabe and Ito's colours, told apart by colour-blind readers; yellow is left out (pale on white),
# and every series has a marker of its own besides. Behind the seventh, colours come again with
# other markers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "<", ">")
GREY = "#5f6368"
PANELS_ACROSS = 3

STYLE: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "svg.hashsalt": "sslbench",  # with no date, the same curve gives the same bytes
    "svg.fonttype": "path",
}


def draw(curves: Sequence[Curve], png: Path, svg: Path) -> None:
    """Writes the picture twice: PNG (1,440 pixels wide for one curve), and SVG."""
    with rc_context(STYLE), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; that must not stop a run.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = picture(curves)
        figure.savefig(png, dpi=200, metadata={"Software": None})
        figure.savefig(svg, metadata={"Date": None, "Creator": "sslbench"})


def picture(curves: Sequence[Curve]) -> Figure:
    """The figure of one curve, or of several as panels; as high as its legend needs.

    In panels a method has one colour and marker everywhere, and the laws' coefficients are left to
    the table beside the picture.
    """
    names = list(dict.fromkeys(series.label for curve in curves for series in curve.series))
    floor = any(curve.baseline is not None for curve in curves)
    across = 2 if len(curves) == 4 else min(len(curves), PANELS_ACROSS)
    down = -(-len(curves) // across)
    width = 7.2 if len(curves) == 1 else 4.6 * across
    lines = len(names) + floor
    figure = Figure(figsize=(width, (4.7 if down == 1 else 3.9 * down) + 0.23 * lines))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)  # inches of air at the edges
    handles: dict[str, Artist] = {}
    for place, curve in enumerate(curves, 1):
        axes = figure.add_subplot(down, across, place)
        axes.set_xscale("log" if curve.log else "linear")
        for series in curve.series:
            index = names.index(series.label)
            drawn = _series(axes, curve, series, *_look(index))
            handles.setdefault(_label(series, laws=len(curves) == 1), drawn)
        if curve.baseline is not None:
            drawn_floor = _baseline(axes, curve)
        _axes(axes, curve, short=len(curves) > 1)
    if floor:
        handles["random weights"] = drawn_floor
    law = r"error$(n) = c + b\,n^{-a}$, with $c = 0$ where not given"
    # Below the axes a long legend hides no point; the footnote ends it, so that nothing overlaps.
    legend = figure.legend(
        [*handles.values(), Line2D([], [], linestyle="none")],
        [*handles, _footnote(curves)],
        title=law if any(series.law for curve in curves for series in curve.series) else None,
        loc="outside lower left",
        alignment="left",
        frameon=False,
        fontsize=10.5,
        title_fontsize=10.5,
    )
    legend.get_texts()[-1].set(fontsize=8.5, color=GREY)
    return figure


def _look(index: int) -> tuple[str, str]:
    """Colour and marker of a series; the first 49 differ from one another."""
    again, place = divmod(index, len(COLOURS))
    return COLOURS[place], MARKERS[(place + again) % len(MARKERS)]


def _series(axes: Axes, curve: Curve, series: Series, colour: str, marker: str) -> Line2D:
    scale = _scale(curve)
    x = np.array([point for point, _ in series.points])
    y = np.array([cell.value for _, cell in series.points]) * scale
    bands = np.array([cell.band for _, cell in series.points]).T * scale  # (2, p)
    axes.errorbar(
        x,
        y,
        yerr=np.abs(bands - y),
        fmt=marker,
        color=colour,
        markersize=7,
        markeredgecolor="white",
        elinewidth=1.4,
        capsize=3,
        zorder=3,
    )
    if series.law is None:
        axes.plot(x, y, color=colour, linewidth=1.2, linestyle=":", zorder=2)
    else:
        _law(axes, curve, series.law, colour)
    return Line2D([], [], color=colour, marker=marker, markersize=7, markeredgecolor="white")


def _law(axes: Axes, curve: Curve, law: PowerLaw, colour: str) -> None:
    """Solid within the data, dashed to twice the largest size, nothing beyond; shaded: its band."""
    within = np.geomspace(law.smallest, law.largest, 100)
    beyond = np.geomspace(law.largest, law.largest * FARTHEST * (1 - 1e-9), 20)
    for sizes, style in ((within, "-"), (beyond, (0, (3, 2)))):
        error = law.error(sizes)
        score = error if curve.column.lower_is_better else 1 - error
        axes.plot(sizes, score * _scale(curve), color=colour, linestyle=style, linewidth=1.8)
    sizes = np.concatenate([within, beyond])
    if (band := law.band(sizes)) is not None:
        ends = [end if curve.column.lower_is_better else 1 - end for end in band]
        low, high = (end * _scale(curve) for end in ends)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.12, linewidth=0, zorder=1)


def _baseline(axes: Axes, curve: Curve) -> Patch:
    assert curve.baseline is not None
    low, high = (end * _scale(curve) for end in curve.baseline.band)
    axes.axhspan(low, high, color=GREY, alpha=0.18, linewidth=0, zorder=0)
    axes.axhline(curve.baseline.value * _scale(curve), color=GREY, linewidth=1, zorder=1)
    return Patch(facecolor=GREY, alpha=0.35)


def _axes(axes: Axes, curve: Curve, short: bool) -> None:
    column = curve.column
    if curve.log:
        _log_ticks(axes, curve, short)
    label = curve.x_label.partition(" (")[0] if short else curve.x_label
    axes.grid(axis="y", color="#e4e6e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{label} (log scale)" if curve.log else label)
    axes.set_ylabel(_plain(f"{column.task} {column.unit.replace(' %', ' (%)')}"))
    title = column.task + f" on {column.dataset}" * (column.dataset != column.task)
    title += f", {column.options}" * bool(column.options)
    title = _plain(_shorter(title, 40 if short else 80))
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", pad=10)
    # A band may be far wider than what was measured.
    values = [end for one in curve.series for _, cell in one.points for end in cell.band]
    values += curve.baseline.band if curve.baseline is not None else ()
    low, high = min(values) * _scale(curve), max(values) * _scale(curve)
    room = 0.15 * (high - low) or 1.0
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, low - room), min(top, high + room))


def _log_ticks(axes: Axes, curve: Curve, short: bool) -> None:
    """A tick at each size where the numbers fit, else at the decades."""
    sizes = sorted({x for series in curve.series for x, _ in series.points})
    apart = np.diff(np.log(sizes)) / np.log(sizes[-1] / sizes[0])
    # Else the numbers would touch.
    fits = len(sizes) <= (5 if short else 8) and apart.min() > (0.13 if short else 0.08)
    decades = np.log10(sizes[-1] / sizes[0])
    steps = (1, 2, 5) if decades <= 2 else (1, 3) if decades <= 3.5 else (1,)
    axes.xaxis.set_major_locator(FixedLocator(sizes) if fits else LogLocator(subs=steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: quantity(x)))


def quantity(value: float) -> str:
    """A count as an axis shows it: 500, 2,000, 50k, 1.28M, 2.4B."""
    if value >= 1e13:
        power = int(np.floor(np.log10(value)))
        return f"{value / 10.0**power:.3g}e{power}"
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= unit:
            step = 1e3 if name == "k" else unit
            return (
                f"{value / step:.3g}{name}" if value / step < 1000 else f"{value / step:.0f}{name}"
            )
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def _label(series: Series, laws: bool) -> str:
    law = f":  {series.law}" if laws and series.law is not None else ""
    return f"{_plain(_shorter(series.label, 48))}{law}"


def _footnote(curves: Sequence[Curve]) -> str:
    shown = [series for curve in curves for series in curve.series]
    several = any(cell.seeds > 1 for series in shown for _, cell in series.points)
    notes = ["bars: 95 % interval" + (" and range of seeds" if several else "")]
    if any(series.law for series in shown):
        notes += ["±: standard error"] * (len(curves) == 1)
        notes.append(f"\nshaded: 95 % band of the law; dashed: read up to {FARTHEST:g}x further")
    if any(curve.column.mini for curve in curves):
        notes.append("\nthe mini benchmark is one of the harness, not of the methods")
    return "; ".join(notes).replace("; \n", "\n")


def _scale(curve: Curve) -> float:
    return 100.0 if curve.column.percent else 1.0


def _plain(text: str) -> str:
    # A dollar sign would start a formula.
    return " ".join(text.split()).replace("$", r"\$")


def _shorter(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"

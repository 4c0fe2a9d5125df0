"""Series and laws for the page of curves; their points are the cells of the board."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from bench.summary import Summary, number
from leaderboards.cells import pretraining
from leaderboards.columns import Column
from leaderboards.power_law import FARTHEST, PowerLaw
from leaderboards.ranking import Board
from leaderboards.series import AXES, grouped, is_random, law_through

LAWS = 100  # a second of fits; more are left to `sslbench curve`
_WITHIN, _BEYOND = 24, 6  # points of a law's line within its data, and further out


def curve_data(board: Board) -> dict[str, Any]:
    """The axes that have a curve, each with its series, and the laws of each column.

    A series is a label and (x, position of the row) of its models; `floor` lists the rows of random
    weights. Of all laws the first `LAWS` are fitted, column by column; `left_out`: there are more.
    """
    firsts = [next(c.results[0] for c in row.cells if c is not None) for row in board.rows]
    axes = {x: series for x in AXES if (series := _series(firsts, x))}
    wanted = _fits(board, axes)
    laws: dict[int, dict[str, dict[int, Any]]] = {}
    for j, x, i, points in islice(wanted, LAWS):
        column = board.columns[j]
        if (law := law_through(points, column)) is not None:
            laws.setdefault(j, {}).setdefault(x, {})[i] = law_data(law, column)
    return {
        "axes": [{"name": x, "title": AXES[x], "series": series} for x, series in axes.items()],
        "laws": laws,
        "left_out": next(wanted, None) is not None,
        "floor": [i for i, result in enumerate(firsts) if is_random(result)],
    }


def _series(firsts: Sequence[Summary], x: str) -> list[dict[str, Any]]:
    """The series over an axis; none where no series has two places on it."""
    rows = {id(result): i for i, result in enumerate(firsts)}
    known = [r for r in firsts if (number(pretraining(r).get(x)) or 0) > 0]
    series = [
        {
            "label": label,
            "points": sorted((float(pretraining(r)[x]), rows[id(r)]) for r in members),
        }
        for label, members in grouped(known, x)
    ]
    several = any(len({size for size, _ in one["points"]}) > 1 for one in series)
    return series if several else []


def _fits(
    board: Board, axes: dict[str, list[dict[str, Any]]]
) -> Iterator[tuple[int, str, int, list[tuple[float, Any]]]]:
    """(column, axis, series, points) wherever a law can be asked for."""
    for j in range(len(board.columns)):
        for x, series in axes.items():
            for i, one in enumerate(series):
                cells = [(size, board.rows[row].cells[j]) for size, row in one["points"]]
                points = [(size, cell) for size, cell in cells if cell is not None]
                if len({size for size, _ in points}) > 1:
                    yield j, x, i, points


def law_data(law: PowerLaw, column: Column) -> dict[str, Any]:
    """The law in words and as a line, in the unit of the column's values.

    `x`, `y`, `low`, `high` run over the data (`within` points of them) and on to `FARTHEST` times
    the largest size; `low` and `high` are empty where the band is not known.
    """
    sizes = np.concatenate(
        [
            np.geomspace(law.smallest, law.largest, _WITHIN),
            np.geomspace(law.largest, law.largest * FARTHEST * (1 - 1e-9), _BEYOND),
        ]
    )
    error, band = law.error(sizes), law.band(sizes)
    ends = () if band is None else band if column.lower_is_better else (1 - band[1], 1 - band[0])
    line = error if column.lower_is_better else 1 - error
    low, high = ([float(f"{v:.5g}") for v in end] for end in ends or ((), ()))
    return {
        "text": str(law),
        "within": _WITHIN,
        "x": [float(f"{v:.6g}") for v in sizes],
        "y": [float(f"{v:.5g}") for v in line],
        "low": low,
        "high": high,
    }

"""All cells of a board at once: what `aggregate` does for one, and the places in each column."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bench.summary import Setting, Summary
from leaderboards.aggregation import Cell
from leaderboards.cells import chosen_on_test
from leaderboards.columns import Column, ColumnKey
from leaderboards.places import Floats, places

Array = npt.NDArray[Any]
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Grid:
    """Models x columns.

    Attributes:
        cells: for each model one for each column, None where it was not measured.
        rank: (models, columns) places; a missing cell counts as the last place.
        first: the best places that the bands allow.
        last: the worst.
        relative: scores relative to the best of their column; NaN where there is none.
    """

    cells: list[tuple[Cell | None, ...]]
    rank: Floats
    first: Floats
    last: Floats
    relative: Floats


def grid_of(models: Sequence[Sequence[Summary]], columns: Mapping[ColumnKey, Column]) -> Grid:
    """The cells of models, each given by its results, in the columns."""
    shape = height, width = len(models), len(columns)
    results = [result for found in models for result in found]
    settings, setting = _numbered([result.setting for result in results])
    numbers = {key: number for number, key in enumerate(columns)}
    column = np.array([numbers[one.measurement] for one in settings])[setting]
    row = np.repeat(np.arange(height), [len(found) for found in models])
    keys, found = _aggregated(results, row * width + column, settings, setting)
    rows, placed = keys // width, keys % width
    low = np.fmin(found["low"], found["seed_low"])  # of the bands; passes over NaN
    high = np.fmax(found["high"], found["seed_high"])
    rank, first, last = (np.full(shape, float(height)) for _ in range(3))
    relative = np.full(shape, np.nan)
    found["tied_with_best"], found["group"] = np.zeros(len(keys), bool), np.zeros(len(keys), int)
    for j, column_ in enumerate(columns.values()):
        at = np.flatnonzero(placed == j)
        value, lower = found["value"][at], column_.lower_is_better
        own = places(value, low[at], high[at], lower)
        rank[rows[at], j], first[rows[at], j], last[rows[at], j] = own.rank, own.first, own.last
        relative[rows[at], j] = _relative(value, lower)
        found["tied_with_best"][at], found["group"][at] = own.tied, own.group
    lists = [_plain(found[name]) for name in Cell._fields]
    flat: list[Cell | None] = [None] * (height * width)
    for key, cell in zip(keys.tolist(), map(Cell._make, zip(*lists, strict=True)), strict=True):
        flat[key] = cell
    cells = [tuple(flat[i : i + width]) for i in range(0, len(flat), width)]
    return Grid(cells, rank, first, last, relative)


def _aggregated(
    results: Sequence[Summary], cell: Array, settings: Sequence[Setting], setting: Array
) -> tuple[Array, dict[str, Any]]:
    """The numbers of the cells that have results, sorted, and the fields of `Cell` for each.

    `cell` numbers the cell of each result, `setting` its setting.
    """
    _, training = _numbered([result.weights for result in results])
    order = np.lexsort((training, cell))
    results = [results[i] for i in order.tolist()]
    cell, training, setting, n = cell[order], training[order], setting[order], len(results)
    is_first = np.diff(cell, prepend=-1) != 0
    starts = np.flatnonzero(is_first)  # of each cell
    parts = np.flatnonzero(is_first | (np.diff(training, prepend=-1) != 0))  # of each training
    of_cell = np.searchsorted(parts, starts)  # where the trainings of each cell start
    sizes, counts = np.diff(starts, append=n), np.diff(of_cell, append=len(parts))

    def means(numbers: Array) -> Floats:
        return np.asarray(np.add.reduceat(numbers, parts) / np.diff(parts, append=n))

    def balanced(means: Floats) -> Floats:
        return np.asarray(np.add.reduceat(means, of_cell) / counts)

    value = np.array([r.value for r in results])
    low = balanced(means(np.array([r.low for r in results], np.float64)))  # None becomes NaN,
    high = balanced(means(np.array([r.high for r in results], np.float64)))  # which spreads
    seeds, seed = _numbered([one.seed for one in settings])
    chosen = np.array([chosen_on_test(one) for one in settings])[setting]
    pairs = np.unique(cell * len(seeds) + seed[setting])  # of a cell and one of its seeds
    of_training = means(value)
    return cell[starts], {
        "value": balanced(of_training),
        "low": np.where(np.isnan(high), np.nan, low),
        "high": np.where(np.isnan(low), np.nan, high),
        "seed_low": np.minimum.reduceat(value, starts),
        "seed_high": np.maximum.reduceat(value, starts),
        "seeds": sizes,
        "selected_on_test": np.logical_or.reduceat(chosen, starts),
        "results": [tuple(results[a : a + k]) for a, k in zip(starts, sizes, strict=True)],
        "trainings": counts,
        "evaluations": np.unique(pairs // len(seeds), return_counts=True)[1],
        "training_low": np.minimum.reduceat(of_training, of_cell),
        "training_high": np.maximum.reduceat(of_training, of_cell),
    }


def _relative(value: Floats, lower_is_better: bool) -> Floats:
    """The scores relative to the best one, in [0, 1]; NaN where the column has no such scale."""
    best = value.min() if lower_is_better else value.max()
    if value.min() < 0 or best <= 0:
        return np.full(len(value), np.nan)
    return np.asarray(best / value if lower_is_better else value / best)


def _numbered(values: Sequence[T]) -> tuple[list[T], Array]:
    """The different values in the order in which they come, and the number of each of (n,)."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return list(numbers), np.array([numbers[value] for value in values])


def _plain(column: Array | list[Any]) -> list[Any]:
    """The column as a list of Python's own values, None for NaN."""
    if isinstance(column, list):
        return column
    values: list[Any] = column.tolist()
    if column.dtype.kind == "f" and np.isnan(column).any():
        return [None if value != value else value for value in values]
    return values

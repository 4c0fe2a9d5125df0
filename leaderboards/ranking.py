"""The leaderboard itself: models by task headlines, with intervals, ties, seeds, ranks and costs.

Two means sum a model up, and neither is the truth (most neighbours on a leaderboard cannot be told
apart, and no mean over tasks is neutral):

- *Mean rank*, over all columns; a missing cell counts as the last place, so that nothing is gained
  by leaving out the hard tasks. It says nothing of distances, and beside it stand the means of the
  best and the worst places that the intervals allow.
- *Mean score*, of the scores relative to the best of their column (the best over the score, where
  smaller is better), over the cells that the model has, and beside it stands how many. Relative to
  the best alone: min-max and random-to-best scales hang on the worst model or on a baseline near
  the best, so that adding a weak model would change what all others get. A column with a score
  below zero, or of which the best is zero, has no such scale and is left out. It is the arithmetic
  mean: a geometric one would make one failed robot task a zero overall.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack, cast

import numpy as np

from bench.errors import StoreError, nearest
from bench.failures import Failure, failures
from bench.store import Store
from bench.summary import Summary
from leaderboards.aggregation import Cell, aggregate
from leaderboards.board_notes import notes_of
from leaderboards.columns import Column, ColumnKey, columns_of
from leaderboards.expense import Expense, expense_of, pareto
from leaderboards.grid import grid_of
from leaderboards.models import models_of
from leaderboards.selection import Filters, select

__all__ = ["Board", "Cell", "Row", "aggregate", "board"]


@dataclass(frozen=True)
class Row:
    """One model, over all its seeds.

    Attributes:
        name: without the seed, where there are several.
        model: the stored record of its first result.
        cells: one for each column, None where it was not measured.
        ranks: its place in each column.
        mean_rank: their mean.
        rank_range: mean of the best and of the worst places that the intervals allow.
        score: mean of its scores relative to the best of their columns, in [0, 1].
        score_over: of how many cells.
        expense: what it cost.
        pareto: whether no model ranks as high for as few pre-training FLOPs.
    """

    name: str
    model: dict[str, Any]
    cells: tuple[Cell | None, ...]
    ranks: tuple[float, ...]
    mean_rank: float
    rank_range: tuple[float, float]
    score: float | None
    score_over: int
    expense: Expense
    pareto: bool = False

    @property
    def filled(self) -> int:
        """How many of the board's columns this model has."""
        return sum(cell is not None for cell in self.cells)


@dataclass(frozen=True)
class Board:
    """Rows in order, columns, and how they were ordered (`"rank"`, `"model"`, ... or a column).

    Attributes:
        problems: the store's words for results that could not be read, or contradict each other.
        failures: cells that failed when they were tried last.
        filters: what was asked for, in words; empty when everything was.
        models: how many models were ranked, of which `rows` may be the first only.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sort: str
    problems: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    filters: str = ""
    models: int = 0

    @property
    def cells(self) -> int:
        """The number of filled cells."""
        return sum(row.filled for row in self.rows)

    @property
    def mini(self) -> bool:
        """True when at least one column was measured on the mini benchmark."""
        return any(column.mini for column in self.columns)

    def notes(self, tied: str, group: str = "", front: str = "") -> list[str]:
        """What a reader must know to read the numbers.

        `tied`, `group` and `front` say how ties with the best, tie groups and models that nobody
        beats at their cost are marked; what is empty is not marked.
        """
        return notes_of(self, tied, group, front)


def board(
    store: Store,
    *,
    sort: str = "rank",
    top: int | None = None,
    verify: bool = False,
    **filters: Unpack[Filters],
) -> Board:
    """The headline of every result in `store` that passes the filters, as models x columns.

    Args:
        store: the results.
        sort: "rank" (mean rank, best first), "score" (mean score), "flops", "views", "model" (by
            name), or a column's label or task name.
        top: keep so many rows; the ranks are those among all.
        verify: read every folder instead of trusting the index.
        filters: see `Filters`.

    Results of one model that differ in a seed only (of the evaluation, or of the pre-training when
    the record carries it) become one cell. Results whose protocol, task version or data differ
    never share a column.

    Raises:
        StoreError: no result is left, or `sort` or a filter names nothing.
    """
    results = select(store, verify=verify, **filters)
    columns = columns_of(results)
    rows = _ordered(_rows(models_of(results), columns), tuple(columns.values()), sort)
    return Board(
        tuple(columns.values()),
        tuple(rows[:top]),
        sort,
        tuple(store.problems),
        tuple(_failed(store, results, any(filters.values()))),
        _in_words(filters),
        len(rows),
    )


def _rows(
    models: Sequence[tuple[str, list[Summary]]], columns: Mapping[ColumnKey, Column]
) -> list[Row]:
    grid = grid_of([found for _, found in models], columns)
    means = grid.rank.mean(axis=1).tolist()
    firsts, lasts = grid.first.mean(axis=1).tolist(), grid.last.mean(axis=1).tolist()
    over = (~np.isnan(grid.relative)).sum(axis=1)
    scores = np.nansum(grid.relative, axis=1) / np.maximum(over, 1)
    expenses = [expense_of(found) for _, found in models]
    front = pareto([expense.flops for expense in expenses], means)
    compared = sum(expense.flops is not None for expense in expenses) > 1
    return [
        Row(
            name=name,
            model=found[0].model,
            cells=grid.cells[i],
            ranks=tuple(grid.rank[i].tolist()),
            mean_rank=means[i],
            rank_range=(firsts[i], lasts[i]),
            score=float(scores[i]) if over[i] else None,
            score_over=int(over[i]),
            expense=expenses[i],
            pareto=compared and front[i],
        )
        for i, (name, found) in enumerate(models)
    ]


def _failed(store: Store, results: Sequence[Summary], filtered: bool) -> list[Failure]:
    """The failures that belong to what is shown."""
    found = failures(store.root)
    if not (found and filtered):
        return found
    tasks = {result.task_spec for result in results}
    models = {str(result.model["name"]) for result in results}
    return [one for one in found if one.task in tasks and one.model in models]


def _in_words(filters: Filters) -> str:
    """`tasks knn, linear; budget flops<1e18`."""
    given = [
        f"{name.replace('_', ' ')} {', '.join(cast(Sequence[str], patterns))}"
        for name, patterns in filters.items()
        if patterns
    ]
    return "; ".join(given)


def _ordered(rows: list[Row], columns: Sequence[Column], sort: str) -> list[Row]:
    def least(value: float | None) -> float:
        return math.inf if value is None else value

    keys: dict[str, Callable[[Row], tuple[float, ...]]] = {
        "rank": lambda row: (row.mean_rank,),
        "score": lambda row: (-(row.score or 0),),
        "flops": lambda row: (least(row.expense.flops), row.mean_rank),
        "views": lambda row: (least(row.expense.views), row.mean_rank),
        "model": lambda row: (),
    }
    if key := keys.get("rank" if sort == "mean rank" else sort):
        return sorted(rows, key=lambda row: (key(row), row.name))
    found = [j for j, column in enumerate(columns) if sort in (column.label, column.task)]
    if len(found) != 1:
        valid = [*keys, *(column.label for column in columns)]
        problem = "names several columns" if found else "names no column"
        raise StoreError(f"--sort {sort!r} {problem}; {nearest(sort, valid)}")
    j = found[0]
    return sorted(rows, key=lambda row: (row.ranks[j], row.cells[j] is None, row.name))

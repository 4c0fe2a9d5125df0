"""The leaderboard itself: models by task headlines, with intervals, ties, seeds and ranks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.errors import StoreError, nearest
from bench.records import Metric, Result
from bench.stats import intervals_overlap
from bench.store import Store
from leaderboards.cells import MINI_NOTE, pretraining, selected_on_test
from leaderboards.columns import Column, column_key, columns_of
from leaderboards.models import models_of
from leaderboards.selection import select


@dataclass(frozen=True)
class Cell:
    """One score: the mean over its seeds.

    `low` and `high` are the sampling interval (averaged over seeds, because seeds share the test
    samples and averaging does not shrink that part), `seed_low` and `seed_high` the range of the
    seeds. Two cells are tied when their `band`s, which cover both, overlap.
    """

    value: float
    low: float | None
    high: float | None
    seed_low: float
    seed_high: float
    seeds: int
    selected_on_test: bool
    results: tuple[Result, ...]
    tied_with_best: bool = False

    @property
    def band(self) -> tuple[float, float]:
        """The smallest range that holds both the interval and every seed."""
        low = self.seed_low if self.low is None else min(self.low, self.seed_low)
        high = self.seed_high if self.high is None else max(self.high, self.seed_high)
        return low, high


@dataclass(frozen=True)
class Row:
    """One model, over all its seeds; `model` is the stored record of its first result."""

    name: str
    model: dict[str, Any]
    cells: tuple[Cell | None, ...]
    ranks: tuple[float, ...]

    @property
    def filled(self) -> int:
        """How many of the board's columns this model has."""
        return sum(cell is not None for cell in self.cells)

    @property
    def mean_rank(self) -> float:
        """Mean over the columns; a missing cell counts as the last place."""
        return sum(self.ranks) / len(self.ranks)


@dataclass(frozen=True)
class Board:
    """Rows in order, columns, and how they were ordered (`"rank"`, `"model"` or a column).

    `problems` are the store's words for the results that could not be read.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sort: str
    problems: tuple[str, ...] = ()

    @property
    def cells(self) -> int:
        """The number of filled cells."""
        return sum(row.filled for row in self.rows)

    @property
    def mini(self) -> bool:
        """True when at least one column was measured on the mini benchmark."""
        return any(column.mini for column in self.columns)

    def notes(self, tied: str) -> list[str]:
        """What a reader must know to read the numbers; `tied` says how ties are marked."""
        cells = [cell for row in self.rows for cell in row.cells if cell is not None]
        order = f"Mean rank over {len(self.columns)} columns; a missing cell counts as last."
        notes = [f"{self.cells} of {len(self.rows) * len(self.columns)} cells. {order}"]
        notes.append("[low, high]: 95 % interval over the test samples.")
        notes.append(f"{tied}: not separable from the best of its column, the intervals overlap.")
        if any(cell.seeds > 1 for cell in cells):
            notes.append("Several seeds: the mean, then the range of the seeds.")
        if any(column.lower_is_better for column in self.columns):
            notes.append("↓: smaller is better.")
        if any(cell.selected_on_test for cell in cells):
            notes.append(
                "†: something was chosen on the split that is reported; "
                "not comparable with scores chosen on held-out training data."
            )
        collapsed = {
            row.name: str(why)
            for row in self.rows
            for cell in row.cells
            if cell is not None
            for result in cell.results
            if (why := pretraining(result).get("collapsed"))
        }
        for name, why in collapsed.items():
            notes.append(f"{name} collapsed in pre-training: {why}.")
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            notes.append(f"Left out, not readable: {self.problems[0]}{more}")
        return notes + ([MINI_NOTE] if self.mini else [])


def board(
    store: Store,
    *,
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    sort: str = "rank",
) -> Board:
    """The headline of every result in `store`, as models x columns.

    Args:
        tasks: keep these only; a task name ("knn"), a whole spec, or a pattern ("*@coco*").
        models: keep these only; names or patterns ("slotmim*").
        sort: "rank" (mean rank, best first), "model" (by name), or a column's label or task name.

    Results of one model that differ in a seed only (of the evaluation, or of the pre-training when
    the record carries it) become one cell. Results whose protocol, task version or data differ
    never share a column.

    Raises:
        StoreError: no result is left, or `sort`, `tasks` or `models` name nothing.
    """
    results = select(store, tasks, models)
    by_key = columns_of(results)
    columns = tuple(by_key.values())
    index = {key: position for position, key in enumerate(by_key)}
    rows = []
    for name, members in models_of(results):
        cells: list[list[Result]] = [[] for _ in columns]
        for result in members:
            cells[index[column_key(result)]].append(result)
        filled = tuple(aggregate(found) if found else None for found in cells)
        rows.append(Row(name, members[0].model, filled, ranks=()))
    ordered = _ordered(_ranked(rows, columns), columns, sort)
    return Board(columns, tuple(ordered), sort, tuple(store.problems))


def aggregate(results: Sequence[Result]) -> Cell:
    """One cell from the results of one model in one column, a result for each seed."""
    metrics = [result.metrics[result.headline] for result in results]
    values = [metric.value for metric in metrics]
    lows = [metric.low for metric in metrics if metric.low is not None]
    highs = [metric.high for metric in metrics if metric.high is not None]
    whole = len(lows) == len(highs) == len(values)
    return Cell(
        value=sum(values) / len(values),
        low=sum(lows) / len(lows) if whole else None,
        high=sum(highs) / len(highs) if whole else None,
        seed_low=min(values),
        seed_high=max(values),
        seeds=len(values),
        selected_on_test=any(selected_on_test(result) for result in results),
        results=tuple(results),
    )


def _ranked(rows: list[Row], columns: Sequence[Column]) -> list[Row]:
    """`rows` with ranks (equal values share the mean of their places) and ties with the best."""
    cells = [list(row.cells) for row in rows]
    ranks = [[float(len(rows))] * len(columns) for _ in rows]
    for j, column in enumerate(columns):
        sign = 1 if column.lower_is_better else -1
        scores = {
            i: sign * cell.value for i, row in enumerate(rows) if (cell := row.cells[j]) is not None
        }
        best = rows[min(scores, key=scores.__getitem__)].cells[j]
        for i, score in scores.items():
            cell = rows[i].cells[j]
            assert cell is not None
            assert best is not None
            better = sum(other < score for other in scores.values())
            equal = sum(other == score for other in scores.values())
            ranks[i][j] = better + (equal + 1) / 2
            tied = intervals_overlap(Metric(cell.value, *cell.band), Metric(best.value, *best.band))
            cells[i][j] = replace(cell, tied_with_best=tied)
    return [
        replace(row, cells=tuple(cells[i]), ranks=tuple(ranks[i])) for i, row in enumerate(rows)
    ]


def _ordered(rows: list[Row], columns: Sequence[Column], sort: str) -> list[Row]:
    if sort in {"rank", "mean rank"}:
        return sorted(rows, key=lambda row: (row.mean_rank, row.name))
    if sort == "model":
        return sorted(rows, key=lambda row: row.name)
    found = [j for j, column in enumerate(columns) if sort in (column.label, column.task)]
    if len(found) != 1:
        valid = ["rank", "model", *(column.label for column in columns)]
        problem = "names several columns" if found else "names no column"
        raise StoreError(f"--sort {sort!r} {problem}; {nearest(sort, valid)}")
    j = found[0]
    return sorted(rows, key=lambda row: (row.ranks[j], row.cells[j] is None, row.name))

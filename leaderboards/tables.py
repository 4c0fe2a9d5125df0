"""A paper's table filled from the store: ours beside theirs, and why where the two do not compare.

Reads results only; `matrix` says what `bench.matrix` has to run so that a table is full.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from bench.failures import Failure, failures
from bench.index import summaries
from bench.matrix import canonical
from bench.store import Store
from bench.summary import Scored
from leaderboards.comparable import reasons_of
from leaderboards.conflicts import distinct
from leaderboards.measured import Value, derived, scores_of, specs_of, values_of
from leaderboards.models import without_seed
from leaderboards.paper import Column, FlopsRatio, Gain, Row, Scale, Table
from leaderboards.table_cells import TOLERANCE, Filled, FilledCell, FilledRow, Verdict, number
from leaderboards.table_rows import (
    Asked,
    ByModel,
    Wishes,
    matrix,
    row_name,
    sources_of,
    unseeded,
)

__all__ = ["Filled", "FilledCell", "FilledRow", "fill", "fill_from", "matrix", "row_name"]

LOST = "?"  # a printed cell that cannot be read
NOT_PRINTED = "the paper has no such number"
OTHER_DATA = "data: the mini benchmark, with small recipes"


def fill_from(
    store: Store,
    paper: str,
    table: Table,
    scale: Scale,
    *,
    tolerance: float = TOLERANCE,
    **wishes: Unpack[Wishes],
) -> Filled:
    """`fill` with the results and the failures of a store, and what of it cannot be used.

    Raises:
        SpecError: as `fill`; a model that is used for a row is nowhere.
    """
    found, contradictions = distinct(summaries(store), store.root)
    for used in (wishes.get("uses") or {}).values():
        sources_of(used, found)
    problems = (*store.problems, *contradictions)
    failed = failures(store.root)
    filled = fill(paper, table, scale, found, failed=failed, tolerance=tolerance, **wishes)
    return replace(filled, problems=problems)


def fill(
    paper: str,
    table: Table,
    scale: Scale,
    results: Sequence[Scored],
    *,
    failed: Sequence[Failure] = (),
    tolerance: float = TOLERANCE,
    **wishes: Unpack[Wishes],
) -> Filled:
    """The table with what the results hold of it.

    Args:
        paper: name of the paper.
        table: what is to be filled.
        scale: whose models and tasks are looked for.
        results: of a store.
        failed: cells that failed when they were tried last.
        tolerance: by which a published number may lie outside the interval of ours, in printed
            units, where its column does not say.
        **wishes: see `Wishes`.

    Raises:
        SpecError: a row or a column that the table does not have, or an option that is none.
    """
    asked = Asked(table, scale, **wishes)
    filling = _Filling(asked, results, failed, tolerance)
    shown = replace(table, columns=tuple(table.columns[place] for place in asked.positions))
    return Filled(paper, shown, scale, tuple(map(filling.line, asked.rows)))


class _Filling:
    """Fills the cells of one table."""

    def __init__(
        self, asked: Asked, results: Sequence[Scored], failed: Sequence[Failure], tolerance: float
    ) -> None:
        self._asked, self._failed, self._tolerance = asked, failed, tolerance
        models = ByModel(results)
        # Of all rows: a ratio may be over one that is not shown.
        self._own = {id(row): models.of(asked, row) for row in asked.table.rows}
        self._values = {
            row: values_of(asked.table, asked.scale, own) for row, own in self._own.items()
        }

    def line(self, row: Row) -> FilledRow:
        """One row."""
        own = self._own[id(row)]
        model = without_seed(str(own[0].model["name"])) if own else ""
        return FilledRow(
            row, model, tuple(self._cell(row, place) for place in self._asked.positions)
        )

    def _cell(self, row: Row, position: int) -> FilledCell:
        column = self._asked.table.columns[position]
        published = row.published[position] if row.published else ""
        ours = self._ours(row, position)
        cell = FilledCell(
            column,
            published,
            row.note(position),
            ours,
            reasons=() if ours is None else self._reasons(row, column, published, ours),
            missing="" if ours is not None else self._missing(row, column, published),
            tolerance=self._tolerance if column.tolerance is None else column.tolerance,
        )
        return replace(cell, verdict=_verdict(cell, row))

    def _ours(self, row: Row, position: int) -> Value | None:
        column = self._asked.table.columns[position]
        if scores_of(column):
            return self._values[id(row)].get(position)
        base = id(self._asked.base(row, column))
        own, values = self._own[id(row)], self._values[id(row)]
        return derived(self._asked.table, column, own, values, self._own[base], self._values[base])

    def _reasons(self, row: Row, column: Column, published: str, ours: Value) -> tuple[str, ...]:
        """Why the two numbers of a cell are not to be compared."""
        asked = self._asked
        if asked.scale == "mini":
            return (OTHER_DATA,)
        found = [text for text in (column.differs, row.differs) if text]
        if published not in ("", LOST) and number(published) is None:
            found.append("published: a word, not a number")
        expected = None
        if asked.used(row) is not None:
            expected = unseeded(canonical(row.train)) if row.train else ""
        elif row.train and (changed := [pair for pair in asked.sets if pair[0] != "seed"]):
            found.append(f"recipe: changed by {', '.join(map('='.join, changed))}")
        results = ours.results or self._own[id(row)][:1]
        found += reasons_of(results, column.measure, expected)
        return tuple(dict.fromkeys(found))

    def _missing(self, row: Row, column: Column, published: str) -> str:
        """Why a cell has no number of ours."""
        asked, measure = self._asked, column.measure
        if not published and not asked.table.axis:
            return NOT_PRINTED
        if measure is None:
            return "nothing here measures this"
        if asked.used(row) is None:
            if row.cited:
                return row.cited
            if not any(asked.model(row)):
                return f"no model at {asked.scale} scale"
        specs = specs_of(column, asked.scale)
        if scores_of(column) and not specs:
            return f"nothing at {asked.scale} scale is like it"
        relative = isinstance(measure, FlopsRatio | Gain) and bool(self._own[id(row)])
        if relative and not self._own[id(base := asked.base(row, column))]:
            return f"relative to {base.label}, which is not measured"
        return self._failure(row, specs) or "not measured"

    def _failure(self, row: Row, specs: Sequence[str]) -> str:
        """What went wrong when a task of the row's model was tried last; empty where nothing."""
        names = {str(result.model["name"]) for result in self._own[id(row)]}
        names |= {self._asked.used(row) or ""} - {""}
        train = "" if self._asked.used(row) else self._asked.trained(row)
        for failure in self._failed:
            if failure.task in specs and (
                {failure.model, failure.source} & names
                or (train and unseeded(failure.train) == train)
            ):
                return f"failed: {failure.error}"
        return ""


def _verdict(cell: FilledCell, row: Row) -> Verdict:
    if cell.ours is None:
        if cell.missing == NOT_PRINTED:
            return "-"
        cited = cell.column.measure is None or cell.missing == row.cited
        return "cited" if cited else "not measured"
    if not cell.published:
        return "measured"
    if cell.reasons:
        return "not comparable"
    if cell.note.startswith("uncertain") or cell.printed is None:
        return "uncertain"
    return "agrees" if cell.outside <= cell.tolerance else "differs"

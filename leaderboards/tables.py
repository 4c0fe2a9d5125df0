"""A paper's table filled from the store: ours beside theirs, and why where the two do not compare.

Reads results only; `matrix` says what `bench.matrix` has to run so that a table is full.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bench.failures import Failure, failures
from bench.index import summaries
from bench.matrix import Entry, Matrix, canonical
from bench.spec import Pairs, Spec, parse, with_options
from bench.store import Store
from bench.summary import Scored
from leaderboards.cell import of_model
from leaderboards.cells import pretraining
from leaderboards.comparable import reasons_of
from leaderboards.conflicts import distinct
from leaderboards.measured import Value, derived, specs_of, values_of
from leaderboards.models import without_seed
from leaderboards.paper import Column, Row, Scale, Score, Table

TOLERANCE = 1.0  # printed units

Verdict = Literal[
    "agrees", "differs", "not comparable", "uncertain", "measured", "not measured", "cited", "-"
]


@dataclass(frozen=True)
class FilledCell:
    """One cell of a table.

    Attributes:
        column: what it measures.
        published: as printed; empty where the paper has none.
        note: what is to be said of the printed cell.
        ours: None where nothing was measured.
        reasons: why ours and theirs are not to be compared; empty where they are.
        missing: why there is no number of ours; empty where there is one.
        verdict: see `Verdict`; "-" is a cell that the paper does not have, and nothing measured.
    """

    column: Column
    published: str
    note: str
    ours: Value | None
    reasons: tuple[str, ...]
    missing: str
    verdict: Verdict

    @property
    def printed(self) -> float | None:
        """The published number; None where it is lost, or no number."""
        return number(self.published)

    @property
    def difference(self) -> float | None:
        """Ours less theirs, in printed units."""
        if self.ours is None or self.printed is None:
            return None
        return self.ours.value - self.printed


@dataclass(frozen=True)
class FilledRow:
    """One line of a table; `model` names what stands for it in the store."""

    row: Row
    model: str
    cells: tuple[FilledCell, ...]


@dataclass(frozen=True)
class Filled:
    """A whole table; `paper` and `table.key` name it."""

    paper: str
    table: Table
    scale: Scale
    rows: tuple[FilledRow, ...]

    @property
    def name(self) -> str:
        """What the command calls it."""
        return f"{self.paper}/{self.table.key}"

    def cells(self) -> list[tuple[Row, FilledCell]]:
        """All cells, line by line."""
        return [(line.row, cell) for line in self.rows for cell in line.cells]


def number(published: str) -> float | None:
    """45.1 of "45.1", 3.3 of "~3.3x"; None of "?" and of words."""
    match = re.fullmatch(r"~?(-?\d+(?:\.\d+)?)x?", published)
    return float(match[1]) if match else None


# What is to be run


def matrix(
    table: Table,
    scale: Scale,
    *,
    uses: Mapping[str, str] | None = None,
    sets: Pairs = (),
    rows: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
) -> Matrix:
    """The models and tasks that fill a table; rows without a model at this scale are left out.

    Args:
        table: what is to be filled.
        scale: whose specs are taken.
        uses: label of a row -> model that stands for it.
        sets: options of all trainings, behind those of the rows.
        rows: labels to keep; all when empty.
        seeds: of the evaluation.
    """
    entries = []
    for row in table.rows:
        if rows and not {row.label, row_name(table, row)} & {*rows}:
            continue
        train, source = _model(row, scale, sets)
        if (used := _used(table, row, uses or {})) is not None:
            train, source = "", used
        # What a paper does not have is not asked for: it may be no question for the model.
        columns = [c for i, c in enumerate(table.columns) if table.axis or row.published[i]]
        tasks = tuple(dict.fromkeys(text for c in columns for text in specs_of(c, scale)))
        if tasks and (train or source):
            entries.append(Entry(row_name(table, row), tasks, train, source))
    return Matrix(tuple(entries), tuple(seeds))


def row_name(table: Table, row: Row) -> str:
    """The label, with what tells it from others of the same label."""
    twins = [other for other in table.rows if other.label == row.label]
    parts = [
        getattr(row, field) or getattr(table, field)
        for field in ("arch", "data", "epochs")
        if len({getattr(twin, field) or getattr(table, field) for twin in twins}) > 1
    ]
    return ", ".join([row.label, *filter(None, parts)])


def _model(row: Row, scale: Scale, sets: Pairs) -> tuple[str, str]:
    train, source = row.model(scale)
    return (with_options(train, sets) if train else ""), source


# What is there


def fill(
    paper: str,
    table: Table,
    scale: Scale,
    results: Sequence[Scored],
    *,
    uses: Mapping[str, str] | None = None,
    sets: Pairs = (),
    rows: Sequence[str] = (),
    failed: Sequence[Failure] = (),
    tolerance: float = TOLERANCE,
) -> Filled:
    """The table with what the results hold of it; arguments as in `matrix`.

    Args:
        results: of a store.
        failed: cells that failed when they were tried last.
        tolerance: by which a comparable cell may lie outside its interval, in printed units, where
            its column does not say.
    """
    uses = uses or {}
    # A ratio may be over a row that is not shown.
    found = [_results(table, row, scale, results, uses, sets) for row in table.rows]
    grid = [values_of(table, scale, own) for own in found]
    lines = []
    for index, row in enumerate(table.rows):
        if rows and not {row.label, row_name(table, row)} & {*rows}:
            continue
        own = found[index]
        cells = []
        for position, column in enumerate(table.columns):
            ours = grid[index].get(position)
            if own and not isinstance(column.measure, Score | tuple):
                base = _reference(table, row, column)
                ours = derived(table, column, own, grid[index], found[base], grid[base])
            reasons = _reasons(table, column, row, scale, own, ours, uses, sets)
            why = "" if ours else _missing(table, row, column, scale, own, uses, sets, failed)
            published = row.published[position] if row.published else ""
            cell = FilledCell(column, published, row.note(position), ours, reasons, why, "-")
            cells.append(_judged(cell, row, tolerance))
        model = str(own[0].model["name"]) if own else ""
        lines.append(FilledRow(row, without_seed(model), tuple(cells)))
    return Filled(paper, table, scale, tuple(lines))


def _reference(table: Table, row: Row, column: Column) -> int:
    """Index of the row that a column is relative to: of its label, and of this architecture."""
    label = getattr(column.measure, "row", row.label)
    named = [index for index, other in enumerate(table.rows) if other.label == label]
    alike = [index for index in named if table.rows[index].arch == row.arch]
    return (alike or named)[0]


def _used(table: Table, row: Row, uses: Mapping[str, str]) -> str | None:
    """The model that was put in for a row, by its whole name or its label."""
    return uses.get(row_name(table, row), uses.get(row.label))


def fill_from(store: Store, paper: str, table: Table, scale: Scale, **asked: Any) -> Filled:
    """`fill` with the results and the failures of a store."""
    found, _ = distinct(summaries(store), store.root)
    return fill(paper, table, scale, found, failed=failures(store.root), **asked)


def _results(
    table: Table,
    row: Row,
    scale: Scale,
    results: Sequence[Scored],
    uses: Mapping[str, str],
    sets: Pairs,
) -> list[Scored]:
    """The results of the row's model, all seeds."""
    if (used := _used(table, row, uses)) is not None:
        return of_model(results, used)
    train, source = _model(row, scale, sets)
    if source:
        stem = without_seed(source)
        return [r for r in results if without_seed(str(r.model.get("source"))) == stem]
    if not train:
        return []
    wanted = _unseeded(canonical(train))
    return [r for r in results if _unseeded(str(pretraining(r).get("spec") or "")) == wanted]


def _unseeded(train: str) -> str:
    if not train:
        return ""
    spec = parse(train)
    rest = tuple(pair for pair in spec.options if pair[0] != "seed")
    return str(Spec(spec.name, spec.dataset, rest))


def _missing(
    table: Table,
    row: Row,
    column: Column,
    scale: Scale,
    own: Sequence[Scored],
    uses: Mapping[str, str],
    sets: Pairs,
    failed: Sequence[Failure],
) -> str:
    """Why a cell has no number of ours; empty where the paper has none either."""
    if column.measure is None:
        return "nothing here measures this"
    used = _used(table, row, uses)
    if row.cited and used is None:
        return row.cited
    if used is None and not any(row.model(scale)):
        return f"no model at {scale} scale"
    specs = specs_of(column, scale)
    if isinstance(column.measure, Score | tuple) and not specs:
        return f"nothing at {scale} scale is like it"
    names = {str(r.model["name"]) for r in own} | {used or ""}
    train = _model(row, scale, sets)[0]
    train = train and _unseeded(canonical(train))
    for failure in failed:
        of_row = failure.model in names or (train and _unseeded(failure.train) == train)
        if failure.task in specs and of_row:
            return f"failed: {failure.error}"
    return "not measured"


def _reasons(
    table: Table,
    column: Column,
    row: Row,
    scale: Scale,
    own: Sequence[Scored],
    ours: Value | None,
    uses: Mapping[str, str],
    sets: Pairs,
) -> tuple[str, ...]:
    """Why the two numbers of a cell are not to be compared."""
    if ours is None:
        return ()
    if scale == "mini":
        return ("data: the mini benchmark, with small recipes",)
    used = _used(table, row, uses) is not None
    expected = (canonical(row.train) if row.train else "") if used else None
    changed = [] if used else [f"{key}={value}" for key, value in sets]
    found = [text for text in (column.differs, row.differs) if text]
    found += [f"recipe: changed by {', '.join(changed)}"] if changed and row.train else []
    results = ours.results or tuple(own[:1])
    found += reasons_of(results, column.measure, expected)
    return tuple(dict.fromkeys(found))


def _judged(cell: FilledCell, row: Row, tolerance: float) -> FilledCell:
    """The cell with its verdict."""
    verdict: Verdict
    if cell.ours is None:
        nothing = not cell.published and not row.cited
        verdict = "cited" if row.cited or cell.column.measure is None else "not measured"
        return replace(cell, verdict="-" if nothing and cell.column.measure is None else verdict)
    if not cell.published:
        verdict = "measured"
    elif cell.reasons:
        verdict = "not comparable"
    elif cell.note.startswith("uncertain") or cell.printed is None:
        verdict = "uncertain"
    else:
        allowed = tolerance if cell.column.tolerance is None else cell.column.tolerance
        low = cell.ours.value if cell.ours.low is None else cell.ours.low
        high = cell.ours.value if cell.ours.high is None else cell.ours.high
        outside = max(low - cell.printed, cell.printed - high, 0.0)
        verdict = "agrees" if outside <= allowed else "differs"
    return replace(cell, verdict=verdict)

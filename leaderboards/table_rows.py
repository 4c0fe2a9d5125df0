"""The rows and columns of a table that are asked for, the models behind them, their results."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypedDict, Unpack

from bench import registry
from bench.errors import SpecError, nearest
from bench.matrix import Entry, Matrix, canonical
from bench.spec import Pairs, with_options
from bench.summary import Scored
from leaderboards.cell import of_model
from leaderboards.measured import specs_of
from leaderboards.models import trained_as, without_seed
from leaderboards.models import unseeded as unseeded  # tables.py takes it from here
from leaderboards.paper import Column, FlopsRatio, Gain, Row, Scale, Table


class Wishes(TypedDict, total=False):
    """How a table is wanted.

    Attributes:
        uses: name or label of a row -> model that stands for it: a name in the store or a source.
        sets: options of all trainings, behind those of the rows.
        rows: names or labels to show; all when empty.
        columns: names, tasks or metrics to show; all when empty.
    """

    uses: Mapping[str, str]
    sets: Pairs
    rows: Sequence[str]
    columns: Sequence[str]


class Asked:
    """A table at a scale, as it is wanted.

    Attributes:
        rows: of the table, those to be shown.
        positions: of the columns to be shown.

    Raises:
        SpecError: a row or a column that the table does not have.
    """

    def __init__(self, table: Table, scale: Scale, **wishes: Unpack[Wishes]) -> None:
        self.table, self.scale = table, scale
        self.uses, self.sets = wishes.get("uses") or {}, wishes.get("sets") or ()
        rows, columns = wishes.get("rows") or (), wishes.get("columns") or ()
        self._names = {id(row): row_name(table, row) for row in table.rows}
        for wanted in (rows, self.uses):
            _refuse_unknown("row", wanted, row_names(table))
        titles = {name: None for c in table.columns for name in (c.name, c.task, c.metric)}
        _refuse_unknown("column", columns, titles)
        self.rows = [r for r in table.rows if not rows or {r.label, self.name(r)} & {*rows}]
        self.positions = [
            position
            for position, c in enumerate(table.columns)
            if not columns or {c.name, c.task, c.metric} & {*columns}
        ]

    def name(self, row: Row) -> str:
        """The row's label, with what tells it from others of the same label."""
        return self._names[id(row)]

    def used(self, row: Row) -> str | None:
        """The model that was put in for a row, by its name or else its label."""
        return self.uses.get(self.name(row), self.uses.get(row.label))

    def model(self, row: Row) -> tuple[str, str]:
        """(training spec, source) of the row's own model; both empty where it has none."""
        train, source = row.model(self.scale)
        return (with_options(train, self.sets) if train else ""), source

    def trained(self, row: Row) -> str:
        """What the row's own model is trained from, canonically and without a seed."""
        train, _ = self.model(row)
        return unseeded(canonical(train)) if train else ""

    def base(self, row: Row, column: Column) -> Row:
        """The row that a column is relative to: of its label, and of this row's architecture."""
        measure = column.measure
        label = measure.row if isinstance(measure, FlopsRatio | Gain) else row.label
        named = [other for other in self.table.rows if other.label == label]
        return next((other for other in named if other.arch == row.arch), named[0])

    def tasks(self, row: Row) -> tuple[str, ...]:
        """Specs of the tasks that the row's cells need.

        What a paper does not have is not asked for: it may be no question for the model.
        """
        shown = [self.table.columns[position] for position in self.positions]
        gained = {n for c in shown if isinstance(c.measure, Gain) for n in c.measure.columns}
        wanted = [
            column
            for position, column in enumerate(self.table.columns)
            if (position in self.positions or column.name in gained)
            and (self.table.axis or row.published[position])
        ]
        return tuple(dict.fromkeys(text for c in wanted for text in specs_of(c, self.scale)))


def matrix(
    table: Table,
    scale: Scale,
    *,
    seeds: Sequence[int] = (0,),
    results: Sequence[Scored] = (),
    **wishes: Unpack[Wishes],
) -> Matrix:
    """The models and tasks that fill a table; rows without a model at this scale are left out.

    Args:
        table: what is to be filled.
        scale: whose specs are taken.
        seeds: of the evaluation.
        results: of the store, where models that are used for rows may be found by name.
        **wishes: see `Wishes`.

    Raises:
        SpecError: a row or a column that the table does not have, or a model that is nowhere.
    """
    asked = Asked(table, scale, **wishes)
    entries = []
    for row in asked.rows:
        train, source = asked.model(row)
        sources = [source] if source else []
        if (used := asked.used(row)) is not None:
            train, sources = "", sources_of(used, results)
        if tasks := asked.tasks(row):
            entries += [Entry(asked.name(row), tasks, train)] if train else []
            entries += [Entry(asked.name(row), tasks, source=source) for source in sources]
    return Matrix(tuple(entries), tuple(seeds))


def left_out(table: Table, scale: Scale, **wishes: Unpack[Wishes]) -> dict[str, str]:
    """Name of a row that `matrix` leaves out -> why."""
    asked = Asked(table, scale, **wishes)
    found = {}
    for row in asked.rows:
        if asked.used(row) is not None:
            continue
        if not any(asked.model(row)):
            found[asked.name(row)] = row.cited or f"no model at {scale} scale"
        elif not asked.tasks(row):
            found[asked.name(row)] = f"no task at {scale} scale is like its columns"
    return found


class ByModel:
    """Results by how a table may name their model."""

    def __init__(self, results: Sequence[Scored]) -> None:
        self._results = results

    def of(self, asked: Asked, row: Row) -> list[Scored]:
        """The results of the row's model, all seeds."""
        if (used := asked.used(row)) is not None:
            return of_model(self._results, used)
        _, source = asked.model(row)
        return self._named.get(without_seed(source) or asked.trained(row), [])

    @cached_property
    def _named(self) -> dict[str, list[Scored]]:
        """By source and by training spec, less their seeds."""
        names: dict[int, set[str]] = {}  # results of one model share its record
        found: dict[str, list[Scored]] = {}
        for result in self._results:
            if (record := id(result.model)) not in names:
                source = without_seed(str(result.model.get("source") or ""))
                names[record] = {source, *trained_as(result)[:1]} - {""}
            for name in names[record]:
                found.setdefault(name, []).append(result)
        return found


def row_name(table: Table, row: Row) -> str:
    """The label, with what tells it from others of the same label."""
    twins = [other for other in table.rows if other.label == row.label]
    parts = [
        getattr(row, field) or getattr(table, field)
        for field in ("arch", "data", "epochs")
        if len({getattr(twin, field) or getattr(table, field) for twin in twins}) > 1
    ]
    return ", ".join([row.label, *filter(None, parts)])


def row_names(table: Table) -> list[str]:
    """What rows can be asked for by: labels, and names where several have one label."""
    return list(dict.fromkeys(n for row in table.rows for n in (row.label, row_name(table, row))))


def sources_of(used: str, results: Sequence[Scored]) -> list[str]:
    """What stands for a row, as `sslbench eval` takes it; empty where only its results are left.

    Raises:
        SpecError: it is neither a source nor a model in the store.
    """
    if _is_source(used):
        return [used]
    if found := of_model(results, used):
        sources = dict.fromkeys(str(result.model.get("source")) for result in found)
        return [source for source in sources if _is_source(source)]
    names = {without_seed(str(result.model["name"])) for result in results}
    raise SpecError(
        f"--use {used}: neither a path, nor PREFIX:NAME, nor a model in the store; "
        f"{nearest(used, names)}"
    )


def _is_source(text: str) -> bool:
    prefixed = text.partition(":")[0] in registry.names("family") and ":" in text
    return prefixed or Path(text.partition("?")[0]).exists()


def _refuse_unknown(what: str, wanted: Iterable[str], known: Collection[str]) -> None:
    for name in wanted:
        if name not in known:
            raise SpecError(f"no {what} {name!r} in this table; {nearest(name, known)}")

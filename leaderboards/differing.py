"""The samples on which two models differ: a list for other programs, and a sheet of pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import SpecError, StoreError, nearest
from bench.figure import files_of, publish
from bench.records import Array, Outcome
from bench.store import Store
from leaderboards.cell import of_task
from leaderboards.cells import lower_is_better
from leaderboards.compare import cells
from leaderboards.difference import Cell, Misfit
from leaderboards.pairing import paired, sides
from leaderboards.predictions import class_names, is_class


@dataclass(frozen=True, eq=False)
class Differing:
    """One cell of each model, and the samples whose values differ.

    Attributes:
        cells: A's and B's, samples in the same order.
        rows: of the samples; those on which A is better first, each half by falling difference.
        better: (rows,) whether it is A that is better.
    """

    cells: tuple[Cell, Cell]
    rows: Array
    better: Array

    @classmethod
    def of(cls, pair: tuple[Cell, Cell]) -> Differing:
        """The samples of aligned cells; SpecError where the outcomes have no values."""
        columns = [cell.outcome.columns.get("value") for cell in pair]
        if columns[0] is None or columns[1] is None:
            raise SpecError(
                f"{pair[0].result.task_spec} keeps no value of each sample: nothing to list"
            )
        gain = columns[0].astype(np.float64) - columns[1].astype(np.float64)
        if lower_is_better(pair[0].result.headline):
            gain = -gain
        gain = np.nan_to_num(gain)
        order = np.lexsort((-np.abs(gain), gain < 0))  # equal ones stay in the order of the ids
        rows = order[gain[order] != 0]
        return cls(pair, rows, gain[rows] > 0)

    @property
    def of_hits(self) -> bool:
        """Whether all that differs is right on one side and wrong on the other."""
        values = [cell.outcome.columns["value"][self.rows] for cell in self.cells]
        return bool(np.isin(values, (0, 1)).all())

    def csv(self) -> bytes:
        """A line a sample: who is better, what it is, and what each said of it."""
        outcomes = [cell.outcome for cell in self.cells]
        shown: dict[str, Sequence[object]] = {
            "id": self._texts(outcomes[0], "id"),
            "better": ["A" if a else "B" for a in self.better.tolist()],
        }
        shown |= self._column(outcomes[0], "target", "target")
        for side, outcome in zip("AB", outcomes, strict=True):
            shown |= self._column(outcome, "prediction", f"{side}_prediction")
        for side, outcome in zip("AB", outcomes, strict=True):
            shown |= self._column(outcome, "value", f"{side}_value")
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(shown)
        writer.writerows(zip(*shown.values(), strict=True))
        return stream.getvalue().encode("utf-8", "surrogateescape")

    def _column(self, outcome: Outcome, column: str, name: str) -> dict[str, Sequence[object]]:
        """The column and its class names; nothing where the outcome has no such column."""
        values = outcome.columns.get(column)
        if values is None or values.ndim != 1:
            return {}
        found: dict[str, Sequence[object]] = {name: self._texts(outcome, column)}
        if column != "value" and is_class(values):
            found[f"{name}_class"] = self.classes(outcome, column)
        return found

    def classes(self, outcome: Outcome, column: str) -> list[str]:
        """Names of the classes in a column of a cell; empty where unknown."""
        names = class_names(outcome)
        numbers = outcome.columns[column][self.rows].tolist()
        return [names[number] if 0 <= number < len(names) else "" for number in numbers]

    def _texts(self, outcome: Outcome, column: str) -> list[object]:
        found: list[object] = outcome.columns[column][self.rows].tolist()
        return found


def write(
    store: Store, first: str, second: str, task: str, out: Path, data: Path | None = None
) -> list[Path]:
    """Writes `out`.csv and, where the data are given, the sheet `out`.png; the paths.

    Raises:
        StoreError: no such model or cell, or a file is there already.
        SpecError: several cells fit, or they cannot be compared.
        DataError: the data are not there, or not those that were evaluated.
    """
    found = _find(store, first, second, task)
    paths = files_of(out, (".csv", ".png") if data is not None else (".csv",))
    files = {paths[".csv"]: found.csv()}
    if data is not None:
        from leaderboards.differing_sheet import draw

        files[paths[".png"]] = draw(found, data)
    publish(files)
    return list(files)


def _find(store: Store, first: str, second: str, task: str) -> Differing:
    """The one pair of cells; errors list what there is."""
    both = sides(store, first, second)
    columns = both[0].by_column.keys() & both[1].by_column.keys()
    common = [r for side in both for key in columns for r in side.by_column[key]]
    fitting = of_task(common, task)
    if not fitting:
        specs = {result.task_spec for result in common}
        raise StoreError(f"no cell {task} of both models; {nearest(task, specs)}")
    if len(several := sorted({result.task_spec for result in fitting})) > 1:
        raise SpecError(f"{task} is several cells, name one of {', '.join(several)}")
    chosen = {id(result) for result in fitting}
    halves = [[r for r in side.results if id(r) in chosen] for side in both]
    try:
        pairs = paired(*halves)
        if len(pairs) > 1:
            names = sorted({str(result.model["name"]) for pair in pairs for result in pair})
            raise SpecError(f"{task}: {len(pairs)} pairs of seeds, name two of {', '.join(names)}")
        return Differing.of(cells(store, pairs[0]))
    except Misfit as error:
        raise SpecError(f"{task} cannot be compared: {error}") from error

"""What a filled table is made of: rows of cells with ours beside theirs, and how they compare."""

import re
from dataclasses import dataclass
from typing import Literal

from leaderboards.measured import Value
from leaderboards.paper import Column, Row, Scale, Table

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
        tolerance: what theirs may lie outside the interval of ours, in printed units.
        verdict: "measured" has nothing published beside it; "-" is neither measured nor published.
    """

    column: Column
    published: str
    note: str
    ours: Value | None
    reasons: tuple[str, ...]
    missing: str
    tolerance: float = TOLERANCE
    verdict: Verdict = "-"

    @property
    def printed(self) -> float | None:
        """The published number; None where it is lost, or no number."""
        return number(self.published)

    @property
    def difference(self) -> float | None:
        """Ours less theirs, in printed units; None where the two are not to be compared."""
        if self.verdict not in ("agrees", "differs") or self.ours is None or self.printed is None:
            return None
        return self.ours.value - self.printed

    @property
    def outside(self) -> float:
        """How far theirs lies outside the interval of ours, in printed units; 0 within it."""
        if self.ours is None or self.printed is None:
            return 0.0
        low = self.ours.value if self.ours.low is None else self.ours.low
        high = self.ours.value if self.ours.high is None else self.ours.high
        return max(low - self.printed, self.printed - high, 0.0)


@dataclass(frozen=True)
class FilledRow:
    """One line of a table; `model` names what stands for it in the store, less the seed."""

    row: Row
    model: str
    cells: tuple[FilledCell, ...]


@dataclass(frozen=True)
class Filled:
    """A table with what the store has of it.

    Attributes:
        paper: with `table.key`, what names it.
        table: as declared, with only the columns that are shown.
        scale: whose models and tasks these are.
        rows: those that are shown; their cells are in the order of `table.columns`.
        problems: what in the store could not be used.
    """

    paper: str
    table: Table
    scale: Scale
    rows: tuple[FilledRow, ...]
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the command calls it."""
        return f"{self.paper}/{self.table.key}"

    def cells(self) -> list[tuple[Row, FilledCell]]:
        """All cells, line by line."""
        return [(line.row, cell) for line in self.rows for cell in line.cells]

    def with_verdict(self, verdict: Verdict) -> list[tuple[Row, FilledCell]]:
        """The cells that got this verdict, line by line."""
        return [(row, cell) for row, cell in self.cells() if cell.verdict == verdict]


def number(published: str) -> float | None:
    """45.1 of "45.1", 3.3 of "~3.3x"; None of "?" and of words."""
    match = re.fullmatch(r"~?(-?\d+(?:\.\d+)?)x?", published)
    return float(match[1]) if match else None

"""What the cells of a filled table say in every format, and the notes below it."""

from collections.abc import Iterable
from typing import NamedTuple

from leaderboards.cells import MINI_NOTE
from leaderboards.measured import specs_of
from leaderboards.table_cells import Filled, FilledCell, Verdict

MARKS: dict[Verdict, str] = {"agrees": "=", "differs": "!", "uncertain": "?"}
NOTHING, ON_TEST = "-", "†"

_TOLD: dict[Verdict, str] = {
    "agrees": "the published number lies within the interval, or no further outside it than the "
    "tolerance",
    "differs": "the published number lies further outside the interval than the tolerance",
    "uncertain": "the published cell is lost or doubtful: shown, never judged",
}


class Shown(NamedTuple):
    """The parts of a cell, each may be empty: ours, its interval and seeds, theirs, difference."""

    value: str
    band: str
    published: str
    difference: str
    marks: str

    @property
    def line(self) -> str:
        """All of it in one line."""
        return " ".join(filter(None, self))


def title(filled: Filled) -> str:
    """`slotmim/4, Table 4: ...`, with the scale where it is not the paper's."""
    scale = "" if filled.scale == "paper" else " [mini scale: not the paper's data nor models]"
    return f"{filled.name}, {filled.table.printed}: {filled.table.title}{scale}"


def shown(cell: FilledCell, notes: "Footnotes") -> Shown:
    """`45.7` `[45.3, 46.1]` `/ 46.3` `-0.6` `= [a]`; in parentheses what ours is not held to."""
    value, band = ours_of(cell)
    if cell.verdict == "cited":
        value = "cited"
    published = cell.published and f"/ {cell.published}"
    if cell.verdict == "not comparable":
        published = f"({cell.published})"
    difference = ""
    if cell.difference is not None:
        difference = f"{cell.difference:+.{_decimals(cell)}f}"
    marks = " ".join(filter(None, [MARKS.get(cell.verdict, ""), notes.mark(cell)]))
    return Shown(value, band, published, difference, marks)


def ours_of(cell: FilledCell) -> tuple[str, str]:
    """The number, and its interval with the range of seeds."""
    if (ours := cell.ours) is None:
        return NOTHING, ""
    decimals = _decimals(cell)
    value = f"{ours.value:.{decimals}f}" + (ON_TEST if ours.selected_on_test else "")
    parts = []
    if ours.low is not None and ours.high is not None:
        parts.append(f"[{ours.low:.{decimals}f}, {ours.high:.{decimals}f}]")
    if ours.seeds:
        parts.append(f"({ours.seeds[0]:.{decimals}f}–{ours.seeds[1]:.{decimals}f})")
    return value, " ".join(parts)


def _decimals(cell: FilledCell) -> int:
    """As many as were printed, one at least; three for small numbers that were not."""
    if cell.printed is not None:
        return max(1, len(cell.published.rstrip("x").partition(".")[2]))
    return 1 if cell.ours is None or abs(cell.ours.value) >= 1 else 3


class Footnotes:
    """Letters for reasons and notes, in the order in which the cells bring them.

    What holds for every cell is said once, below, and marks none of them.
    """

    def __init__(self, filled: Filled) -> None:
        self.filled = filled
        self._cells = [cell for _, cell in filled.cells() if cell.verdict != "-"]
        measured = [cell.reasons for cell in self._cells if cell.ours is not None]
        self.shared = _common(measured)
        printed = [(cell.note,) for cell in self._cells if cell.published]
        self.note = next(iter(_common(printed)), "") if len(printed) > 1 else ""
        self.letters: dict[str, str] = {}
        for cell in self._cells:
            for told in self._of(cell):
                self.letters.setdefault(told, _letter(len(self.letters)))

    def mark(self, cell: FilledCell) -> str:
        """`[a,c]` for the reasons and notes of a cell; empty where it has none."""
        letters = ",".join(self.letters[told] for told in self._of(cell))
        return f"[{letters}]" if letters else ""

    def _of(self, cell: FilledCell) -> list[str]:
        if cell.verdict == "-":
            return []
        told = [reason for reason in cell.reasons if reason not in self.shared]
        if cell.missing and cell.missing != "not measured":
            told.append(cell.missing)
        if cell.note and cell.published and cell.note != self.note:
            told.append(f"published cell: {cell.note}")
        return told

    def lines(self) -> list[str]:
        """What marks, letters and brackets mean; only of those that occur."""
        lines = [self._count(), *self._legend()]
        lines += [f"Not comparable, all of it: {reason}." for reason in sorted(self.shared)]
        lines += [_sentence(f"All published cells: {self.note}")] if self.note else []
        lines += [f"[{letter}] {_sentence(told)}" for told, letter in self.letters.items()]
        if self.filled.scale == "mini":
            lines += _stand_ins(self.filled)
        lines += [self.filled.table.note] if self.filled.table.note else []
        return lines + ([MINI_NOTE] if self.filled.scale == "mini" else [])

    def _count(self) -> str:
        measured = sum(cell.ours is not None for cell in self._cells)
        count = f"{measured} of {len(self._cells)} cells measured."
        verdicts = {cell.verdict for cell in self._cells}
        if not measured:
            return count
        what = "ours [95 % interval]"
        if any(cell.published for cell in self._cells):
            what += " / published"
        if verdicts & {"agrees", "differs"}:
            what += " difference"
        if "not comparable" in verdicts:
            what += "; (published): not comparable"
        return f"{count} {what}."

    def _legend(self) -> list[str]:
        ours = [cell.ours for cell in self._cells if cell.ours is not None]
        lines = []
        if any(value.seeds for value in ours):
            lines.append("Several seeds: the mean, and their range in parentheses.")
        if any(value.selected_on_test for value in ours):
            lines.append(f"{ON_TEST}: something was chosen on the split that is reported.")
        verdicts = {cell.verdict for cell in self._cells}
        return lines + [f"{MARKS[v]}: {told}." for v, told in _TOLD.items() if v in verdicts]


def _common(groups: Iterable[tuple[str, ...]]) -> set[str]:
    """What all of the groups hold."""
    sets = [{*group} - {""} for group in groups]
    return set.intersection(*sets) if sets else set()


def _stand_ins(filled: Filled) -> list[str]:
    """What each column is on the mini benchmark, where some tasks have none of their own."""
    return [
        f"{column.name} here: {' and '.join(dict.fromkeys(specs))}."
        for column in filled.table.columns
        if (specs := specs_of(column, "mini"))
    ]


def _letter(index: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(97 + rest) + letters
    return letters


def _sentence(told: str) -> str:
    return told if told.endswith((".", "?", "!")) else f"{told}."

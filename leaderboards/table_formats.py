"""A filled table as text, Markdown, CSV, LaTeX or HTML. Each writer is pure: table in, text out."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import pandas as pd

from leaderboards.cells import MINI_NOTE
from leaderboards.formats import escape_latex, escape_markdown
from leaderboards.measured import specs_of
from leaderboards.tables import Filled, FilledCell, FilledRow, Verdict, row_name

MARKS: dict[Verdict, str] = {"agrees": "=", "differs": "!", "uncertain": "?"}
NOTHING = "-"


def render(filled: Filled, form: str, width: int | None = None) -> str:
    """The table in one of `FORMATS`; `width` breaks plain text into blocks of so many columns."""
    return text(filled, width) if form == "text" else FORMATS[form](filled)


def text(filled: Filled, width: int | None = None) -> str:
    """Aligned plain text: `ours [low, high] / theirs` and a mark, with what it means below."""
    notes = Footnotes(filled)
    lead = _column(["model", "", *(row_name(filled.table, line.row) for line in filled.rows)])
    blocks = []
    for position, column in enumerate(filled.table.columns):
        cells = [line.cells[position] for line in filled.rows]
        blocks.append(_column([column.task, column.metric, *_aligned(cells, notes)]))
    parts: list[list[list[str]]] = [[lead]]
    for block in blocks:
        taken = sum(len(part[0]) + 2 for part in parts[-1])
        if width is not None and len(parts[-1]) > 1 and taken + len(block[0]) > width:
            parts.append([lead])
        parts[-1].append(block)
    shown = []
    for part in parts:
        lines = ["  ".join(line).rstrip() for line in zip(*part, strict=True)]
        shown.append("\n".join([*lines[:2], "-" * max(map(len, lines)), *lines[2:]]))
    heading = f"{title(filled)}\n"
    return "\n\n".join([heading, *shown, "\n".join(notes.lines())]) + "\n"


def markdown(filled: Filled) -> str:
    """A GitHub-flavoured table."""
    notes = Footnotes(filled)
    head = [
        f"{escape_markdown(c.task)}<br>{escape_markdown(c.metric)}" for c in filled.table.columns
    ]
    lines = [["model", *head], [":--"] * (1 + len(head))]
    lines += [
        [escape_markdown(row_name(filled.table, line.row))]
        + [escape_markdown(_joined(cell, notes)) for cell in line.cells]
        for line in filled.rows
    ]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    below = "\n".join(f"- {escape_markdown(note)}" for note in notes.lines())
    return f"**{escape_markdown(title(filled))}**\n\n{table}\n\n{below}\n"


def latex(filled: Filled) -> str:
    r"""A `tabular` for `\usepackage{booktabs}`."""
    notes = Footnotes(filled)
    columns = filled.table.columns
    lines = [
        "% needs \\usepackage{booktabs}",
        f"% {escape_latex(title(filled))}",
        rf"\begin{{tabular}}{{l{'l' * len(columns)}}}",
        r"\toprule",
        " & ".join(["model", *(escape_latex(c.task) for c in columns)]) + r" \\",
        " & ".join(["", *(escape_latex(c.metric) for c in columns)]) + r" \\",
        r"\midrule",
    ]
    for line in filled.rows:
        cells = [escape_latex(_joined(cell, notes)) for cell in line.cells]
        lines.append(" & ".join([escape_latex(row_name(filled.table, line.row)), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par{{\footnotesize {escape_latex(note)}}}" for note in notes.lines()]
    return "\n".join(lines) + "\n"


def csv(filled: Filled) -> str:
    """One line a cell with all that is known of it, numbers unrounded."""
    return str(pd.DataFrame(records(filled)).to_csv(index=False, lineterminator="\n"))


def html(filled: Filled) -> str:
    """A page of its own that loads nothing; every text is escaped."""
    notes = Footnotes(filled)
    heads = "".join(
        f'<th scope="col">{escape(c.task)}<br><small>{escape(c.metric)}</small></th>'
        for c in filled.table.columns
    )
    rows = "\n".join(_html_row(filled, line, notes) for line in filled.rows)
    below = "".join(f"<li>{escape(note)}</li>" for note in notes.lines())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title(filled))}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem; color: #1b1d1f; background: #fff }}
table {{ border-collapse: collapse }} caption {{ text-align: left; font-weight: 600 }}
th, td {{ padding: .35rem .7rem; text-align: left; border-bottom: 1px solid #dfe2e5 }}
td {{ font-variant-numeric: tabular-nums; white-space: nowrap }} small {{ color: #5f6368 }}
</style></head><body>
<table><caption>{escape(title(filled))}</caption>
<thead><tr><th scope="col">model</th>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table>
<ul>{below}</ul>
</body></html>
"""


FORMATS: dict[str, Callable[[Filled], str]] = {
    "text": text,
    "md": markdown,
    "csv": csv,
    "latex": latex,
    "html": html,
}


def title(filled: Filled) -> str:
    """`slotmim/4, Table 4: ...`, with the scale where it is not the paper's."""
    scale = "" if filled.scale == "paper" else " [mini scale: not the paper's data nor models]"
    return f"{filled.name}, {filled.table.printed}: {filled.table.title}{scale}"


def records(filled: Filled) -> list[dict[str, Any]]:
    """One dictionary a cell, for machines."""
    return [
        {
            "table": filled.name,
            "scale": filled.scale,
            "row": line.row.label,
            "arch": line.row.arch or filled.table.arch,
            "data": line.row.data or filled.table.data,
            "epochs": line.row.epochs or filled.table.epochs,
            "model": line.model,
            "task": cell.column.task,
            "metric": cell.column.metric,
            "published": cell.published,
            "ours": cell.ours and cell.ours.value,
            "low": cell.ours and cell.ours.low,
            "high": cell.ours and cell.ours.high,
            "seeds": max(1, len(cell.ours.results)) if cell.ours else 0,
            "difference": cell.difference,
            "verdict": cell.verdict,
            "reasons": "; ".join(cell.reasons) or cell.missing,
            "note": cell.note,
        }
        for line in filled.rows
        for cell in line.cells
    ]


class Footnotes:
    """Letters for reasons and notes, in the order in which the cells bring them."""

    def __init__(self, filled: Filled) -> None:
        self.filled = filled
        self.letters: dict[str, str] = {}
        shared = [set(cell.reasons) for _, cell in filled.cells() if cell.ours is not None]
        # What holds for every number is said once, below, and marks none of them.
        self.shared = set.intersection(*shared) if shared else set()
        for _, cell in filled.cells():
            for told in self._of(cell):
                self.letters.setdefault(told, _letter(len(self.letters)))

    def mark(self, cell: FilledCell) -> str:
        """`[a,c]` for the reasons and notes of a cell; empty where it has none."""
        letters = ",".join(self.letters[told] for told in self._of(cell))
        return f"[{letters}]" if letters else ""

    def _of(self, cell: FilledCell) -> list[str]:
        told = [reason for reason in cell.reasons if reason not in self.shared]
        if cell.missing and cell.missing != "not measured" and cell.verdict != "-":
            told.append(cell.missing)
        return [*told, *([f"as printed: {cell.note}"] if cell.note else [])]

    def lines(self) -> list[str]:
        """What marks, letters and brackets mean; only of those that occur."""
        cells = [cell for _, cell in self.filled.cells()]
        verdicts = {cell.verdict for cell in cells}
        ours = [cell.ours for cell in cells if cell.ours is not None]
        lines = [
            f"{len(ours)} of {len(cells)} cells measured. ours [95 % interval] / published; "
            f"{NOTHING}: none."
        ]
        if any(value.seeds for value in ours):
            lines.append("Several seeds: the mean, and their range in parentheses.")
        words: dict[Verdict, str] = {
            "agrees": "within the tolerance of the published number",
            "differs": "further from the published number than interval and tolerance explain",
            "uncertain": "the published cell is not certain: not compared",
        }
        lines += [f"{MARKS[v]}: {told}." for v, told in words.items() if v in verdicts]
        lines += [f"Not comparable, all of it: {reason}." for reason in sorted(self.shared)]
        lines += [f"[{letter}] {_sentence(told)}" for told, letter in self.letters.items()]
        if self.filled.scale == "mini":
            lines += _stand_ins(self.filled)
        lines += [self.filled.table.note] if self.filled.table.note else []
        return lines + ([MINI_NOTE] if self.filled.scale == "mini" else [])


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


def ours_of(cell: FilledCell) -> tuple[str, str]:
    """The number, and its interval with the range of seeds."""
    if cell.ours is None:
        return NOTHING, ""
    decimals = _decimals(cell)
    value, ours = f"{cell.ours.value:.{decimals}f}", cell.ours
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
    assert cell.ours is not None
    return 1 if abs(cell.ours.value) >= 1 else 3


def _joined(cell: FilledCell, notes: Footnotes) -> str:
    """One cell in one line."""
    if cell.ours is None and not cell.published:
        return NOTHING + notes.mark(cell)
    value, band = ours_of(cell)
    marks = MARKS.get(cell.verdict, "") + notes.mark(cell)
    return " ".join(filter(None, [value, band, "/", cell.published or NOTHING, marks]))


def _aligned(cells: Sequence[FilledCell], notes: Footnotes) -> list[str]:
    """The cells of one column with their parts below one another."""
    parts = []
    for cell in cells:
        value, band = ours_of(cell)
        marks = MARKS.get(cell.verdict, "") + notes.mark(cell)
        parts.append((value, band, f"/ {cell.published or NOTHING}", marks))
    sides = (str.rjust, str.ljust, str.ljust, str.ljust)
    widths = [max(len(part[i]) for part in parts) for i in range(4)]
    return [
        " ".join(
            side(piece, width)
            for side, piece, width in zip(sides, part, widths, strict=True)
            if width
        ).rstrip()
        for part in parts
    ]


def _column(lines: Sequence[str]) -> list[str]:
    width = max(map(len, lines))
    return [line.ljust(width) for line in lines]


def _html_row(filled: Filled, line: FilledRow, notes: Footnotes) -> str:
    cells = "".join(
        f'<td title="{escape(cell.verdict, quote=True)}">{escape(_joined(cell, notes))}</td>'
        for cell in line.cells
    )
    return f'<tr><th scope="row">{escape(row_name(filled.table, line.row))}</th>{cells}</tr>'

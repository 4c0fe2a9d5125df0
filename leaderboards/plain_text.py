"""A board as plain text for a terminal."""

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

from leaderboards.columns import Column
from leaderboards.formats import FRONT, costs, printable, seeds, standing
from leaderboards.ranking import Board, Cell

TIED, GROUP = "*", "²"
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
# Among other letters some take two columns of a terminal, or none.
_ONE_COLUMN = re.compile("[\x20-\x7e\xa0-\u02ff\u2010-\u2027\u2070-\u209f\u2190-\u21ff]*")


def text(board: Board, width: int | None = None) -> str:
    """Aligned plain text; columns that do not fit into `width` go into a further block below.

    `*` marks a score not separable from the best of its column, a raised number its tie group, `†`
    a choice made on test data.
    """
    rows = board.rows
    heads = [_heading(column) for column in board.columns]
    heads = heads if any(options for _, options, _ in heads) else [head[::2] for head in heads]
    tall = len(heads[0])

    def block(head: Sequence[str], body: Sequence[str], side: str = "<") -> list[str]:
        return _filled([*head, *[""] * (tall - len(head)), *body], side)

    standings = [standing(row, board) for row in rows]
    about = [block([head], [own[head] for own in standings], ">") for head in standings[0]]
    blocks = [
        block(["model"], [_clipped(printable(row.name), width) for row in rows]),
        ["  ".join(line) for line in zip(*about, strict=True)],
    ]
    for j, (head, column) in enumerate(zip(heads, board.columns, strict=True)):
        blocks.append(block(head, _scores([row.cells[j] for row in rows], column, width)))
    blocks += [block([head], texts, ">") for head, texts in costs(board).items()]
    tables = []
    for part in _fit(blocks, width):
        lines = ["  ".join(line).rstrip() for line in zip(*part, strict=True)]
        rule = "-" * (sum(columns_wide(block[0]) + 2 for block in part) - 2)
        tables.append("\n".join([*filter(None, lines[:tall]), rule, *lines[tall:]]))
    notes = [printable(note) for note in board.notes(TIED, GROUP, FRONT)]
    if width is not None:
        notes = [textwrap.fill(note, max(width, 40), subsequent_indent="  ") for note in notes]
    return "\n\n".join(tables) + "\n\n" + "\n".join(notes) + "\n"


def columns_wide(text: str) -> int:
    """How many terminal columns `text` takes: wide characters two, combining marks none."""
    if _ONE_COLUMN.fullmatch(text):
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _heading(column: Column) -> list[str]:
    """Task and data, then the options and what else differs, then the unit."""
    label = printable(column.label)
    start = printable(f"{column.task}@{column.dataset}")
    head, rest = (start, label[len(start) :]) if label.startswith(start) else (label, "")
    return [head, rest.strip(), printable(column.unit)]


def _scores(cells: Sequence[Cell | None], column: Column, width: int | None) -> list[str]:
    """The cells of one column, with decimal points, brackets and marks below one another."""
    short, marked = width is not None, cache(_marks)
    measured = [cell for cell in cells if cell is not None]
    sure = [(c.low, c.high) for c in measured if c.low is not None and c.high is not None]
    values = _shown([cell.value for cell in measured], column)
    lows = _shown([low for low, _ in sure], column)
    highs = _shown([high for _, high in sure], column)
    scores = ["-" if c is None else next(values) for c in cells]
    marks = [
        "" if c is None else marked(c.tied_with_best, c.group, c.selected_on_test) for c in cells
    ]
    bands = ["" if c is None or c.low is None else f"[{next(lows)}, {next(highs)}]" for c in cells]
    spreads = ["" if c is None or c.seeds == 1 else seeds(c, column, short) for c in cells]
    parts = (_filled(scores, ">"), _filled(marks, "<"), _filled(bands, ">"), _filled(spreads, "<"))
    return [f"{a}{b} {c} {d}".rstrip() for a, b, c, d in zip(*parts, strict=True)]


def _shown(values: Sequence[float], column: Column) -> Iterator[str]:
    """`Column.show` of each value: a hundred thousand take a third of the time in one go."""
    form = f"%.{column.decimals}f " * len(values)
    return iter((form % tuple(100 * v if column.percent else v for v in values)).split())


def _marks(tied: bool, group: int, chosen: bool) -> str:
    raised = str(group).translate(_RAISED) if group > 1 else ""
    return (TIED if tied else "") + raised + ("†" if chosen else "")


def _filled(lines: Sequence[str], side: str) -> list[str]:
    """The lines in equal width, with what they lack on the other side than `side`."""
    if _ONE_COLUMN.fullmatch("".join(lines)):
        widest = max(map(len, lines))
        return [line.rjust(widest) if side == ">" else line.ljust(widest) for line in lines]
    widths = list(map(columns_wide, lines))
    widest = max(widths)
    gaps = [" " * (widest - width) for width in widths]
    pairs = zip(lines, gaps, strict=True)
    return [gap + line if side == ">" else line + gap for line, gap in pairs]


def _clipped(name: str, width: int | None) -> str:
    """A name that leaves two thirds of the width to the scores, its middle left out."""
    room = len(name) if width is None else max(20, width // 3)
    if len(name) <= room:
        return name
    return f"{name[: (room - 1) // 2]}…{name[len(name) - room // 2 :]}"


def _fit(blocks: list[list[str]], width: int | None) -> list[list[list[str]]]:
    """Blocks in groups no wider than `width`; the first block (names) starts every group."""
    groups = [blocks[:2]]
    taken = sum(columns_wide(block[0]) + 2 for block in blocks[:2])
    for block in blocks[2:]:
        wide = columns_wide(block[0])
        if width is not None and len(groups[-1]) > 1 and taken + wide > width:
            groups.append([blocks[0]])
            taken = columns_wide(blocks[0][0]) + 2
        groups[-1].append(block)
        taken += wide + 2
    return groups

"""A filled table as plain text for a terminal."""

import textwrap
from collections.abc import Sequence

from leaderboards.formats import printable
from leaderboards.paper import Column
from leaderboards.plain_text import columns_wide
from leaderboards.table_cells import Filled, FilledCell
from leaderboards.table_notes import Footnotes, shown, title
from leaderboards.table_rows import row_name

Block = list[str]  # lines of one width
_NARROW = 16  # a heading is not broken into shorter lines than this


def text(filled: Filled, width: int | None = None) -> str:
    """Aligned plain text: `ours [low, high] / theirs difference` and marks, with notes below.

    Columns that do not fit into `width` go into a further block below.
    """
    notes = Footnotes(filled)
    names = [printable(row_name(filled.table, line.row)) for line in filled.rows]
    bodies = [
        _aligned([line.cells[position] for line in filled.rows], notes)
        for position in range(len(filled.table.columns))
    ]
    heads = [_heading(*pair) for pair in zip(filled.table.columns, bodies, strict=True)]
    tall = max(map(len, heads), default=1)
    blocks = [_padded([*[""] * (tall - 1), "model", *names])]
    for head, body in zip(heads, bodies, strict=True):
        blocks.append(_padded([*[""] * (tall - len(head)), *head, *body]))
    parts = [printable(title(filled)), *(_table(group, tall) for group in _fit(blocks, width))]
    below = [printable(note) for note in notes.lines()]
    if width is not None:
        below = [textwrap.fill(note, max(width, 40), subsequent_indent="  ") for note in below]
        parts[0] = textwrap.fill(parts[0], max(width, 40), subsequent_indent="  ")
    return "\n\n".join([*parts, "\n".join(below)]) + "\n"


def _heading(column: Column, body: Sequence[str]) -> Block:
    """Task and metric, in lines no wider than the cells below or `_NARROW`."""
    widest = max([_NARROW, *map(columns_wide, body)])
    return [
        line
        for words in (column.task, column.metric)
        for line in textwrap.wrap(words, widest, break_on_hyphens=False)
    ]


def _aligned(cells: Sequence[FilledCell], notes: Footnotes) -> Block:
    """The cells of one column with their parts below one another."""
    parts = [tuple(map(printable, shown(cell, notes))) for cell in cells]
    columns = [
        _padded(column, ">" if place in (0, 3) else "<")
        for place, column in enumerate(zip(*parts, strict=True))
        if any(column)
    ]
    return [" ".join(line).rstrip() for line in zip(*columns, strict=True)]


def _padded(lines: Sequence[str], side: str = "<") -> Block:
    """The lines in equal width, with what they lack on the other side than `side`."""
    widest = max(map(columns_wide, lines))
    gaps = [" " * (widest - columns_wide(line)) for line in lines]
    pairs = zip(lines, gaps, strict=True)
    return [gap + line for line, gap in pairs] if side == ">" else [a + b for a, b in pairs]


def _fit(blocks: Sequence[Block], width: int | None) -> list[list[Block]]:
    """The blocks in groups no wider than `width`; the first one, the names, starts each."""
    names, *columns = blocks
    groups = [[names]]
    for block in columns:
        taken = sum(columns_wide(other[0]) + 2 for other in groups[-1])
        if width is not None and len(groups[-1]) > 1 and taken + columns_wide(block[0]) > width:
            groups.append([names])
        groups[-1].append(block)
    return groups


def _table(group: Sequence[Block], tall: int) -> str:
    """The blocks side by side, with a rule below their headings of so many lines."""
    lines = ["  ".join(line).rstrip() for line in zip(*group, strict=True)]
    head = [line for line in lines[:tall] if line]
    return "\n".join([*head, "-" * max(map(columns_wide, lines)), *lines[tall:]])

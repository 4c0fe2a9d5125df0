"""A board as plain text, Markdown, CSV or LaTeX. Each writer is pure: board in, text out."""

import shutil
import unicodedata
from collections.abc import Callable, Sequence

import pandas as pd

from leaderboards.columns import Column
from leaderboards.ranking import Board, Cell, Row

Table = tuple[list[list[str]], list[list[str]]]  # header lines, body lines: equally many columns


def text(board: Board, width: int | None = None) -> str:
    """Aligned plain text; columns that do not fit into `width` go into a further block below.

    `*` marks a score not separable from the best of its column, `†` a choice made on test data.
    """
    names = [["model"], [""], *([row.name] for row in board.rows)]
    ranks = [["rank", "cells"], ["", ""], *(_standing(board, row) for row in board.rows)]
    blocks = [_pad(names, "<"), _pad(ranks, ">")]
    for j, column in enumerate(board.columns):
        head = [[column.label], [column.unit]]
        blocks.append(_pad(head + _aligned([row.cells[j] for row in board.rows], column), "<"))
    lead, parts = "  ".join, _fit(blocks, width)
    tables = [
        "\n".join(_underlined([lead(line).rstrip() for line in zip(*part, strict=True)]))
        for part in parts
    ]
    return "\n\n".join(tables) + "\n\n" + "\n".join(board.notes("*")) + "\n"


def markdown(board: Board) -> str:
    """A GitHub-flavoured table; bold marks a score not separable from the best."""

    def show(cell: Cell | None, column: Column) -> str:
        if cell is None:
            return ""
        score = column.show(cell.value)
        parts = [f"**{score}**" if cell.tied_with_best else score, interval(cell, column)]
        shown = " ".join(filter(None, parts)) + ("†" if cell.selected_on_test else "")
        return shown + (f"<br>{seeds(cell, column)}" if cell.seeds > 1 else "")

    header, body = _grid(board, show, escape_markdown)
    lines = [[" <br>".join(filter(None, pair)) for pair in zip(*header, strict=True)]]
    lines.append([":--", "--:", "--:"] + [":--"] * len(board.columns))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines + body)
    return table + "\n\n" + "\n".join(f"- {note}" for note in board.notes("Bold")) + "\n"


def latex(board: Board) -> str:
    r"""A `tabular` for `\usepackage{booktabs}`; bold marks a score not separable from the best."""

    def show(cell: Cell | None, column: Column) -> str:
        if cell is None:
            return "--"
        score = column.show(cell.value)
        shown = rf"\textbf{{{score}}}" if cell.tied_with_best else score
        shown += r"$^\dagger$" if cell.selected_on_test else ""
        extra = [interval(cell, column), seeds(cell, column)]
        small = ", ".join(escape_latex(part) for part in extra if part)
        return shown + (rf" {{\scriptsize {small}}}" if small else "")

    header, body = _grid(board, show, escape_latex)
    lines = [
        "% needs \\usepackage{booktabs}",
        rf"\begin{{tabular}}{{lrr{'l' * len(board.columns)}}}",
        r"\toprule",
        *(" & ".join(line) + r" \\" for line in header),
        r"\midrule",
        *(" & ".join(line) + r" \\" for line in body),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par{{\footnotesize {escape_latex(note)}}}" for note in board.notes("Bold")),
    ]
    return "\n".join(lines) + "\n"


def csv(board: Board) -> str:
    """One line for each model, all numbers unrounded and unscaled."""
    return str(wide(board).to_csv(index=False, lineterminator="\n"))


def wide(board: Board) -> pd.DataFrame:
    """One row for each model; for each column its score, interval, seeds and marks."""
    rows = []
    for row in board.rows:
        trained = row.model.get("pretrain") or {}
        line: dict[str, object] = {
            "model": row.name,
            "method": row.model.get("method"),
            "arch": row.model.get("arch"),
            "pretrain_dataset": trained.get("dataset"),
            "pretrain_images": trained.get("images"),
            "epochs": trained.get("epochs"),
            "views_seen": trained.get("views_seen"),
            "mean_rank": row.mean_rank,
            "cells": row.filled,
        }
        for column, cell in zip(board.columns, row.cells, strict=True):
            for name, value in _numbers(cell).items():
                line[f"{column.label} {name}".rstrip()] = value
        rows.append(line)
    return pd.DataFrame(rows)


def interval(cell: Cell, column: Column) -> str:
    """`[low, high]`, or nothing when the metric has no interval."""
    if cell.low is None or cell.high is None:
        return ""
    return f"[{column.show(cell.low)}, {column.show(cell.high)}]"


def seeds(cell: Cell, column: Column) -> str:
    """`3 seeds 36.0–37.1`, or nothing for a single seed."""
    if cell.seeds == 1:
        return ""
    return f"{cell.seeds} seeds {column.show(cell.seed_low)}–{column.show(cell.seed_high)}"


def escape_markdown(text: str) -> str:
    """`text` as literal text in a Markdown table cell: no markup, no HTML, one line."""
    for character in "\\`*_[]|~":
        text = text.replace(character, "\\" + character)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(text.split())


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "†": r"$^\dagger$",
        "↓": r"$\downarrow$",
        "–": "--",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        **{character: "\\" + character for character in "&%$#_{}"},
    }
)


def escape_latex(text: str) -> str:
    """`text` as literal text for LaTeX, whatever model name or metric it comes from."""
    return " ".join(text.split()).translate(_LATEX)


def _numbers(cell: Cell | None) -> dict[str, object]:
    """The unrounded content of one cell; every name is there, empty for a missing cell."""
    n = None if cell is None else cell.results[0].metrics[cell.results[0].headline].n
    return {
        "": cell and cell.value,
        "low": cell and cell.low,
        "high": cell and cell.high,
        "n": n,
        "seeds": cell and cell.seeds,
        "seed_low": cell and cell.seed_low,
        "seed_high": cell and cell.seed_high,
        "tied_with_best": cell and cell.tied_with_best,
        "selected_on_test": cell and cell.selected_on_test,
    }


def _standing(board: Board, row: Row) -> list[str]:
    return [f"{row.mean_rank:.1f}", f"{row.filled}/{len(board.columns)}"]


def _grid(
    board: Board,
    show: Callable[[Cell | None, Column], str],
    escape: Callable[[str], str],
) -> Table:
    """Two header lines (what, unit) and the body, every text escaped."""
    labels = ["model", "rank", "cells", *(escape(column.label) for column in board.columns)]
    units = ["", "", "", *(escape(column.unit) for column in board.columns)]
    body = [
        [escape(row.name), *_standing(board, row)]
        + [show(cell, column) for cell, column in zip(row.cells, board.columns, strict=True)]
        for row in board.rows
    ]
    return [labels, units], body


def _aligned(cells: Sequence[Cell | None], column: Column) -> list[list[str]]:
    """The cells of one column, with decimal points, brackets and marks below one another."""
    parts = [
        ["-", "", "", ""]
        if cell is None
        else [
            column.show(cell.value),
            ("*" if cell.tied_with_best else "") + ("†" if cell.selected_on_test else ""),
            interval(cell, column),
            seeds(cell, column),
        ]
        for cell in cells
    ]
    sides = [">", "<", ">", "<"]
    columns = [_pad([[part[i]] for part in parts], sides[i]) for i in range(4)]
    lines = zip(*columns, strict=True)
    return [[f"{score}{marks} {band} {spread}".rstrip()] for score, marks, band, spread in lines]


def _pad(lines: Sequence[Sequence[str]], side: str) -> list[str]:
    """The lines as one block of equal width, each of its columns padded on `side`."""
    widths = [max(map(_columns_wide, column)) for column in zip(*lines, strict=True)]

    def fill(cell: str, width: int) -> str:
        gap = " " * (width - _columns_wide(cell))
        return gap + cell if side == ">" else cell + gap

    return ["  ".join(map(fill, line, widths)) for line in lines]


def _columns_wide(text: str) -> int:
    """How many terminal columns `text` takes: wide characters two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _fit(blocks: list[list[str]], width: int | None) -> list[list[list[str]]]:
    """Blocks in groups no wider than `width`; the first block (names) starts every group."""
    groups = [blocks[:2]]
    for block in blocks[2:]:
        taken = sum(_columns_wide(part[0]) + 2 for part in groups[-1])
        if width is not None and len(groups[-1]) > 1 and taken + _columns_wide(block[0]) > width:
            groups.append([blocks[0]])
        groups[-1].append(block)
    return groups


def _underlined(lines: list[str]) -> list[str]:
    longest = max(map(_columns_wide, lines))
    return [*lines[:2], "-" * longest, *lines[2:]]


def terminal_width() -> int | None:
    """The width of the terminal that is printed on; None where it is a file or a pipe."""
    return shutil.get_terminal_size((0, 0)).columns or None

"""A board as Markdown, CSV, LaTeX or JSON. Each writer is pure: board in, text out."""

import csv as csv_files
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from bench.summary import number
from leaderboards.columns import Column
from leaderboards.ranking import Board, Cell, Row

FRONT = "◆"  # behind the FLOPs of a model that nobody beats at its cost


def markdown(board: Board) -> str:
    """A GitHub-flavoured table; bold marks a score not separable from the best."""

    def show(cell: Cell | None, column: Column) -> str:
        if cell is None:
            return ""
        score = column.show(cell.value)
        score = f"**{score}**" if cell.tied_with_best else score
        score += f"<sup>{cell.group}</sup>" if cell.group > 1 else ""
        shown = " ".join(filter(None, [score, interval(cell, column)]))
        shown += "†" if cell.selected_on_test else ""
        return shown + (f"<br>{seeds(cell, column)}" if cell.seeds > 1 else "")

    header, body = _grid(board, show, escape_markdown)
    numbers = ["--:"] * (len(header[0]) - 1 - len(board.columns))
    rule = [":--", *numbers[:3], *[":--"] * len(board.columns), *numbers[3:]]
    lines = [[" <br>".join(filter(None, pair)) for pair in zip(*header, strict=True)], rule, *body]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = board.notes("Bold", "A raised number", FRONT)
    return table + "\n\n" + "\n".join(f"- {escape_markdown(note)}" for note in notes) + "\n"


def latex(board: Board) -> str:
    r"""A `tabular` for `\usepackage{booktabs}`; bold marks a score not separable from the best."""

    def show(cell: Cell | None, column: Column) -> str:
        if cell is None:
            return "--"
        score = column.show(cell.value)
        shown = rf"\textbf{{{score}}}" if cell.tied_with_best else score
        marks = (str(cell.group) if cell.group > 1 else "") + cell.selected_on_test * r"\dagger"
        shown += rf"$^{{{marks}}}$" if marks else ""
        extra = [interval(cell, column), seeds(cell, column)]
        small = ", ".join(escape_latex(part) for part in extra if part)
        return shown + (rf" {{\scriptsize {small}}}" if small else "")

    header, body = _grid(board, show, escape_latex)
    more = len(header[0]) - 4 - len(board.columns)
    lines = [
        "% needs \\usepackage{booktabs}",
        rf"\begin{{tabular}}{{lrrr{'l' * len(board.columns)}{'r' * more}}}",
        r"\toprule",
        *(" & ".join(line) + r" \\" for line in header),
        r"\midrule",
        *(" & ".join(line) + r" \\" for line in body),
        r"\bottomrule",
        r"\end{tabular}",
        *(
            rf"\par{{\footnotesize {escape_latex(note)}}}"
            for note in board.notes("Bold", "A raised number", FRONT)
        ),
    ]
    return "\n".join(lines) + "\n"


def csv(board: Board) -> str:
    """One line for each model, all numbers unrounded and unscaled."""
    names = [f"{c.label} {name}".removesuffix(" value") for c in board.columns for name in _CELL]
    stream = io.StringIO()
    writer = csv_files.writer(stream, lineterminator="\n")
    writer.writerow([*_facts(board.rows[0]), *map(printable, names)])
    for row in board.rows:
        cells = zip(row.cells, row.ranks, strict=True)
        numbers = [value for cell, rank in cells for value in _numbers(cell, rank)]
        facts = [printable(v) if isinstance(v, str) else v for v in _facts(row).values()]
        writer.writerow([*facts, *numbers])
    return stream.getvalue()


def to_json(board: Board) -> str:
    """Everything as one object: `columns`, `models` with a score (or null) for each, `notes`."""

    def score(cell: Cell | None, rank: float) -> dict[str, Any] | None:
        if cell is None:
            return None
        digests = [result.digest for result in cell.results]
        return dict(zip(_CELL, _numbers(cell, rank), strict=True)) | {"results": digests}

    def model(row: Row) -> dict[str, Any]:
        return _facts(row) | {"scores": list(map(score, row.cells, row.ranks))}

    values = {
        "sort": board.sort,
        "columns": [asdict(column) for column in board.columns],
        "models": list(map(model, board.rows)),
        "ranked": board.models,
        "problems": board.problems,
        "failures": [asdict(failure) for failure in board.failures],
        "notes": board.notes("tied_with_best", "group", "pareto"),
    }
    return json.dumps(values, allow_nan=False) + "\n"  # indented it takes four times as long


def standing(row: Row, board: Board) -> dict[str, str]:
    """How a model stands over all columns, by heading."""
    first, last = row.rank_range
    score = "-" if row.score is None else f"{100 * row.score:.1f}"
    over = "" if row.score_over == row.filled else f" ({row.score_over})"
    return {
        "rank": f"{row.mean_rank:.1f} [{first:.1f}, {last:.1f}]",
        "score": score + over,
        "cells": f"{row.filled}/{len(board.columns)}",
    }


def costs(board: Board) -> dict[str, list[str]]:
    """What each model cost, by heading: those that are recorded of any."""
    expenses = [row.expense for row in board.rows]
    shown = {
        "views": [_counted(expense.views) for expense in expenses],
        "FLOPs": [
            _power(row.expense.flops) + (f" {FRONT}" if row.pareto else "") for row in board.rows
        ],
        "parameters": [_counted(expense.parameters) for expense in expenses],
        "evaluation": [_time(expense.seconds) for expense in expenses],
    }
    return {heading: texts for heading, texts in shown.items() if set(texts) != {"-"}}


def interval(cell: Cell, column: Column) -> str:
    """`[low, high]`, or nothing when the metric has no interval."""
    if cell.low is None or cell.high is None:
        return ""
    return f"[{column.show(cell.low)}, {column.show(cell.high)}]"


def seeds(cell: Cell, column: Column, short: bool = False) -> str:
    """`3 seeds 36.0–37.1`, or where a model was trained again `2 trainings 36.2–36.9, 6 results
    36.0–37.1`; `short` writes 3s, 2t and 6r. Nothing for a single result.
    """

    def spread(count: int, what: str, low: float, high: float) -> str:
        words = f"{count}{what[0]}" if short else f"{count} {what}"
        return f"{words} {column.show(low)}–{column.show(high)}"

    if cell.seeds == 1:
        return ""
    if cell.trainings == 1:
        return spread(cell.seeds, "seeds", cell.seed_low, cell.seed_high)
    shown = spread(cell.trainings, "trainings", cell.training_low, cell.training_high)
    if cell.seeds == cell.trainings:
        return shown
    return f"{shown}, {spread(cell.seeds, 'results', cell.seed_low, cell.seed_high)}"


def printable(text: str) -> str:
    """The text in one line, without what would move a terminal's cursor or change its colours."""
    text = " ".join(text.split())
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def escape_markdown(text: str) -> str:
    """`text` as literal text in a Markdown table cell: no markup, no HTML, one line."""
    for character in "\\`*_[]|~":
        text = text.replace(character, "\\" + character)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return printable(text)


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "†": r"$^\dagger$",
        "↓": r"$\downarrow$",
        "–": "--",
        FRONT: r"$\diamond$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        **{character: "\\" + character for character in "&%$#_{}"},
    }
)


def escape_latex(text: str) -> str:
    """`text` as literal text for LaTeX, whatever model name or metric it comes from."""
    return printable(text).translate(_LATEX)


def _facts(row: Row) -> dict[str, Any]:
    """What a model is, how it stands, and what it cost."""
    trained = row.model.get("pretrain") or {}
    return {
        "model": row.name,
        "method": row.model.get("method"),
        "arch": row.model.get("arch"),
        "pretrain_dataset": None if (dataset := trained.get("dataset")) is None else str(dataset),
        "pretrain_images": _whole(number(trained.get("images"))),
        "epochs": number(trained.get("epochs")),
        "views_seen": _whole(row.expense.views),
        "flops": row.expense.flops,
        "parameters": row.expense.parameters,
        "evaluation_seconds": row.expense.seconds,
        "pareto": row.pareto,
        "mean_rank": row.mean_rank,
        "rank_first": row.rank_range[0],
        "rank_last": row.rank_range[1],
        "score": row.score,
        "score_over": row.score_over,
        "cells": row.filled,
    }


_CELL = (
    *("value", "low", "high", "n", "rank", "group"),
    *("tied_with_best", "seeds", "seed_low", "seed_high"),
    *("trainings", "training_low", "training_high", "selected_on_test"),
)


def _numbers(cell: Cell | None, rank: float) -> tuple[Any, ...]:
    """The unrounded content of one cell, as `_CELL` names it; a missing cell has none of it."""
    if cell is None:
        return (None,) * len(_CELL)
    return (
        *(cell.value, cell.low, cell.high, cell.results[0].n, rank, cell.group),
        *(cell.tied_with_best, cell.seeds, cell.seed_low, cell.seed_high),
        *(cell.trainings, cell.training_low, cell.training_high, cell.selected_on_test),
    )


def _grid(
    board: Board, show: Callable[[Cell | None, Column], str], escape: Callable[[str], str]
) -> tuple[list[list[str]], list[list[str]]]:
    """Two header lines (what, unit) and the body, every text escaped, equally many columns."""
    columns, spent = board.columns, costs(board)
    standings = [standing(row, board) for row in board.rows]
    labels = ["model", *standings[0], *(escape(column.label) for column in columns), *spent]
    units = ["", *[""] * 3, *(escape(column.unit) for column in columns), *[""] * len(spent)]
    body = [
        [escape(row.name), *own.values()]
        + [show(cell, column) for cell, column in zip(row.cells, columns, strict=True)]
        + [escape(texts[i]) for texts in spent.values()]
        for i, (row, own) in enumerate(zip(board.rows, standings, strict=True))
    ]
    return [labels, units], body


def _whole(value: float | None) -> float | None:
    """A count without decimals."""
    return int(value) if value is not None and value.is_integer() else value


def _counted(value: float | None) -> str:
    """`256M`: three digits of a count."""
    if value is None:
        return "-"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _power(value: float | None) -> str:
    """`1.1e18`."""
    return "-" if value is None else f"{value:.2e}".replace("e+", "e")


def _time(seconds: float | None) -> str:
    """`45 s`, `12.3 min` or `2.1 h`."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def terminal_width() -> int | None:
    """The width of the terminal that is printed on; None where it is a file or a pipe."""
    return shutil.get_terminal_size((0, 0)).columns or None

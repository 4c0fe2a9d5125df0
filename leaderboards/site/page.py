"""The leaderboard as one HTML file that needs nothing else: no network, no server, no library.

Everything shown comes from stored results, which may be a stranger's: every text is escaped, the
page's own script is the only one its content security policy runs, and pictures are embedded as
`data:` images, in which scripts are dead.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from bench.errors import StoreError
from leaderboards.cells import MINI_NOTE
from leaderboards.columns import Column
from leaderboards.formats import interval, seeds
from leaderboards.ranking import Board, Cell, Row
from leaderboards.site.details import details, written

PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}


def page(board: Board, curves: Sequence[Path] = (), title: str = "sslbench leaderboard") -> str:
    """The whole page as text.

    `curves` are pictures (SVG or PNG) to show below the table; of two with the same stem the SVG is
    taken, and data files beside them are passed over, so what `curve()` returned can be given as
    it is.
    """
    style, script = (_source(name) for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    filled = [
        (f"c{i}-{j}", row, column, cell)
        for i, row in enumerate(board.rows)
        for j, (column, cell) in enumerate(zip(board.columns, row.cells, strict=True))
        if cell is not None
    ]
    ends = [_range([row.cells[j] for row in board.rows]) for j in range(len(board.columns))]
    return Template(_source("page.html")).substitute(
        title=escape(title),
        lead=escape(_lead(board)),
        banner=f'<p class="banner" role="note">{MINI_NOTE}</p>' if board.mini else "",
        head="\n".join(_head(board)),
        body="\n".join(_row(i, row, board.columns, ends) for i, row in enumerate(board.rows)),
        notes="\n".join(f"<li>{_prose(note)}</li>" for note in _notes(board)),
        curves=_figures(curves),
        footer="Made by sslbench from stored results. This page loads nothing from anywhere.",
        templates="\n".join(
            f'<template id="{key}">{details(row, column, cell)}</template>'
            for key, row, column, cell in filled
        ),
        style=style,
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _source(name: str) -> str:
    return files("leaderboards.site").joinpath(name).read_text(encoding="utf-8")


def _lead(board: Board) -> str:
    models, columns = len(board.rows), len(board.columns)
    tasks = "task" if columns == 1 else "tasks"
    return f"{models} {'model' if models == 1 else 'models'} on {columns} {tasks}"


def _notes(board: Board) -> list[str]:
    # The mini benchmark's note is the banner already.
    notes = [note for note in board.notes("Shaded") if note != MINI_NOTE]
    return [*notes, "Choose a score to see what made it; the stroke below it is its interval."]


def _prose(note: str) -> str:
    """A note, escaped, with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(note))


def _breakable(text: str) -> str:
    """A name or spec, escaped, that may wrap before a bracket and behind what joins its parts."""
    return re.sub(r"([,+_/:-]|&amp;)", r"\1<wbr>", escape(text)).replace("[", "<wbr>[")


def _head(board: Board) -> list[str]:
    """The header cells; `data-first` is the direction in which the best comes first."""
    by_model, by_rank = board.sort == "model", board.sort in {"rank", "mean rank"}
    heads = [
        _header("Model", "", "ascending", by_model, "model"),
        _header("Rank", "", "ascending", by_rank, ""),
        _header("Cells", "", "descending", False, ""),
    ]
    for column in board.columns:
        lines = (("on", column.dataset), ("options", column.options), ("unit", column.unit))
        small = "".join(f'<span class="{name}">{_breakable(t)}</span>' for name, t in lines if t)
        first = "ascending" if column.lower_is_better else "descending"
        heads.append(
            _header(column.task, small, first, board.sort in (column.label, column.task), "")
        )
    return heads


def _header(what: str, small: str, first: str, sorted_by: bool, kind: str) -> str:
    return (
        f'<th scope="col" class="{kind}" data-first="{first}" '
        f'aria-sort="{first if sorted_by else "none"}"><button type="button">'
        f'<span class="what">{escape(what)}</span>{small}</button></th>'
    )


def _row(i: int, row: Row, columns: Sequence[Column], ends: Sequence[tuple[float, float]]) -> str:
    about = "".join(f'<span class="about">{_breakable(line)}</span>' for line in _about(row))
    cells = [
        f'<th scope="row" class="model" data-value="{escape(row.name.lower())}">'
        f'<span class="name">{_breakable(row.name)}</span>{about}</th>',
        f'<td class="number" data-value="{row.mean_rank:.4f}">{row.mean_rank:.1f}</td>',
        f'<td class="number" data-value="{row.filled}">{row.filled}/{len(columns)}</td>',
    ]
    for j, (column, cell) in enumerate(zip(columns, row.cells, strict=True)):
        cells.append(_cell(f"c{i}-{j}", column, cell, ends[j]))
    return f"<tr>{''.join(cells)}</tr>"


def _about(row: Row) -> list[str]:
    """What a model is, in two lines: method and architecture, then its pre-training."""
    model, trained = row.model, row.model.get("pretrain")
    if trained:
        counts = [
            f"{written(unit, trained[unit])}\N{NO-BREAK SPACE}{unit}"
            for unit in ("images", "epochs")
            if trained.get(unit)
        ]
        past = [trained.get("dataset"), *counts]
    elif model.get("family") == "random":
        past = ["random weights"]
    else:
        past = ["pre-training not recorded"]
    lines = [[model.get("method"), model.get("arch")], past]
    return [" · ".join(str(part) for part in line if part) for line in lines]


def _range(cells: Sequence[Cell | None]) -> tuple[float, float]:
    """The smallest and the largest end of a column's bands: the length of its bars."""
    ends = [end for cell in cells if cell is not None for end in cell.band]
    return min(ends), max(ends)


def _cell(key: str, column: Column, cell: Cell | None, ends: tuple[float, float]) -> str:
    if cell is None:
        return '<td class="missing">–</td>'
    low, high = ends
    scale = 100 / (high - low) if high > low else 0.0
    left, right = ((end - low) * scale for end in cell.band)
    bar = f"--low:{left:.2f};--width:{right - left:.2f};--value:{(cell.value - low) * scale:.2f}"
    dagger = '<sup class="dagger">†</sup>' if cell.selected_on_test else ""
    band, spread = interval(cell, column), seeds(cell, column)
    tied = " tied" if cell.tied_with_best else ""
    return (
        f'<td class="score-cell{tied}" data-value="{cell.value!r}">'
        f'<button type="button" class="cell" aria-haspopup="dialog" data-details="{key}">'
        f'<span><span class="score">{column.show(cell.value)}</span>{dagger}'
        + (f'<span class="interval">{band}</span>' if band else "")
        + f'</span><span class="bar" style="{bar}"></span>'
        + (f'<span class="seeds">{spread}</span>' if spread else "")
        + "</button></td>"
    )


def _figures(curves: Sequence[Path]) -> str:
    """The pictures as `data:` images, or nothing."""
    chosen: dict[Path, Path] = {}
    for path in map(Path, curves):
        stem = path.with_suffix("")
        if path.suffix == ".svg" or (path.suffix in PICTURES and stem not in chosen):
            chosen[stem] = path
    figures = []
    for path in chosen.values():
        try:
            data = base64.b64encode(path.read_bytes()).decode()
        except OSError as error:
            raise StoreError(
                f"{path}: no such picture ({error.strerror}); draw it with `sslbench curve`"
            ) from error
        name = escape(path.stem.replace("_", " "))
        figures.append(
            f'<figure><img src="data:{PICTURES[path.suffix]};base64,{data}" alt="Curve: {name}">'
            f"<figcaption>{name}</figcaption></figure>"
        )
    return f'<section class="curves">{"".join(figures)}</section>' if figures else ""

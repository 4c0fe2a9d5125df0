"""The board as the values that the pages' scripts read: columns, rows, cells."""

import hashlib
import re
import shlex
from collections.abc import Sequence
from typing import Any

from bench import registry, spec
from bench.errors import SpecError
from bench.summary import number
from leaderboards.cells import METRIC_WORDS
from leaderboards.columns import Column
from leaderboards.ranking import Board, Cell, Row

TIED, ON_TEST = 1, 2  # marks of a cell, as scripts/board.js reads them

# What may be known of a model's cost, and its heading.
COSTS = {
    "images": "Images",
    "epochs": "Epochs",
    "views": "Views",
    "flops": "FLOPs",
    "parameters": "Parameters",
    "seconds": "Evaluation, s",
}


def board_data(board: Board) -> dict[str, Any]:
    """Everything that the leaderboard, the comparison and the page of costs show."""
    families = registry.groups("task")
    rows = [row_data(row) for row in board.rows]
    costs = [name for name in COSTS if any(row["costs"][name] is not None for row in rows)]
    return {
        "sort": board.sort,
        "models": board.models or len(rows),
        "words": METRIC_WORDS,
        "columns": [
            column_data(column, [row.cells[j] for row in board.rows], families)
            for j, column in enumerate(board.columns)
        ],
        "costs": [{"name": name, "title": COSTS[name]} for name in costs],
        "rows": rows,
    }


def column_data(
    column: Column, cells: Sequence[Cell | None], families: dict[str, str]
) -> dict[str, Any]:
    """A column: how its numbers are printed, the ends of its bars, and what scores relate to.

    `best` is None where scores have no relation to it, see `leaderboards.ranking`.
    """
    found = [cell for cell in cells if cell is not None]
    ends = [end for cell in found for end in cell.band]
    values = [cell.value for cell in found]
    best = (min if column.lower_is_better else max)(values)
    return {
        "label": column.label,
        "task": column.task,
        "family": families.get(column.task, ""),
        "dataset": column.dataset,
        "options": column.options,
        "unit": column.unit,
        "percent": column.percent,
        "lower": column.lower_is_better,
        "decimals": column.decimals,
        "ends": [rounded(min(ends)), rounded(max(ends))],
        "best": rounded(best) if min(values) >= 0 and best > 0 else None,
    }


def row_data(row: Row) -> dict[str, Any]:
    """A model: what it is, what it cost, and its cell in each column (null where none)."""
    trained, expense = row.model.get("pretrain") or {}, row.expense
    costs = {name: number(trained.get(name)) for name in ("images", "epochs")}
    costs |= {name: getattr(expense, name) for name in COSTS if name not in costs}
    # What `sslbench compare` finds the model by: a name that two have does not do.
    name = row.name if " #" not in row.name else str(row.model.get("source"))
    return {
        "key": key(row.name),
        "name": row.name,
        "word": shlex.quote(name),
        "method": text_of(row.model.get("method")),
        "arch": text_of(row.model.get("arch")),
        "data": pretraining_data(row.model),
        "about": about(row.model),
        "costs": costs,
        "rank": row.mean_rank,
        "range": row.rank_range,
        "score": row.score,
        "pareto": row.pareto,
        "cells": [
            cell and cell_data(cell, rank) for cell, rank in zip(row.cells, row.ranks, strict=True)
        ],
    }


def cell_data(cell: Cell, rank: float) -> list[Any]:
    """[value, low, high, rank, tie group, marks] and, of several seeds, what they are.

    That is [seeds, lowest, highest, trainings, lowest mean of a training, highest].
    """
    marks = TIED * cell.tied_with_best + ON_TEST * cell.selected_on_test
    shown = [rounded(cell.value), rounded(cell.low), rounded(cell.high), rank, cell.group, marks]
    if cell.seeds > 1:
        shown += [cell.seeds, rounded(cell.seed_low), rounded(cell.seed_high)]
        shown += [cell.trainings, rounded(cell.training_low), rounded(cell.training_high)]
    return shown


def key(name: str) -> str:
    """What stands for a model in addresses and file names; the same in every site."""
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-")
    return f"{slug}-{digest}" if slug else digest


def about(model: dict[str, Any]) -> list[str]:
    """What a model is, in two lines: method and architecture, then its pre-training."""
    trained = model.get("pretrain")
    if trained:
        counts = [
            f"{counted(value)}\N{NO-BREAK SPACE}{unit}"
            for unit in ("images", "epochs")
            if (value := trained.get(unit))
        ]
        past = [trained.get("dataset"), *counts]
    elif model.get("family") == "random":
        past = ["random weights"]
    else:
        past = ["pre-training not recorded"]
    lines = [[model.get("method"), model.get("arch")], past]
    return [" · ".join(str(part) for part in line if part) for line in lines]


def pretraining_data(model: dict[str, Any]) -> str:
    """The data sets a model was trained on, its subsets together; empty where not recorded."""
    dataset = text_of((model.get("pretrain") or {}).get("dataset"))
    try:
        parts = spec.parse_dataset(dataset)
    except SpecError:  # a foreign checkpoint's data, in its authors' words
        return dataset
    kept = (
        spec.DatasetPart(part.name, tuple(m for m in part.modifiers if m[0] not in ("n", "seed")))
        for part in parts
    )
    return "+".join(map(str, kept))


def rounded(value: float | None) -> float | None:
    """Eight digits: more than any page shows, and half the size."""
    return None if value is None else float(f"{value:.8g}")


def counted(value: Any) -> str:
    """A count with separators; what is no whole number with six digits, other words as they are."""
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
    return str(value)


def text_of(value: Any) -> str:
    """A recorded name; empty where there is none."""
    return "" if value is None else str(value)

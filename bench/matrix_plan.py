"""What a matrix would take: what exists, what is missing, and what the rest costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench import costs

if TYPE_CHECKING:
    from bench.matrix import Matrix
    from bench.store import Store

State = Literal["there", "to do", "cannot"]
STATES: tuple[State, ...] = ("there", "to do", "cannot")


@dataclass(frozen=True)
class CellPlan:
    """One cell: whether it is there, and why it cannot be made now."""

    task: str
    seed: int
    state: State
    why: str = ""


@dataclass(frozen=True)
class ModelPlan:
    """One model and its cells. What is not known counts as 0 in costs.

    Attributes:
        name: of the entry.
        source: run folder, or the source of a model that is there.
        train: training spec; empty for a model that is there.
        state: of the training.
        why: it cannot be trained now.
        step: optimiser steps that a run which stopped has saved.
        steps: all of them.
        train_flops: operations of the steps that are left; None where they are not known.
        eval_flops: operations of one forward pass over all images of the cells that lack.
        disk: bytes of the run folder.
        cache: bytes of the images' feature vectors.
        outcomes: bytes of the results.
        cells: every task and seed.
    """

    name: str
    source: str
    train: str = ""
    state: State = "there"
    why: str = ""
    step: int = 0
    steps: int = 0
    train_flops: float | None = 0.0
    eval_flops: float = 0.0
    disk: int = 0
    cache: int = 0
    outcomes: int = 0
    cells: tuple[CellPlan, ...] = ()

    @property
    def training(self) -> str:
        """The state of the training in words."""
        if not self.train:
            return "none"
        if self.state == "to do" and self.step:
            return f"resume at {100 * self.step // self.steps} %" if self.steps else "resume"
        return {"there": "trained", "to do": "to train", "cannot": "cannot"}[self.state]


@dataclass(frozen=True)
class Plan:
    """What there is, what is to be done, and what it costs.

    Costs are those of all that lacks, also of what cannot be made before data are there.
    """

    models: tuple[ModelPlan, ...]
    gpu: str

    def totals(self) -> dict[str, Any]:
        """Sums over the models."""
        to_train = [model for model in self.models if model.state != "there"]
        train = sum(model.train_flops or 0.0 for model in to_train)
        evaluate = sum(model.eval_flops for model in self.models)
        return {
            "runs": Counter(model.state for model in self.models if model.train),
            "cells": Counter(cell.state for model in self.models for cell in model.cells),
            "train_flops": train,
            "train_flops_unknown": [m.name for m in to_train if m.train_flops is None],
            "train_gpu_hours": costs.gpu_hours(train, self.gpu),
            "eval_flops_at_least": evaluate,
            "eval_gpu_hours_at_least": costs.gpu_hours(evaluate, self.gpu),
            "run_bytes": sum(model.disk for model in to_train),
            "cache_bytes_at_least": sum(model.cache for model in self.models),
            "outcome_bytes": sum(model.outcomes for model in self.models),
        }

    def to_json(self) -> dict[str, Any]:
        """The plan for machines."""
        gpu = {"name": self.gpu, "peak": costs.PEAKS[self.gpu], "utilisation": costs.UTILISATION}
        return {
            "models": [asdict(model) for model in self.models],
            "totals": self.totals(),
            "gpu": gpu,
        }

    def text(self) -> str:
        """The plan for people: models, cells by task, and what all of it costs."""
        blocks = [self._models(), self._cells(), *self._reasons(), self._totals()]
        return "\n\n".join("\n".join(lines) for lines in blocks)

    def _models(self) -> list[str]:
        unit = f"{self.gpu.upper()} hours"
        rows = [["model", "training", "cells there", "FLOPs", unit, "disk", "what"]]
        for model in self.models:
            there = sum(cell.state == "there" for cell in model.cells)
            cost = ["", "", ""]
            if model.state != "there":
                flops = model.train_flops
                cost = ["?", "?", "?"]
                if flops is not None:
                    hours = _hours(costs.gpu_hours(flops, self.gpu))
                    cost = [f"{flops:.2g}", hours, _bytes(model.disk)]
            place = f" -> {model.source}" if model.train else ""
            what = f"{model.train or model.source}{place}"
            cells = f"{there} of {len(model.cells)}"
            rows.append([model.name, model.training, cells, *cost, what])
        return _aligned(rows, right=(3, 4, 5))

    def _cells(self) -> list[str]:
        rows = [["cells", *STATES]]
        cells = [cell for model in self.models for cell in model.cells]
        for task in dict.fromkeys(cell.task for cell in cells):
            of_task = [cell for cell in cells if cell.task == task]
            counts = Counter(cell.state for cell in of_task)
            rows.append([task, *(str(counts[state]) for state in STATES)])
        return _aligned(rows, right=(1, 2, 3))

    def _reasons(self) -> list[list[str]]:
        """Why models and cells cannot be, each reason once."""
        found: dict[str, list[str]] = {}
        for model in self.models:
            if model.why:
                found.setdefault(model.why, []).append(model.name)
            for cell in model.cells:
                if cell.why and not (model.why and cell.why.endswith(model.why)):
                    found.setdefault(cell.why, []).append(cell.task)
        lines = [
            f"  {', '.join(dict.fromkeys(names))}: {reason}" for reason, names in found.items()
        ]
        return [["cannot be now", *lines]] if lines else []

    def _totals(self) -> list[str]:
        totals = self.totals()
        runs, cells = totals["runs"], totals["cells"]
        peak = f"{costs.PEAKS[self.gpu] / 1e12:.0f} TFLOP/s, {costs.UTILISATION:.0%} of it reached"
        least = "at least " if totals["train_flops_unknown"] else ""
        train = f"{least}{totals['train_flops']:.2g} FLOPs, {_hours(totals['train_gpu_hours'])}"
        evaluation = f"{totals['eval_flops_at_least']:.2g} FLOPs"
        hours = _hours(totals["eval_gpu_hours_at_least"])
        disk = totals["run_bytes"] + totals["cache_bytes_at_least"] + totals["outcome_bytes"]
        return [
            f"{_counted(runs, 'run')}; {_counted(cells, 'cell')}",
            "costs of all that lacks, whether it can be made now or not:",
            f"training    {train} hours on one {self.gpu.upper()} ({peak})",
            f"evaluation  at least {evaluation}, {hours} hours: one forward pass over the images, "
            "heads and fine-tuning come on top",
            f"disk        at least {_bytes(disk)}: runs {_bytes(totals['run_bytes'])}, features "
            f"{_bytes(totals['cache_bytes_at_least'])}, results {_bytes(totals['outcome_bytes'])}",
        ]


def plan(
    matrix: Matrix,
    store: Store,
    runs: Path,
    data: Path | None = None,
    gpu: str = "h100",
    *,
    precision: str = "fp32",
    skip_bad: int = 0,
) -> Plan:
    """Look at runs, results and data, and write nothing.

    `precision` and `skip_bad` are those of the evaluation, for they are part of what a cell is.

    Raises:
        SpecError: a GPU whose speed is not known.
    """
    from bench.matrix_survey import Survey

    costs.gpu_hours(0, gpu)
    survey = Survey(store, runs, data, matrix.seeds, precision, skip_bad)
    return Plan(tuple(survey.model(entry) for entry in matrix.entries), gpu)


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    """The rows in columns two spaces apart, the first row's words above them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if place in right else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _counted(states: Counter[str], noun: str) -> str:
    """`4 cells: 1 there, 3 to do`."""
    total = states.total()
    parts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    return f"{total} {noun}{'' if total == 1 else 's'}" + (f": {parts}" if parts else "")


def _hours(hours: float) -> str:
    if 0 < hours < 0.01:
        return "<0.01"
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"


def _bytes(count: float) -> str:
    """`5.1 GB`, in powers of 1000 as disks are sold."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, max(0, (len(f"{count:.0f}") - 1) // 3))
    value = count / 1000**power
    return f"{value:.1f} {units[power]}" if power and value < 10 else f"{value:.0f} {units[power]}"

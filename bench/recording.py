"""What is written down of a cell: its result, with cost, provenance and names of classes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench import provenance
from bench.class_words import class_words
from bench.plan import Request
from bench.records import Identity, Outcome, Result
from bench.task import Task, TaskData, warnings_of

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split


@dataclass(eq=False)
class Cell:
    """One cell that is to be made.

    Attributes:
        request: the task.
        data: its data set.
        identity: what it will be stored under.
        name: in messages.
        skipped: why images that it would have read are left out.
        seconds: its own time and its share of what it shares.
        shared: what it shares, with whom, and the seconds of the whole of it.
    """

    request: Request
    data: TaskData
    identity: Identity
    name: str
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    shared: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What runs inside counts as this cell's time, what it leaves out as left out here."""
        self.data.skipped.clear()
        clock = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - clock
            self.skipped += [text for text in self.data.skipped if text not in self.skipped]


def charge(cells: Sequence[Cell], what: str, seconds: float) -> None:
    """Shares the seconds of a common piece of work among cells, and notes it in each."""
    texts = [cell.request.text for cell in cells]
    for cell in cells:
        cell.seconds += seconds / len(cells)
        cell.shared.append({"what": what, "seconds": seconds, "tasks": texts})


def result_of(model: LoadedModel, cell: Cell, outcome: Outcome) -> Result:
    """The record of a cell that has run."""
    task, data = cell.request.task, cell.data
    cost: dict[str, Any] = {
        "seconds": cell.seconds,
        "images": sum(len(data.open(split)) for split in task.needs),
        "peak_memory_bytes": peak_memory(data.device),
    }
    return Result(
        identity=cell.identity,
        task_spec=cell.request.text,
        headline=task.headline,
        metrics=task.score(outcome),
        model=model.record.to_dict(),
        dataset=_describe(data, task),
        cost=cost | ({"shared": cell.shared} if cell.shared else {}),
        provenance=provenance.collect(cell.started),
        warnings=[
            *warnings_of(outcome),
            *(f"left out: {reason}" for reason in cell.skipped),
            *_of_training(model),
        ],
    )


def with_class_names(outcome: Outcome, split: Split) -> Outcome:
    """The same outcome, with the names of the classes that its targets count, for who reads it."""
    target = outcome.columns.get("target")
    names = class_words(split)
    if target is None or target.dtype.kind not in "iu" or not names:
        return outcome
    named = {"class_names": np.array(names, dtype=np.str_), **outcome.extras}
    return Outcome(columns=outcome.columns, extras=named)


def peak_memory(device: str) -> int:
    """Peak memory in bytes: of the device, or of this process so far on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _of_training(model: LoadedModel) -> list[str]:
    """What the pre-training record says against a model."""
    collapsed = (model.record.pretrain or {}).get("collapsed")
    return [f"pre-training collapsed: {collapsed}"] if collapsed else []


def _describe(data: TaskData, task: Task) -> dict[str, Any]:
    splits = {name: data.open(name) for name in task.needs}
    return {
        "name": "+".join(str(part) for part in data.parts),
        "manifests": {name: split.manifest for name, split in splits.items()},
        "images": {name: len(split) for name, split in splits.items()},
        "classes": len(next(iter(splits.values())).classes),
        "split_rule": "+".join(dict.fromkeys(next(iter(splits.values())).split_ids)),
    }


def shown(result: Result) -> str:
    """The headline with its interval, for a line of the log."""
    metric = result.metrics[result.headline]
    interval = "" if metric.low is None else f" [{metric.low:.4f}, {metric.high:.4f}]"
    return f"{result.headline} {metric.value:.4f}{interval}"

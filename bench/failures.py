"""Cells that failed when they were tried last, one small file each in the store.

    results/.failures/<digest>.json

A file goes once its cell succeeds. They are notes for people, not results: nothing is computed
from them, and whoever deletes them loses nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import registry
from bench.disk import whole_file
from bench.provenance import command_line

FOLDER = ".failures"
SCHEMA = 1

_LONGEST_TEXT = 4_000  # letters; what a library prints on top helps nobody
_LARGEST_FILE = 100_000  # bytes; what is larger is not one of these files


@dataclass(frozen=True, order=True)
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
        train: canonical spec of its pre-training, `pretrain["spec"]`; empty where not known.
    """

    model: str
    source: str
    task: str
    seed: int
    error: str
    when: str
    command: str
    train: str = ""

    @property
    def cell(self) -> str:
        """The cell in words, as in a report."""
        return f"{self.model} · {self.task} · seed {self.seed}"


def failures(root: Path) -> list[Failure]:
    """Every recorded failure of the store at `root`, sorted; broken files are passed over."""
    return sorted(failure for path in _files(root) if (failure := _read(path)))


def record(
    root: Path, model: str, source: str, task: str, seed: int, error: str, train: str = ""
) -> None:
    """Notes that a cell failed now. A disk that refuses is no further failure."""
    values = {
        "schema": SCHEMA,
        "model": model,
        "source": source,
        "task": task,
        "seed": seed,
        "error": error[:_LONGEST_TEXT],
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(sys.argv)[:_LONGEST_TEXT],
        "train": train,
    }
    path = _path(root, source, task, seed)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write((json.dumps(values, indent=1, sort_keys=True) + "\n").encode())


def forget(root: Path, source: str, task: str, seed: int) -> None:
    """Removes the note of a cell that is there now, if there is one."""
    if (root / FOLDER).is_dir():
        with suppress(OSError):
            _path(root, source, task, seed).unlink(missing_ok=True)


def _path(root: Path, source: str, task: str, seed: int) -> Path:
    """One file a cell, however the path of its model is written and whether it is there yet."""
    prefixed = source.partition(":")[0] in registry.names("family")
    place = source if prefixed else os.path.abspath(source)
    text = json.dumps([place, task, seed])
    return root / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _files(root: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (root / FOLDER).glob("*.json")


def _read(path: Path) -> Failure | None:
    """The failure of a file, None where it is not one that this version can read."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
            return None
        failure = Failure(**values)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    whole = all(
        type(getattr(failure, field.name)) is (int if field.name == "seed" else str)
        for field in dataclasses.fields(Failure)
    )
    return failure if whole else None

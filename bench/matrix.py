"""Matrices: models x tasks x seeds, with models that are still to be trained among them.

`bench.matrix_file.read` reads one from TOML, `bench.matrix_plan.plan` says what it would take, and
`run` fills it. Importing this needs no torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import registry
from bench.errors import SpecError
from bench.spec import parse

if TYPE_CHECKING:
    from bench.engine import Report, Settings
    from bench.store import Store


@dataclass(frozen=True)
class Entry:
    """A model and what it is evaluated on.

    Attributes:
        name: in messages and plans.
        tasks: comma lists of task specs, as `sslbench eval --tasks` takes them.
        train: how it is pre-trained, `METHOD@DATASET?key=value`.
        source: a model that is there, as `sslbench eval` takes it. Exactly one of the two is given.
    """

    name: str
    tasks: tuple[str, ...]
    train: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if bool(self.train) == bool(self.source):
            found = "both" if self.train else "neither"
            raise SpecError(f"{self.name}: found {found} of train and source, give one of them")


@dataclass(frozen=True)
class Matrix:
    """Cells to be filled: each entry's tasks, with every seed of the evaluation."""

    entries: tuple[Entry, ...]
    seeds: tuple[int, ...] = (0,)


def canonical(train: str) -> str:
    """What a training spec trains, whatever it changes of how: `pretrain["spec"]` of its checkpoint.

    Two specs of one canonical text are one run.
    """
    text: str = registry.attribute("trainers.recipe:canonical")(parse(train))
    return text


def run_folder(runs: Path, train: str) -> Path:
    """Where the run of a training spec lies: `runs/METHOD-<8 hex of its canonical text's sha256>`.

    So a model that several matrices and tables name is trained once.
    """
    digest = hashlib.sha256(canonical(train).encode()).hexdigest()
    return runs / f"{parse(train).name}-{digest[:8]}"


def run(matrix: Matrix, store: Store, settings: Settings, runs: Path) -> Report:
    """Train what lacks, evaluate, and go on after every failure; see `bench.failures`.

    Args:
        matrix: its seeds are used, those of `settings` are not.
        store: where results go; what is there is not run again.
        settings: how cells are run; `skip_bad` holds for training too.
        runs: folder of the run folders; partly trained ones are continued.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; the same call continues.
    """
    raise NotImplementedError

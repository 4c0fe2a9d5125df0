"""Stored rollouts for the figure `rollout`: which cell holds them, and which episodes are drawn."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench import registry
from bench.episodes import numbers_by_task
from bench.errors import SpecError
from bench.plan import model_digest, requests
from bench.records import Outcome, Result
from bench.store import Store

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.figure import Photos

_LISTED = 4  # cells in a message


@dataclass(frozen=True, eq=False)
class Cell:
    """A stored cell of a suite.

    Attributes:
        result: what was evaluated, and when.
        outcome: the rollouts.
        protocol: the task as it was asked for.
    """

    result: Result
    outcome: Outcome
    protocol: Any

    @property
    def simulator(self) -> str:
        """The versions of the packages that simulated."""
        return str(self.result.identity.fields.get("facts", {}).get("simulator", "unknown"))

    def queries(self, name: str, policy: int) -> npt.NDArray[Any] | None:
        """(heads, d) of the attentive pooling of a policy; None where it pools in another way."""
        found = self.outcome.extras.get(f"queries:{name}")
        return None if found is None else found[policy]


@dataclass(frozen=True, eq=False)
class Episode:
    """One stored rollout of one policy.

    Attributes:
        start: its number.
        seed: of the simulator.
        needed: solved decisions of a success.
        actions: (T, a), as they were taken.
        solved: (T,) whether the task was solved after each.
    """

    start: int
    seed: int
    needed: int
    actions: npt.NDArray[Any]
    solved: npt.NDArray[np.bool_]

    @property
    def success(self) -> bool:
        """Whether it was solved for long enough."""
        return int(self.solved.sum()) >= self.needed


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn of which suites.

    Attributes:
        tasks: names of tasks by suite.
        seed: of the evaluation.
        cell: first digits of the digest; empty where there is one cell only.
    """

    tasks: dict[str, list[str]]
    seed: int
    cell: str


def tasks_among(photos: Photos) -> dict[str, list[str]]:
    """The robot tasks of every suite among the images, whole.

    SpecError: an image belongs to none.
    """
    base = registry.attribute("tasks.robot.cloning.task:CloningTask")
    found: dict[str, list[str]] = {}
    for photo in photos.items:
        split = photo.sample[0] if photo.sample else None
        suite = split.name.partition("[")[0] if split and "+" not in split.name else ""
        known = suite in registry.names("task") and issubclass(registry.load("task", suite), base)
        if split is None or not known:
            raise SpecError(
                f"rollout draws tasks of robots, and {photo.name} is of none: name a data set such "
                "as 'franka_kitchen[tasks=light_on]'"
            )
        names = found.setdefault(suite, [])
        names += [name for name in numbers_by_task(split.ids) if name not in names]
    return found


def cells_of(model: LoadedModel, wanted: Wanted, root: str) -> list[tuple[str, Cell]]:
    """Each wanted task with the cell that holds its rollouts.

    Raises:
        SpecError: none does, or several do.
        StoreError: a stored outcome is broken.
    """
    store, weights = Store(root), model_digest(model)
    version = {suite: registry.load("task", suite).version for suite in wanted.tasks}
    stored = [
        Cell(result, store.outcome(result), requests([result.task_spec])[0].task)
        for result in store.results()
        if result.identity.weights == weights
        and result.identity.seed == wanted.seed
        and version.get(result.identity.task) == result.identity.task_version
        and result.identity.digest.startswith(wanted.cell)
    ]
    found: list[tuple[str, Cell]] = []
    missing: dict[str, list[str]] = {}
    for suite, names in wanted.tasks.items():
        own = [cell for cell in stored if cell.result.identity.task == suite]
        for name in names:
            holding = [cell for cell in own if f"actions:{name}" in cell.outcome.extras]
            if len(holding) > 1:
                raise SpecError(_several(name, holding, root))
            found += [(name, cell) for cell in holding]
            if not holding:
                missing.setdefault(suite, []).append(name)
    if missing:
        raise SpecError(_nothing(model.record.source, missing, wanted, root))
    return found


def _several(name: str, cells: Sequence[Cell], root: str) -> str:
    """What to write where more than one cell will do."""
    listed = [f"cell={c.result.identity.digest[:8]} is {c.result.task_spec}" for c in cells]
    more = f" and {len(cells) - _LISTED} more" if len(cells) > _LISTED else ""
    return (
        f"{root} holds {len(cells)} evaluations of this model on {name}, choose one: "
        f"{'; '.join(listed[:_LISTED])}{more}"
    )


def _nothing(source: str, missing: dict[str, list[str]], wanted: Wanted, root: str) -> str:
    """The command that makes what is missing."""
    specs = [f"{suite}@{suite}[tasks={':'.join(names)}]" for suite, names in missing.items()]
    command = ["sslbench", "eval", source, "--tasks", ",".join(specs), "--results", root]
    command += ["--seed", str(wanted.seed)] if wanted.seed else []
    which = f" in a cell {wanted.cell}..." if wanted.cell else ""
    names = ", ".join(name for group in missing.values() for name in group)
    return f"{root} holds no rollouts of this model on {names}{which}: run {shlex.join(command)}"


def episodes_of(cell: Cell, name: str, policy: int) -> list[Episode]:
    """All rollouts of one policy on one task, in the order of the starts.

    SpecError: there is no such policy.
    """
    columns, extras = cell.outcome.columns, cell.outcome.extras
    actions, solved = extras[f"actions:{name}"], extras[f"solved:{name}"]
    if policy >= len(actions):
        raise SpecError(
            f"policy={policy}: {cell.result.task_spec} has {len(actions)}, counted from 0"
        )
    rows = np.flatnonzero(columns["task"] == name)
    numbers = numbers_by_task(tuple(columns["id"][rows].tolist()))[name]
    seeds, needed = columns["seed"][rows].tolist(), columns["needed"][rows].tolist()
    of_one = zip(numbers, seeds, needed, actions[policy], solved[policy], strict=True)
    return [Episode(*values) for values in of_one]


def chosen(episodes: Sequence[Episode], starts: Sequence[int]) -> list[Episode]:
    """Those of the named starts; without any the first success and the first failure there are.

    SpecError: there is no such start.
    """
    if starts:
        by_number = {episode.start: episode for episode in episodes}
        for number in starts:
            if number not in by_number:
                there = f"{min(by_number)} to {max(by_number)}"
                raise SpecError(f"starts={number}: those stored are {there}")
        return [by_number[number] for number in dict.fromkeys(starts)]
    firsts = (
        next((episode for episode in episodes if episode.success is success), None)
        for success in (True, False)
    )
    return [episode for episode in firsts if episode is not None]

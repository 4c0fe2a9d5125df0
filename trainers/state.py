"""Run folders: what a resume needs, written so that a kill leaves the old state or the new one."""

import errno
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench import provenance
from bench.dataset import Split
from bench.disk import whole_file
from bench.errors import TrainingError
from bench.progress import say
from bench.spec import Spec
from trainers.recipe import NEUTRAL, Plan

KEPT_STATES = 2


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` in one step."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=2, sort_keys=True).encode())


class RunFolder:
    """The folder of one training run: ``config.json``, ``metrics.jsonl``, ``state/``,
    ``checkpoint/``.

    Args:
        root: the folder; created when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.metrics = root / "metrics.jsonl"
        self.checkpoint = root / "checkpoint"

    def config(self) -> dict[str, Any] | None:
        """The stored configuration, or None for a folder without a run."""
        path = self.root / "config.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin a run here."""
        (self.root / "state").mkdir(parents=True, exist_ok=True)
        write_json(self.root / "config.json", config)
        self.metrics.touch()

    def states(self) -> list[Path]:
        """Whole saved states, newest last."""
        return sorted((self.root / "state").glob("step-*.pt"))

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Save the state after ``step`` optimiser steps; older ones but one are removed.

        Raises:
            TrainingError: the disk is full; what was saved before is untouched.
        """
        path = self.root / "state" / f"step-{step:09d}.pt"
        try:
            with whole_file(path) as file:
                torch.save(dict(state), file)
        except (OSError, RuntimeError) as error:
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            reason = "the disk is full" if full else str(error).splitlines()[0]
            last = self.states()[-1].stem if self.states() else "none"
            raise TrainingError(
                f"the state after step {step} could not be saved in {path.parent}: {reason}; the "
                f"last saved state is {last}: free some space and run again with --resume"
            ) from error
        for old in self.states()[:-KEPT_STATES]:
            old.unlink()

    def load(self) -> dict[str, Any]:
        """The newest state that can be read, empty when none was saved; damaged ones are named.

        Raises:
            TrainingError: there are states, and none can be read.
        """
        for path in reversed(self.states()):
            try:
                return dict(torch.load(path, map_location="cpu", weights_only=True))
            except Exception as error:
                # Whatever is wrong with the file, the state before it may be whole.
                say(f"{path} cannot be read ({type(error).__name__}): trying the state before it")
        if self.states():
            raise TrainingError(
                f"none of the states in {self.root / 'state'} can be read: restore one of them, or "
                "start anew in another --out"
            )
        return {}


class MetricsLog:
    """``metrics.jsonl``: one line a record, whole lines only; TensorBoard on request.

    Args:
        folder: the run.
        step: records of later steps, left by a killed run, are dropped.
        tensorboard: whether scalars go to ``tensorboard/`` too.
    """

    def __init__(self, folder: RunFolder, step: int, tensorboard: bool) -> None:
        lines = folder.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        if len(kept) != len(lines):
            with whole_file(folder.metrics) as file:
                file.write("".join(kept).encode())
        self._file = folder.metrics.open("a", encoding="utf-8")
        self._board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder.root / "tensorboard"), purge_step=step)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a record; it is in the file when this returns."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def open_run(
    out: Path, spec: Spec, plan: Plan, split: Split, resume: bool
) -> tuple[RunFolder, dict[str, Any], dict[str, Any]]:
    """The run folder, its configuration, and the saved state to go on from, empty for none."""
    folder = RunFolder(out)
    config = {
        "schema": 1,
        "method": spec.name,
        "recipe": asdict(plan.recipe),
        "dataset": spec.dataset_text,
        "manifest": split.manifest,
        "images": len(split),
        "provenance": provenance.collect(),
    }
    old = folder.config()
    if old is None:
        return folder, config, {}
    if not resume:
        raise TrainingError(
            f"{out} already holds a run of {old['method']}@{old['dataset']}: pass --resume to "
            "continue it, or choose another --out"
        )
    if changed := changes(old, config):
        raise TrainingError(
            f"{out} cannot be resumed with other settings ({'; '.join(changed)}): repeat the "
            "original command, or choose another --out"
        )
    return folder, config, folder.load()


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ between two configurations, leaving out those that change no result."""

    def flat(config: Mapping[str, Any]) -> dict[str, Any]:
        values = {key: config[key] for key in ("method", "dataset", "manifest")} | config["recipe"]
        # Tuples come back from JSON as lists.
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    before, now = flat(old), flat(new)
    return [
        f"{key} was {before.get(key)}, now {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in NEUTRAL
    ]

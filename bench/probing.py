"""Probes: whatever trains on frozen features, several at once on one stream of images.

The frozen forward is what costs: a linear sweep, an attentive and a decoder probe on the same crops
need one (protocols.md A6).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.errors import TrainingError
from bench.progress import Progress, say
from bench.records import Outcome
from bench.snapshot import Snapshot
from bench.streams import Stream, open_stream

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.task import TaskData


class Probe(ABC):
    """Something that learns from the batches of a stream, and what came out of it.

    Attributes:
        label: shown while it trains.
        stream: its training images.
        recipes: token recipes that `step` reads; `tokens` comes as (b, t, d), vectors as (b, d).
        epochs: how many of the stream's it takes.
    """

    label: str
    stream: Stream
    recipes: tuple[str, ...]
    epochs: int

    @abstractmethod
    def step(
        self, features: Mapping[str, Tensor], target: Tensor, epoch: int, iteration: int
    ) -> None:
        """One update on features (float32, on the device, not to be changed) and classes (b,).

        The global random generators start the same at every step, whoever else is trained.
        """

    @abstractmethod
    def after_epoch(self, epoch: int) -> None:
        """`epoch` epochs are done: looks at other images when that is due."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """What it says of the evaluated images, after the last epoch."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on after the epoch that just ended (`bench.snapshot`)."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` gave."""


def run_probe(probe: Probe, model: LoadedModel, data: TaskData) -> Outcome:
    """Trains one probe; a killed training continues in `data.workspace`."""
    (found,) = run_probes([probe], model, data, [data.workspace])
    if isinstance(found, Exception):
        raise found
    return found


def run_probes(
    probes: Sequence[Probe],
    model: LoadedModel,
    data: TaskData,
    folders: Sequence[Path | None] = (),
) -> list[Outcome | Exception]:
    """Trains probes of one stream in lockstep; each fares exactly as it would alone.

    One that fails leaves the others alone; its exception stands in the place of its outcome. Each
    keeps its state in its folder, where it has one, and continues from what it finds there.
    """
    stream = probes[0].stream
    if any(probe.stream.key != stream.key for probe in probes[1:]):
        raise ValueError("probes of different streams cannot share one")
    recipes = tuple(dict.fromkeys(recipe for probe in probes for recipe in probe.recipes))
    failed: dict[int, Exception] = {}
    batches = open_stream(stream, recipes, model, data)
    files = [Snapshot(folder, "probe.pt") for folder in folders or [None] * len(probes)]
    done = [0] * len(probes)
    for index, (probe, file) in enumerate(zip(probes, files, strict=True)):
        with _noting(failed, index):
            done[index] = _resumed(probe, file)
    label = ", ".join(probe.label for probe in probes)
    first, last = min(done), max(probe.epochs for probe in probes)
    length = stream.iterations
    with Progress(label, total=last * length, done=first * length) as progress:
        for epoch in range(first, last):
            alive = {
                index: probe
                for index, probe in enumerate(probes)
                if index not in failed and done[index] <= epoch < probe.epochs
            }
            if not alive:
                continue
            for iteration, (features, target) in enumerate(batches.epoch(epoch)):
                for index, probe in alive.items():
                    with _noting(failed, index), _own_randomness(stream.seed, epoch, iteration):
                        if index not in failed:
                            probe.step(features, target, epoch, iteration)
                progress.advance()
                if failed.keys() >= alive.keys():
                    break
            for index, probe in alive.items():
                with _noting(failed, index):
                    if index not in failed:
                        probe.after_epoch(epoch + 1)
                        files[index].save(epoch + 1, probe.state)
    outcomes: list[Outcome | Exception] = []
    for index, probe in enumerate(probes):
        with _noting(failed, index):
            if index not in failed:
                outcomes.append(probe.outcome())
        if index in failed:
            outcomes.append(failed[index])
    return outcomes


def _resumed(probe: Probe, file: Snapshot) -> int:
    """Epochs that a killed run has done; the probe is then as it was after them."""
    done, state = file.load()
    if done:
        try:
            probe.restore(state)
        except Exception as error:  # half of it may be back: this probe cannot start anew
            file.drop()
            raise TrainingError(
                f"the state of {probe.label} after epoch {done} does not fit this version "
                f"({type(error).__name__}: {error}) and was removed: run the same command again"
            ) from error
        say(f"{probe.label}: continuing after epoch {done} of {probe.epochs}")
    return done


@contextmanager
def _noting(failed: dict[int, Exception], index: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        failed[index] = error


@contextmanager
def _own_randomness(seed: int, epoch: int, iteration: int) -> Iterator[None]:
    """Dropout and the like draw the same numbers, however many probes share the batch."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(hash((seed, epoch, iteration)) % 2**63)
        yield

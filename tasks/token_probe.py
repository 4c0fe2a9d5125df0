"""Training a sweep of token heads, and watching it on images that it does not train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.errors import TrainingError
from bench.probing import Probe
from bench.records import Outcome
from bench.snapshot import arrays_of, tensors_of
from bench.streams import Stream
from bench.token_table import TOKENS, TokenTable
from tasks.accuracy import in_top5
from tasks.token_protocols import TokenProtocol
from tasks.token_sweep import TokenSweep

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

EVAL_BATCH = 256  # images of one slice of an evaluation, whatever the passes' batch size is


@dataclass(frozen=True, eq=False)
class EvaluationTokens:
    """Rows of a table of tokens that are not trained on."""

    table: TokenTable
    rows: Rows

    @property
    def target(self) -> Rows:
        """(n,)."""
        return np.asarray(self.table.targets, dtype=np.int64)[self.rows]

    def batches(self) -> Iterator[tuple[slice, Tensor]]:
        """Places among the rows, and tokens (b, t, d)."""
        done = 0
        for part, tokens in self.table.batches(self.rows, EVAL_BATCH):
            yield slice(done, done + len(part)), tokens
            done += len(part)


@dataclass(frozen=True)
class Pick:
    """One head at one epoch, and what it says of the test images."""

    head: int
    epoch: int
    accuracy: float
    prediction: Rows
    top5: npt.NDArray[np.bool_]


@dataclass
class TokenWatch:
    """Accuracies of every head while they train, and the best head seen on the test images."""

    sweep: TokenSweep
    tests: EvaluationTokens
    held_out: EvaluationTokens | None = None
    epochs: list[int] = field(default_factory=list)
    test: list[Floats] = field(default_factory=list)  # (heads,) for each evaluated epoch
    held: list[Floats] = field(default_factory=list)
    final: Pick | None = None
    best: Pick | None = None

    def evaluate(self, epoch: int) -> None:
        """Scores all heads after `epoch` epochs; TrainingError when every one has diverged."""
        self.sweep.drop_diverged()
        if not self.sweep.living():
            raise TrainingError(
                f"all {len(self.sweep)} heads diverged within {epoch} epochs; lower lrs"
            )
        accuracy, prediction, top5 = self._read(self.tests)
        self.epochs.append(epoch)
        self.test.append(accuracy)
        if self.held_out is not None:
            self.held.append(self._read(self.held_out)[0])

        def pick(head: int) -> Pick:
            return Pick(head, epoch, float(accuracy[head]), prediction[head], top5[head])

        self.final = pick(int(np.nanargmax((self.held or self.test)[-1])))
        best = int(np.nanargmax(accuracy))
        if self.best is None or accuracy[best] > self.best.accuracy:
            self.best = pick(best)

    def _read(
        self, images: EvaluationTokens
    ) -> tuple[Floats, dict[int, Rows], dict[int, npt.NDArray[np.bool_]]]:
        """Accuracy (heads,), NaN for the diverged; predictions and top-5 hits of each living."""
        target, living = images.target, self.sweep.living()
        prediction = {head: np.empty(len(target), dtype=np.int64) for head in living}
        top5 = {head: np.empty(len(target), dtype=bool) for head in living}
        for places, tokens in images.batches():
            for head, scores in self.sweep.scores(tokens).items():
                prediction[head][places] = scores.argmax(axis=1)
                top5[head][places] = in_top5(target[places], scores)
        accuracy = np.full(len(self.sweep), np.nan)
        for head in living:
            accuracy[head] = (prediction[head] == target).mean()
        return accuracy, prediction, top5

    def state(self) -> dict[str, Any]:
        """What was evaluated so far, as tensors and plain values."""
        lists = {"test": self.test, "held": self.held}
        picks = {"final": self.final, "best": self.best}
        return {
            "epochs": list(self.epochs),
            **{name: [torch.from_numpy(a) for a in found] for name, found in lists.items()},
            **{name: pick and tensors_of(vars(pick)) for name, pick in picks.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` gave."""
        self.epochs = list(state["epochs"])
        self.test, self.held = ([a.numpy() for a in state[name]] for name in ("test", "held"))
        self.final, self.best = (
            state[name] and Pick(**arrays_of(state[name])) for name in ("final", "best")
        )

    def extras(self) -> dict[str, npt.NDArray[Any]]:
        """What every head is (heads,), and how it did at each evaluated epoch (epochs, heads)."""
        extras: dict[str, npt.NDArray[Any]] = {
            "head_lr": np.array(self.sweep.lrs),
            "evaluated_epochs": np.array(self.epochs),
            "test_accuracy": np.stack(self.test),
        }
        if self.held:
            extras["held_out_accuracy"] = np.stack(self.held)
        return extras


class TokenProbe(Probe):
    """A sweep on its stream, evaluated `evaluations` times at even distances, last at the end."""

    def __init__(
        self,
        label: str,
        stream: Stream,
        epochs: int,
        protocol: TokenProtocol,
        watch: TokenWatch,
        evaluations: int,
        conclude: Callable[[TokenWatch], Outcome],
    ) -> None:
        self.label = f"{label}: {len(watch.sweep)} heads"
        self.stream, self.recipes, self.epochs = stream, (TOKENS,), epochs
        self._protocol, self._watch, self._conclude = protocol, watch, conclude
        self._due = due_epochs(epochs, evaluations)

    def step(
        self, features: Mapping[str, Tensor], target: Tensor, epoch: int, iteration: int
    ) -> None:
        """One update of every head that has not diverged."""
        done, steps = epoch * self.stream.iterations + iteration, self.stream.iterations
        factor = self._protocol.factor(done, self.epochs * steps)
        self._watch.sweep.step(features[TOKENS], target, factor)

    def after_epoch(self, epoch: int) -> None:
        """Scores all heads when it is due."""
        if epoch in self._due:
            self._watch.evaluate(epoch)

    def outcome(self) -> Outcome:
        """What the reported head says of the test images."""
        return self._conclude(self._watch)

    def state(self) -> dict[str, Any]:
        """The heads with their optimisers, and what was watched."""
        return {"sweep": self._watch.sweep.state(), "watch": self._watch.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts both back."""
        self._watch.sweep.restore(state["sweep"])
        self._watch.restore(state["watch"])


def due_epochs(epochs: int, evaluations: int) -> Sequence[int]:
    """After which epochs to evaluate: evenly spaced, the last one always."""
    return sorted({-(-epochs * k // evaluations) for k in range(1, evaluations + 1)})

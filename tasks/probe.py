"""Training a sweep of heads, and watching it on images that it does not train on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bench.errors import TrainingError
from bench.progress import Progress
from tasks.linear_protocols import Protocol
from tasks.sweep import Features, Floats, HeadSweep

if TYPE_CHECKING:
    from bench.features import FeatureTable


class Batches(Interface):
    """Where a sweep's training batches come from: `iterations` of them for each epoch."""

    batch: int
    iterations: int

    def epoch(self, epoch: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Features (b, d) under every token recipe, and classes (b,)."""


@dataclass(frozen=True)
class EvaluationSet:
    """Features of images that are not trained on: token recipe -> (n, d), and classes (n,)."""

    features: Features
    target: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        table: FeatureTable,
        tokens: Sequence[str],
        rows: npt.NDArray[np.int64] | slice = slice(None),
    ) -> EvaluationSet:
        """The rows of a feature table, under every token recipe."""
        target = np.asarray(table.targets, dtype=np.int64)[rows]
        return cls({token: table.get(token)[rows] for token in tokens}, target)

    @property
    def widths(self) -> dict[str, int]:
        """Token recipe -> d."""
        return {token: array.shape[1] for token, array in self.features.items()}


@dataclass(frozen=True)
class Pick:
    """One head at one epoch, and what it says of the test images."""

    head: int
    epoch: int
    accuracy: float
    prediction: npt.NDArray[np.int64]  # (n,)
    top5: npt.NDArray[np.bool_]  # (n,)
    weight: Tensor  # (c, d), normalisation folded in
    bias: Tensor  # (c,)

    def extras(self) -> dict[str, npt.NDArray[Any]]:
        """The head itself, for an outcome: other tasks apply it to other images."""
        return {
            "reported_head": np.array(self.head),
            "reported_epoch": np.array(self.epoch),
            "weight": self.weight.cpu().numpy(),
            "bias": self.bias.cpu().numpy(),
        }


class Watch:
    """Accuracies of every head while a sweep trains, and the best head seen on the test images."""

    def __init__(
        self, sweep: HeadSweep, test: EvaluationSet, held_out: EvaluationSet | None = None
    ) -> None:
        self._sweep, self._test, self._held_out = sweep, test, held_out
        self.epochs: list[int] = []
        self.test: list[Floats] = []  # (heads,) for each evaluated epoch
        self.held_out: list[Floats] = []
        self._best: Pick | None = None

    def evaluate(self, epoch: int) -> None:
        """Scores all heads after `epoch` epochs; TrainingError when every one has diverged."""
        accuracy = self._sweep.accuracy(self._test.features, self._test.target)
        if np.isnan(accuracy).all():
            raise TrainingError(
                f"all {len(accuracy)} heads diverged within {epoch} epochs; lower lrs, or look at "
                "the features: their scale may call for batch_norm=on"
            )
        self.epochs.append(epoch)
        self.test.append(accuracy)
        if self._held_out is not None:
            held = self._sweep.accuracy(self._held_out.features, self._held_out.target)
            self.held_out.append(held)
        head = int(np.nanargmax(accuracy))
        if self._best is None or accuracy[head] > self._best.accuracy:
            self._best = self._pick(head)

    @property
    def best(self) -> Pick:
        """The head and epoch best on the test images; of equals the earliest."""
        if self._best is None:
            raise ValueError("nothing was evaluated yet")
        return self._best

    def _pick(self, head: int) -> Pick:
        """The head as it is now."""
        prediction, top5 = self._sweep.predict(head, self._test.features, self._test.target)
        accuracy = float(self.test[-1][head])
        return Pick(head, self.epochs[-1], accuracy, prediction, top5, *self._sweep.folded(head))

    def final(self) -> Pick:
        """The head to report after the last epoch: best on the held-out slice, if there is one.

        Without a slice it is the best on the test images. Of equals the first in the sweep.
        """
        return self._pick(int(np.nanargmax((self.held_out or self.test)[-1])))

    def table(self) -> dict[str, npt.NDArray[Any]]:
        """What every head is (heads,), and how it did at each evaluated epoch (epochs, heads)."""
        infos = self._sweep.infos
        table: dict[str, npt.NDArray[Any]] = {
            "head_token": np.array([head.token for head in infos], dtype=np.str_),
            "head_batch_norm": np.array([head.batch_norm for head in infos]),
            "head_lr": np.array([head.lr for head in infos]),
            "evaluated_epochs": np.array(self.epochs),
            "test_accuracy": np.stack(self.test),
        }
        if self.held_out:
            table["held_out_accuracy"] = np.stack(self.held_out)
        return table


def train_sweep(
    sweep: HeadSweep, batches: Batches, protocol: Protocol, watch: Watch, every: int, label: str
) -> None:
    """Trains all heads by the protocol, evaluating after each `every` epochs and after the last."""
    total = protocol.epochs * batches.iterations
    with Progress(f"{label}: {len(sweep)} heads", total=total) as progress:
        for epoch in range(protocol.epochs):
            for iteration, (features, target) in enumerate(batches.epoch(epoch)):
                sweep.step(features, target, protocol.factor(epoch, iteration, batches.iterations))
                progress.advance()
            done = epoch + 1
            if done % every == 0 or done == protocol.epochs:
                watch.evaluate(done)

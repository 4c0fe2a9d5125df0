"""Training a sweep of heads, and watching it on images that it does not train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.errors import TrainingError
from bench.probing import Probe
from bench.records import Outcome
from bench.snapshot import arrays_of, tensors_of
from bench.streams import Stream
from tasks.linear_protocols import Protocol
from tasks.sweep import Features, Floats, HeadSweep

if TYPE_CHECKING:
    from bench.features import FeatureTable


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

    def state(self) -> dict[str, Any]:
        """What was evaluated so far, as tensors and plain values."""
        lists = {"test": self.test, "held_out": self.held_out}
        arrays = {name: [torch.from_numpy(a) for a in found] for name, found in lists.items()}
        best = self._best and tensors_of(vars(self._best))
        return {"epochs": self.epochs, "best": best, **arrays}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` gave."""
        self.epochs = list(state["epochs"])
        self.test, self.held_out = (
            [tensor.numpy() for tensor in state[name]] for name in ("test", "held_out")
        )
        if (best := state["best"]) is not None:
            heads = {name: best[name] for name in ("weight", "bias")}
            self._best = Pick(**(arrays_of(best) | heads))

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


class SweepProbe(Probe):
    """A sweep of heads on its stream; evaluated after each `every` epochs and after the last.

    `conclude` turns what was watched into an outcome.
    """

    def __init__(
        self,
        sweep: HeadSweep,
        stream: Stream,
        protocol: Protocol,
        watch: Watch,
        every: int,
        label: str,
        conclude: Callable[[Watch], Outcome],
    ) -> None:
        self.label = f"{label}: {len(sweep)} heads"
        self.stream, self.recipes, self.epochs = stream, tuple(protocol.tokens), protocol.epochs
        self._sweep, self._protocol, self._watch = sweep, protocol, watch
        self._every, self._conclude = every, conclude

    def step(
        self, features: Mapping[str, Tensor], target: Tensor, epoch: int, iteration: int
    ) -> None:
        """One update of every head."""
        factor = self._protocol.factor(epoch, iteration, self.stream.iterations)
        self._sweep.step(features, target, factor)

    def after_epoch(self, epoch: int) -> None:
        """Scores all heads when it is due."""
        if epoch % self._every == 0 or epoch == self.epochs:
            self._watch.evaluate(epoch)

    def outcome(self) -> Outcome:
        """What the reported head says of the test images."""
        return self._conclude(self._watch)

    def state(self) -> dict[str, Any]:
        """The heads with their momenta, and what was watched."""
        return {"heads": self._sweep.state(), "watch": self._watch.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts both back."""
        self._sweep.restore(state["heads"])
        self._watch.restore(state["watch"])

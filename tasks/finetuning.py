"""The loop that fine-tunes a whole network, evaluates it, and survives a kill.

One device. A batch is forwarded in pieces of `data.batch_size` images whose gradients add up, so
that the published batches fit; the result does not depend on the pieces but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor

from bench.errors import DataError, TrainingError
from bench.progress import Progress, say
from bench.snapshot import Snapshot
from tasks.accuracy import in_top5
from tasks.finetune_batches import SoftBatch, TrainBatches, seed_of
from tasks.finetune_network import Classifier, draw_paths, parameter_groups

if TYPE_CHECKING:
    from bench.split import Split
    from bench.task import TaskData
    from bench.transforms import EvalTransform
    from tasks.finetune_protocols import FinetuneProtocol

STATE = "finetune.pt"
_PATHS = 2  # what a random key is for; the batches have 0 and 1


@dataclass
class History:
    """What a run has found so far; plain values and tensors, so that it is saved as it is.

    Attributes:
        loss: mean training loss of each epoch.
        epochs: numbers of the evaluated epochs, counted from 1.
        accuracy: top-1 on the test images at each of them.
        best: prediction (n,) and top5 (n,) of the first of the best epochs.
        final: the same of the last one.
    """

    loss: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    final: dict[str, Tensor] = field(default_factory=dict)

    def add(self, epoch: int, found: dict[str, Tensor], target: Tensor) -> None:
        """Takes the predictions after an epoch."""
        accuracy = float((found["prediction"] == target).double().mean())
        if accuracy > max(self.accuracy, default=-1.0):
            self.best = found
        self.epochs.append(epoch)
        self.accuracy.append(accuracy)
        self.final = found


class EvalImages:
    """The labelled test images as the network sees them; those that were read, in their order."""

    def __init__(self, split: Split, transform: EvalTransform, data: TaskData) -> None:
        self._split, self._transform, self._data = split, transform, data
        self.rows: npt.NDArray[np.int64] = np.arange(len(split))
        self._key = f"{split.manifest} {hash(split.ids)} {transform.id}"

    @property
    def target(self) -> npt.NDArray[np.int64]:
        """(n,) classes."""
        return self._split.targets[self.rows]

    def predict(self, network: Classifier) -> dict[str, Tensor]:
        """`prediction` (n,) and `top5` (n,), whether the class is among the five largest."""
        data, bad = self._data, dict[int, str]()
        pin = data.device.startswith("cuda")
        images = data.cache.pixels.batches(
            self._key, self._split, self._transform, self.rows, data.batch_size, data.workers, pin
        )
        predictions, tops, seen = [], [], []
        network.eval()
        with closing(images), torch.inference_mode(), autocast(data):
            for batch in images:
                bad |= batch.bad
                if not len(batch.rows):
                    continue
                pixels = network.backbone.input.normalise(batch.pixels.to(data.device))
                logits = network(pixels).float()  # (b, c)
                if not logits.isfinite().all():
                    raise TrainingError(
                        "the trained network gives scores that are not finite: lower lr, or run "
                        "with --precision fp32"
                    )
                target = self._split.targets[batch.rows.numpy()]
                predictions.append(logits.argmax(dim=1).cpu())
                tops.append(torch.from_numpy(in_top5(target, logits.cpu().numpy())))
                seen.append(batch.rows)
        self._leave_out(bad, seen)
        return {"prediction": torch.cat(predictions), "top5": torch.cat(tops)}

    def _leave_out(self, bad: Mapping[int, str], seen: list[Tensor]) -> None:
        self._data.leave_out(bad)
        if not seen:
            raise DataError(f"no test image can be read, such as {next(iter(bad.values()))}")
        self.rows = torch.cat(seen).numpy()


class FineTuner:
    """One run: `run` trains to the end from wherever the state in `data.workspace` is."""

    def __init__(
        self,
        network: Classifier,
        recipe: FinetuneProtocol,
        batches: TrainBatches,
        tests: EvalImages,
        data: TaskData,
    ) -> None:
        self.network, self.recipe = network.to(data.device), recipe
        self.batches, self.tests, self.data = batches, tests, data
        self.history = History()
        self.optimizer = torch.optim.AdamW(
            parameter_groups(network.network, recipe), lr=0.0, betas=(0.9, recipe.beta2), fused=True
        )
        self.snapshot = Snapshot(data.workspace, STATE)

    def run(self, eval_every: int, label: str) -> History:
        """Trains what is left of the epochs.

        Raises:
            TrainingError: the loss is not finite.
        """
        start, total = self._resumed(), self.recipe.epochs
        steps = self.batches.iterations
        with Progress(label, total * steps, start * steps) as progress:
            for epoch in range(start, total):
                losses = []
                for iteration, batch in enumerate(self.batches.epoch(epoch)):
                    losses.append(self.step(batch, epoch, iteration))
                    progress.advance(epoch=epoch + 1, loss=losses[-1])
                self.history.loss.append(float(np.mean(losses)))
                if (epoch + 1) % eval_every == 0 or epoch + 1 == total:
                    found = self.tests.predict(self.network)
                    self.history.add(epoch + 1, found, torch.from_numpy(self.tests.target))
                    progress.advance(0, top1=self.history.accuracy[-1])
                self.snapshot.save(epoch + 1, self._state)
        return self.history

    def step(self, batch: SoftBatch, epoch: int, iteration: int) -> float:
        """One update on a whole batch; its mean loss."""
        images, target = batch
        self._set_lr(epoch, iteration)
        generator = torch.Generator().manual_seed(seed_of(self.data.seed, epoch, iteration, _PATHS))
        keep = draw_paths(self.network.paths, len(images), generator).to(images.device)
        self.network.train()
        self.optimizer.zero_grad()
        criterion, total = SoftTargetCrossEntropy(), 0.0
        for start in range(0, len(images), self.data.batch_size):
            piece = slice(start, start + self.data.batch_size)
            for path, row in zip(self.network.paths, keep, strict=True):
                path.keep = row[piece]
            with autocast(self.data):
                logits = self.network(images[piece])
            loss = criterion(logits.float(), target[piece]) * (len(logits) / len(images))
            loss.backward()
            total += loss.item()
        if not np.isfinite(total):
            raise TrainingError(
                f"the loss is {total} in epoch {epoch + 1}, iteration {iteration + 1}: lower lr "
                f"(it was {self.lr(epoch, iteration):.3g}), or run with --precision fp32"
            )
        self.optimizer.step()
        return total

    def lr(self, epoch: int, iteration: int) -> float:
        """Learning rate of the head."""
        return self.recipe.lr_at(epoch, iteration, self.batches.iterations, self.batches.batch)

    def _set_lr(self, epoch: int, iteration: int) -> None:
        lr = self.lr(epoch, iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": vars(self.history),
            "rows": torch.from_numpy(self.tests.rows),
        }

    def _resumed(self) -> int:
        """The number of epochs that are done, with everything put back as it was after them."""
        done, state = self.snapshot.load()
        if done:
            self.network.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.history = History(**state["history"])
            self.tests.rows = state["rows"].numpy()
            say(f"continuing after epoch {done} of {self.recipe.epochs}")
        return done


def autocast(data: TaskData) -> torch.autocast:
    """Mixed precision where `data` asks for it; fp16 trains in bf16, which needs no loss scale."""
    enabled = data.precision != "fp32"
    return torch.autocast(torch.device(data.device).type, torch.bfloat16, enabled=enabled)

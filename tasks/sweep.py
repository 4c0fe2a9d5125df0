"""A sweep of linear heads over token recipes, BatchNorm on or off, and learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.memory import as_tensor
from tasks.accuracy import in_top5
from tasks.heads import LinearHeads
from tasks.linear_protocols import Protocol

Features = Mapping[str, npt.NDArray[np.floating]]  # token recipe -> (n, d)
Floats = npt.NDArray[np.float64]

EVAL_ELEMENTS = 2**24  # logits of one slice of an evaluation: 64 MB in float32


@dataclass(frozen=True)
class HeadInfo:
    """What tells one head of a sweep from the others; `lr` is the base rate, before scaling."""

    token: str
    batch_norm: bool
    lr: float


class HeadSweep:
    """All heads of one protocol, grouped by what they read: (token recipe, BatchNorm or not).

    Recipes differ in width and in input, so each group is one tensor [heads, classes, width];
    within a group a single matrix product serves every learning rate. Padding all groups to one
    width took twice as long (linear_dinov2 on ViT-S, 52 heads: 75 against 37 ms for the products
    of a step). Heads are numbered group by group, in the order of `infos`.
    """

    def __init__(
        self,
        protocol: Protocol,
        widths: Mapping[str, int],
        classes: int,
        batch: int,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        scale = batch / 256 if protocol.lr_rule == "scaled" else 1.0
        norms = {"off": (False,), "on": (True,), "both": (False, True)}[protocol.batch_norm]
        self.device = device
        self.classes = classes
        self.infos: list[HeadInfo] = []
        self.groups: list[tuple[str, LinearHeads]] = []
        for token, width in widths.items():
            for norm in norms:
                heads = LinearHeads(
                    [lr * scale for lr in protocol.lrs],
                    width,
                    classes,
                    optimizer=protocol.optimizer,
                    momentum=protocol.momentum,
                    weight_decay=protocol.weight_decay,
                    trust=protocol.trust,
                    batch_norm=norm,
                    init=protocol.init,
                    init_std=protocol.init_std,
                    seed=seed,
                    device=device,
                )
                self.groups.append((token, heads))
                self.infos += [HeadInfo(token, norm, lr) for lr in protocol.lrs]

    def __len__(self) -> int:
        return len(self.infos)

    def step(self, features: Mapping[str, Tensor], target: Tensor, factor: float) -> None:
        """One update of every head on a batch of features (b, d) per token and classes (b,)."""
        for token, heads in self.groups:
            heads.step(features[token], target, factor)

    def finite(self) -> npt.NDArray[np.bool_]:
        """(heads,): which heads have not diverged."""
        return np.concatenate([heads.finite().cpu().numpy() for _, heads in self.groups])

    def accuracy(self, features: Features, target: npt.NDArray[np.int64]) -> Floats:
        """Top-1 of every head (heads,); NaN for heads that diverged."""
        correct = []
        for token, heads in self.groups:
            hits = torch.zeros(len(heads), dtype=torch.int64)
            for rows, block in self._blocks(features[token], len(heads)):
                guess = heads.logits(block).argmax(dim=2).cpu()  # (b, h)
                hits += (guess == torch.from_numpy(target[rows])[:, None]).sum(0)
            correct.append(hits.numpy())
        share = np.concatenate(correct) / max(1, len(target))
        return np.where(self.finite(), share, np.nan)

    def predict(
        self, head: int, features: Features, target: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Predicted classes (n,) of one head, and whether the target is in its top five (n,)."""
        token, heads, local = self._locate(head)
        prediction = np.empty(len(target), dtype=np.int64)
        top5 = np.empty(len(target), dtype=bool)
        # The logits of all heads, though one is read: the same products as `accuracy` computed.
        for rows, block in self._blocks(features[token], len(heads)):
            scores = heads.logits(block)[:, local].cpu().numpy()  # (b, c)
            prediction[rows] = scores.argmax(axis=1)
            top5[rows] = in_top5(target[rows], scores)
        return prediction, top5

    def folded(self, head: int) -> tuple[Tensor, Tensor]:
        """Weight (c, d) and bias (c,) of one head on raw features, normalisation folded in."""
        _, heads, local = self._locate(head)
        return heads.folded(local)

    def state(self) -> list[dict[str, Tensor]]:
        """The tensors of each group that training changes."""
        return [heads.state() for _, heads in self.groups]

    def restore(self, state: Sequence[Mapping[str, Tensor]]) -> None:
        """Puts back what `state` gave."""
        for (_, heads), tensors in zip(self.groups, state, strict=True):
            heads.restore(tensors)

    def _locate(self, head: int) -> tuple[str, LinearHeads, int]:
        for token, heads in self.groups:
            if head < len(heads):
                return token, heads, head
            head -= len(heads)
        raise IndexError(head)

    def _blocks(
        self, features: npt.NDArray[np.floating], heads: int
    ) -> Iterator[tuple[slice, Tensor]]:
        size = max(1, EVAL_ELEMENTS // (heads * self.classes))
        table = as_tensor(features, "cpu")
        for start in range(0, len(table), size):
            rows = slice(start, min(start + size, len(table)))
            yield rows, table[rows].to(self.device)

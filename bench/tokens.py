"""What a Backbone answers with, and the head behind the recipe `proto`."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Tap:
    """Tokens after one block: `cls` (b, d) or None, `patches` (b, h, w, d); no registers."""

    cls: Tensor | None
    patches: Tensor


@dataclass(frozen=True)
class Tokens:
    """`cls` and `patches` of the last tap asked for, and `layers`, all taps in order."""

    cls: Tensor | None
    patches: Tensor
    layers: tuple[Tap, ...]


class Prototypes(nn.Module):
    """Prototype probabilities of normed patches: softmax(cos(projector(x), prototype) / T).

    The module behind the recipe `proto` (SlotMIM's EMA branch, T = 0.07); `prototypes` is (k, e).
    """

    def __init__(self, projector: nn.Module, prototypes: Tensor, temperature: float = 0.07) -> None:
        super().__init__()
        self.projector = projector
        self.register_buffer("prototypes", prototypes.detach().clone())
        self.temperature = temperature

    def forward(self, patches: Tensor) -> Tensor:
        """(b, h, w, d) -> (b, h, w, k), float32."""
        z = F.normalize(self.projector(patches).float(), dim=-1)  # (b, h, w, e)
        cosine = z @ F.normalize(self.get_buffer("prototypes").float(), dim=-1).T  # -> (b, h, w, k)
        return (cosine / self.temperature).softmax(dim=-1)

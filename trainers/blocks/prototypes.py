"""Prototypes: learned directions against which embeddings are scored."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def l2(x: Tensor) -> Tensor:
    """``x`` divided by its Euclidean norm along the last axis; eps 1e-6 in float16, else 1e-12."""
    return F.normalize(x, dim=-1, eps=1e-6 if x.dtype == torch.float16 else 1e-12)


class Prototypes(nn.Module):
    """Cosine scores of embeddings against K learned directions.

    A weight-normalised layer whose gain g is frozen at 1 (DINO's ``norm_last_layer``) is the same
    function as normalising the weight in the forward pass (SlotMIM), so both are ``gain="fixed"``.

    Args:
        dim: width of the embeddings.
        count: number of prototypes K.
        gain: ``fixed`` at 1, or ``free``: one learned gain a prototype (DINO ViT-S).
        init: ``normal`` N(0, 1) (SlotMIM), or ``linear``: uniform within 1 / sqrt(dim) (DINO).
    """

    def __init__(
        self,
        dim: int,
        count: int,
        *,
        gain: Literal["fixed", "free"] = "fixed",
        init: Literal["normal", "linear"] = "normal",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, dim))
        if init == "normal":
            nn.init.normal_(self.weight)
        else:
            nn.init.uniform_(self.weight, -(dim**-0.5), dim**-0.5)
        # (K, 1) as torch's weight_norm has it: two dimensions, so the official recipes decay it.
        self.gain = nn.Parameter(torch.ones(count, 1)) if gain == "free" else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., K) cosine similarity, times the gain where there is one."""
        scores = F.linear(l2(x), l2(self.weight))
        return scores if self.gain is None else scores * self.gain[:, 0]

    def mean_scores(self, x: Tensor) -> Tensor:
        """(..., d) -> (K,), the mean over all rows of their scores, in float32.

        Scores are linear in ``l2(x)``: the mean direction is scored, not each of many rows.
        """
        direction = l2(x.float()).flatten(0, -2).mean(0)
        with torch.autocast(x.device.type, enabled=False):  # which would undo float()
            scores = F.linear(direction, l2(self.weight.float()))
        return scores if self.gain is None else scores * self.gain[:, 0].float()

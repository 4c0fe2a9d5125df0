"""Heads that read all tokens, one for each learning rate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.vit import seeded
from tasks.token_heads import TokenHead, decayed
from tasks.token_protocols import TokenProtocol


class TokenSweep:
    """One head for each learning rate; all start the same, and none sees the others.

    Weights stay float32. With `precision` "bf16" heads compute under autocast; "fp16" is for the
    frozen forward alone, since training in it would need a loss scale.
    """

    def __init__(
        self,
        build: Callable[[], TokenHead],
        protocol: TokenProtocol,
        seed: int = 0,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        with seeded(seed):
            first = build()
        self.lrs, self._clip = protocol.lrs, protocol.clip
        self.heads = [copy.deepcopy(first).to(device) for _ in self.lrs]
        self._optimizers = [_adamw(head, protocol.weight_decay) for head in self.heads]
        self.alive = [True] * len(self.lrs)
        self._device = torch.device(device)
        self._low = precision == "bf16"

    def __len__(self) -> int:
        return len(self.lrs)

    def step(self, tokens: Tensor, target: Tensor, factor: float) -> None:
        """One update of every head on (b, t, d) and (b,); `factor` is the schedule's share."""
        devices = [self._device] if self._device.type == "cuda" else []
        for index in self.living():
            head, optimizer = self.heads[index].train(), self._optimizers[index]
            for group in optimizer.param_groups:
                group["lr"] = self.lrs[index] * factor
            with torch.random.fork_rng(devices):  # dropout: each head draws what it would alone
                with self._autocast():
                    loss = head.loss(tokens, target)
                optimizer.zero_grad()
                loss.backward()
            if self._clip:
                nn.utils.clip_grad_norm_(head.parameters(), self._clip)
            optimizer.step()

    def living(self) -> list[int]:
        """Heads that are still trained."""
        return [index for index, alive in enumerate(self.alive) if alive]

    def drop_diverged(self) -> None:
        """Stops training the heads whose weights are not finite."""
        for index in self.living():
            sums = [parameter.sum() for parameter in self.heads[index].parameters()]
            self.alive[index] = bool(torch.stack(sums).isfinite().all())

    @torch.no_grad()
    def scores(self, tokens: Tensor) -> dict[int, npt.NDArray[np.float32]]:
        """Living head -> class scores (b, c)."""
        found = {}
        for index in self.living():
            with self._autocast():
                scores = self.heads[index].eval().scores(tokens)
            found[index] = scores.float().cpu().numpy()
        return found

    def state(self) -> dict[str, Any]:
        """Weights and optimisers of every head, and which of them are alive."""
        return {
            "heads": [head.state_dict() for head in self.heads],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "alive": list(self.alive),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` gave."""
        for head, weights in zip(self.heads, state["heads"], strict=True):
            head.load_state_dict(weights)
        for optimizer, moments in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(moments)
        self.alive = list(state["alive"])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._low)


def _adamw(head: TokenHead, weight_decay: float) -> torch.optim.AdamW:
    matrices = decayed(head)
    known = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in head.parameters() if id(parameter) not in known]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0)

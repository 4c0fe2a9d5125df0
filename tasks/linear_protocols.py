"""The published linear-probing protocols as one table.

Scores of different protocols are never comparable; each has its own name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bench.backbone import Backbone

Name = Literal[
    "linear_cached",
    "linear_dino",
    "linear_mae",
    "linear_mae_sgd",
    "linear_dinov2",
    "linear_ab",
]
Augmentation = Literal["off", "rrc_bilinear", "rrc_bicubic", "rrc_tf"]
BatchNorm = Literal["off", "on", "both"]

SMALL_WIDTH = 384  # DINO and iBOT: cls4 up to ViT-S, cls+avg for wider backbones
LARGE_WIDTH = 1024  # MAE: shorter training from ViT-L on


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every number of one way to train a linear probe.

    `lrs` are base rates: with `lr_rule` "scaled" they are multiplied by batch / 256 (the global
    batch), with "absolute" they are taken as they are. `tokens` may hold `auto`: the CLS token or,
    without one, `avg`; with `auto_token` "dino" what DINO and iBOT take at that width. `schedule`
    says whether the cosine is read once per epoch or at every iteration. `epoch_iterations` is None
    (or 0) where an epoch is one pass over the training images. `large_epochs` holds for backbones
    at least 1024 wide (ViT-L and up).
    """

    tokens: tuple[str, ...]
    lrs: tuple[float, ...]
    batch: int
    epochs: int
    large_epochs: int | None = None
    auto_token: Literal["dino", "cls"] = "cls"
    optimizer: Literal["sgd", "lars"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    trust: float = 1e-3
    lr_rule: Literal["scaled", "absolute"] = "scaled"
    schedule: Literal["epoch", "iteration"] = "iteration"
    warmup_epochs: float = 0.0
    epoch_iterations: int | None = None
    batch_norm: BatchNorm = "off"
    init: Literal["normal", "trunc_normal"] = "normal"
    init_std: float = 0.01
    augmentation: Augmentation = "off"

    def factor(self, epoch: int, iteration: int, iterations: int) -> float:
        """Share of the learning rate: linear warm-up from 0, then half a cosine down to 0."""
        at = float(epoch) if self.schedule == "epoch" else epoch + iteration / iterations
        if at < self.warmup_epochs:
            return at / self.warmup_epochs
        return 0.5 + 0.5 * math.cos(
            math.pi * (at - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        )

    def for_backbone(self, backbone: Backbone) -> tuple[Protocol, tuple[str, ...]]:
        """The protocol with tokens and epochs settled, and the tokens that this backbone lacks."""
        auto = "cls" if backbone.has_cls else "avg"
        if self.auto_token == "dino" and backbone.available("cls"):
            # iBOT's Swins, without a CLS token, give cls4 at any width.
            small = backbone.embed_dim <= SMALL_WIDTH or not backbone.has_cls
            auto = "cls4" if small else "cls+avg"
        asked = dict.fromkeys(auto if token == "auto" else token for token in self.tokens)
        kept = tuple(token for token in asked if backbone.available(token)) or ("avg",)
        lost = tuple(token for token in asked if token not in kept)
        large = self.large_epochs if backbone.embed_dim >= LARGE_WIDTH else None
        return replace(self, tokens=kept, epochs=large or self.epochs), lost


# iBOT's sweep, a * 10^b with a = 1..9 and b = -4..0; DINO gives 0.001 and says to tune it.
_IBOT_LRS = tuple(float(f"{a}e{b}") for b in range(-4, 1) for a in range(1, 10))
_DINOV2_LRS = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)

_MAE = {
    "tokens": ("cls", "avg_fcnorm"),
    "lrs": (0.1,),
    "epochs": 90,
    "large_epochs": 50,
    "warmup_epochs": 10.0,
    "batch_norm": "on",
    "init": "trunc_normal",
    "augmentation": "rrc_tf",
}

PROTOCOLS: dict[Name, Protocol] = {
    # Ours: on the cached centre-crop features that k-NN uses; no augmentation, so never comparable
    # with the published ones. The non-affine BatchNorm makes one lr grid fit every checkpoint.
    "linear_cached": Protocol(
        tokens=("auto", "avg"),
        lrs=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        batch=1024,
        epochs=100,
        batch_norm="on",
    ),
    # DINO, iBOT, SOVE: cls4 for ViT-S (and smaller) and Swins, cls+avg for wider ViTs; cosine per
    # epoch.
    "linear_dino": Protocol(
        tokens=("auto",),
        auto_token="dino",
        lrs=_IBOT_LRS,
        batch=1024,
        epochs=100,
        schedule="epoch",
        augmentation="rrc_bilinear",
    ),
    # MAE, SlotMIM's scripts (which try both tokens), ASL.
    "linear_mae": Protocol(**_MAE, batch=16384, optimizer="lars"),
    # SlotMIM's text: SGD, batch 4096, lr 0.1, 90 epochs; what it leaves open is MAE's.
    "linear_mae_sgd": Protocol(**_MAE, batch=4096, lr_rule="absolute"),
    "linear_dinov2": Protocol(
        tokens=("cls", "cls4", "cls+avg", "cls4+avg"),
        lrs=_DINOV2_LRS,
        batch=1024,
        epochs=10,
        epoch_iterations=1250,
        augmentation="rrc_bicubic",
    ),
    # Annotation Bootstrapping, Table 5: only "10 epochs" is published, the rest is our reading
    # (DINO's optimiser and crops, MAE's BatchNorm, one lr per decade and its third).
    "linear_ab": Protocol(
        tokens=("auto",),
        lrs=(1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0),
        batch=1024,
        epochs=10,
        schedule="epoch",
        batch_norm="on",
        augmentation="rrc_bilinear",
    ),
}

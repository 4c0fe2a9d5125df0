"""The published fine-tuning protocols as one table.

Scores of different protocols are never comparable; each has its own name. `PROTOCOLS` holds those
that are named, `TRANSFER` what `transfer_deit` changes with the data set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

Name = Literal[
    "finetune_mae",
    "finetune_mae_norm_pix",
    "finetune_ibot",
    "finetune_ab",
    "finetune_asl32",
    "semi_ibot",
    "transfer_deit",
]
Token = Literal["cls", "avg", "avg_fcnorm"]
Schedule = Literal["mae", "beit", "deit"]
Crop = Literal["rrc", "pad", "auto"]

SMALL, BASE, LARGE, HUGE = 384, 768, 1024, 1280  # widths of the ViTs that protocols were tuned for
PADDED_PX = 32  # up to this side DeiT's and BEiT's scripts shift padded images, without resizing


@dataclass(frozen=True, kw_only=True)
class FinetuneProtocol:
    """Every number of one way to fine-tune a whole network.

    Attributes:
        token: what the head reads. `avg_fcnorm` brings a new norm, as MAE's `--global_pool` does,
            and drops the old one.
        lr: peak learning rate; with `lr_per` above 0 it is multiplied by batch / lr_per (the global
            batch), with 0 it is taken as it is.
        layer_decay: rate of block i is lr * layer_decay ** (depth - i), that of the patch embedding
            and positions lr * layer_decay ** (depth + 1), that of head and last norm lr; 1 is off.
        schedule: `mae` reads warm-up and cosine at every iteration, `beit` too, but reaches the
            peak on the last iteration of the warm-up; `deit` reads them once an epoch, an epoch
            late, and its cosine counts from the first epoch.
        warmup_lr: where the warm-up starts.
        min_lr: where the cosine ends; layer decay scales it too.
        decay_positions: whether weight decay holds for positions and the CLS token.
        head: `first_layer` keeps the first linear layer of the pre-training head before the new
            one.
        head_std: of the new linear layer's weights; its bias starts at 0.
        repeats: augmented copies of an image in a batch; an epoch then sees that many times fewer
            images.
        crop: `rrc` resized crops, `pad` shifts of the image padded by 4 px, `auto` the latter up to
            32 px.
        sizes: what differs with the width of the backbone; the nearest width counts, as a ratio.
    """

    token: Token
    lr: float
    epochs: int
    warmup_epochs: float
    lr_per: int = 256
    batch: int = 1024
    layer_decay: float = 1.0
    schedule: Schedule = "mae"
    warmup_lr: float = 0.0
    min_lr: float = 1e-6
    weight_decay: float = 0.05
    decay_positions: bool = False
    beta2: float = 0.999
    drop_path: float = 0.1
    head: Literal["linear", "first_layer"] = "linear"
    head_std: float = 2e-5
    auto_augment: str = "rand-m9-mstd0.5-inc1"
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1
    reprob: float = 0.25
    repeats: int = 1
    crop: Crop = "rrc"
    sizes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def for_width(self, embed_dim: int) -> FinetuneProtocol:
        """The protocol for a backbone of this width; sizes that were not published take the nearest
        one's numbers.
        """
        if not self.sizes:
            return self
        nearest = min(self.sizes, key=lambda width: abs(math.log(width / embed_dim)))
        return replace(self, **self.sizes[nearest], sizes={})

    def peak(self, batch: int) -> float:
        """The learning rate after the warm-up."""
        return self.lr * batch / self.lr_per if self.lr_per else self.lr

    def lr_at(self, epoch: int, iteration: int, iterations: int, batch: int) -> float:
        """Learning rate of a 0-based iteration of a 0-based epoch, before layer decay."""
        peak = self.peak(batch)
        at, warmup = float(epoch * iterations + iteration), self.warmup_epochs * iterations
        if self.schedule == "deit":
            at, warmup = float(max(epoch - 1, 0)), self.warmup_epochs
            if at < warmup:
                return self.warmup_lr + (peak - self.warmup_lr) * at / warmup
            return self._cosine(peak, at / self.epochs)
        if self.schedule == "beit":
            warmup = float(int(warmup))
        if at < warmup:
            whole = max(warmup - 1, 1) if self.schedule == "beit" else warmup
            return self.warmup_lr + (peak - self.warmup_lr) * at / whole
        return self._cosine(peak, (at - warmup) / (self.epochs * iterations - warmup))

    def _cosine(self, peak: float, share: float) -> float:
        return self.min_lr + (peak - self.min_lr) * 0.5 * (1 + math.cos(math.pi * share))


_MAE = FinetuneProtocol(
    token="avg_fcnorm",
    lr=1e-3,
    layer_decay=0.75,
    epochs=100,
    warmup_epochs=5.0,
    sizes={
        BASE: {},
        LARGE: {"epochs": 50, "drop_path": 0.2},
        HUGE: {"epochs": 50, "drop_path": 0.3},
    },
)

# DeiT's script as iBOT calls it: no layer decay, decay on positions too (its ViT names no
# exceptions), one rate an epoch. The moving average that it keeps is never evaluated: left out.
_DEIT = FinetuneProtocol(
    token="cls",
    lr=7.5e-6,
    lr_per=512,
    batch=768,
    epochs=1000,
    warmup_epochs=5.0,
    warmup_lr=1e-6,
    min_lr=1e-5,
    schedule="deit",
    decay_positions=True,
    head_std=0.02,
    repeats=3,
    crop="auto",
)

PROTOCOLS: dict[Name, FinetuneProtocol] = {
    # MAE, SlotMIM (its scripts; its text describes a linear probe), ASL.
    "finetune_mae": _MAE,
    # MAE's other row for ViT-B, for checkpoints that were trained on normalised pixels.
    "finetune_mae_norm_pix": replace(
        _MAE, sizes={**_MAE.sizes, BASE: {"lr": 5e-4, "layer_decay": 0.65}}
    ),
    # iBOT, SOVE: BEiT's script. 4e-3 is its default and not scaled with the batch; they sweep it.
    "finetune_ibot": FinetuneProtocol(
        token="cls",
        lr=4e-3,
        lr_per=0,
        epochs=100,
        warmup_epochs=20.0,
        schedule="beit",
        crop="auto",
        sizes={
            SMALL: {"epochs": 200, "layer_decay": 0.75, "drop_path": 0.1},
            BASE: {"epochs": 100, "layer_decay": 0.65, "drop_path": 0.2},
            LARGE: {"epochs": 50, "layer_decay": 0.75, "drop_path": 0.4, "warmup_epochs": 5.0},
        },
    ),
    # Annotation Bootstrapping, Table 5: only "10 epochs" is published, the rest is MAE's.
    "finetune_ab": replace(
        _MAE,
        epochs=10,
        warmup_epochs=1.0,
        sizes={BASE: {}, LARGE: {"drop_path": 0.2}, HUGE: {"drop_path": 0.3}},
    ),
    # ASL, Table 6: only the data is published. MAE's recipe on CIFAR's own pixels, shifted as
    # DeiT's script does at this size.
    "finetune_asl32": replace(_MAE, crop="pad", sizes={}),
    # iBOT's semi-supervised script: min_lr is the peak, so the rate is constant after the warm-up.
    "semi_ibot": replace(_DEIT, lr=5e-6, batch=1024, head="first_layer"),
    "transfer_deit": _DEIT,
}

# What `transfer_deit` changes for a data set, by its name. Any other takes CIFAR's numbers.
_INAT = {"epochs": 360, "reprob": 0.1}
TRANSFER: dict[str, Mapping[str, Any]] = {
    "cifar10": {},
    "cifar100": {},
    "flowers102": {},
    "cars": {"lr": 7.5e-5},
    "inat18": _INAT | {"sizes": {SMALL: {"lr": 5e-5}, BASE: {}}},
    "inat19": _INAT | {"sizes": {SMALL: {"lr": 2.5e-5}, BASE: {}}},
}


def with_fields(protocol: FinetuneProtocol, given: Mapping[str, Any]) -> FinetuneProtocol:
    """The protocol with these numbers in its place, at every size."""
    known = {f.name for f in fields(FinetuneProtocol)} - {"sizes"}
    given = {name: value for name, value in given.items() if name in known}
    sizes = {width: {**values, **given} for width, values in protocol.sizes.items()}
    return replace(protocol, **given, sizes=sizes)

"""Fine-tuning of the whole network, under each published protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from bench.task import TaskData
from tasks.finetune_protocols import PROTOCOLS, FinetuneProtocol
from tasks.finetune_task import FinetuneTask


@final
@dataclass(frozen=True, kw_only=True)
class Finetune(FinetuneTask):
    """Top-1 of a classifier whose whole network, a copy of the checkpoint's, is trained.

    The numbers of a protocol (`tasks/finetune_protocols.py`) differ with the width of the backbone.
    All train on timm's augmentation (random resized crops, RandAugment, random erasing, mixup and
    cutmix with smoothed labels), with AdamW and layer-wise learning rates:

    - `finetune_mae` (default): MAE, SlotMIM, ASL: average of patches through a new norm, 100 epochs
      (50 from ViT-L on); `finetune_mae_norm_pix` differs in rate and layer decay of ViT-B;
    - `finetune_ibot`: BEiT's script in iBOT and SOVE: CLS token, rate 4e-3 (they sweep it: `lr`);
      test images are resized as the checkpoint wants, where that script always takes bilinear;
    - `finetune_ab`: Annotation Bootstrapping's 10 epochs, else MAE's;
    - `finetune_asl32`: ASL's CIFAR at its own 32 px, MAE's recipe on shifted images.

    `selection=final` (default) reports the last epoch; `test` is what the papers' scripts do: the
    best epoch on val, marked by a warning. Metrics: `top1`, `top5` (more than five classes only),
    `final_top1`, and `best_top1`, always test-selected.

    What surprises: the rate is scaled with the batch, which is clipped to the training images; an
    incomplete last batch is left out; mixup draws one coefficient for the whole batch. On a CPU the
    outcome is the same to the bit whether or not the run was killed and continued.

    Attributes:
        protocol: gives the value of each option that is `none`, unless said otherwise.
    """

    version: ClassVar[int] = 1

    protocol: Literal[
        "finetune_mae", "finetune_mae_norm_pix", "finetune_ibot", "finetune_ab", "finetune_asl32"
    ] = "finetune_mae"

    @property
    def label(self) -> str:
        """Name of the protocol."""
        return self.protocol

    def possible(self) -> Sequence[FinetuneProtocol]:
        """The one of that name."""
        return (PROTOCOLS[self.protocol],)

    def choose(self, data: TaskData) -> tuple[FinetuneProtocol, list[str]]:
        """The one of that name."""
        return PROTOCOLS[self.protocol], []

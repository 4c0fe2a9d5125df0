"""Decoder probe: a small autoregressive transformer reads all frozen tokens and says the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

from bench.task import TaskData
from tasks.decoder_task import DecoderTask
from tasks.token_protocols import DECODER, Augmentation, TokenProtocol

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.transforms import EvalTransform


@final
@dataclass(frozen=True, kw_only=True)
class Decoder(DecoderTask):
    """Top-1 of the first token that a 4-layer decoder says after BOS, among the class tokens.

    The probe of Annotation Bootstrapping (A.1) after Beyer et al. (2023): cross-attention to all
    tokens after the final norm, CLS included. P3 gives the four layers and 10 epochs of ImageNet;
    all else (width, AdamW with rates 3e-4, 1e-3, 3e-3, weight decay 1e-4, 5 % warm-up, clipping at
    1, dropout and smoothing 0.1, one token for each class instead of its name in pieces) is our
    reading, so its numbers are near P3's at best. Its Table 1 reports `decoder@imagenet1k` as
    "ImageNet" and the mean of `decoder@{food101,pets,resisc45,sun397}` as "Avg Cls".

    `decoder_ab`: fresh crops, batch 1024 (256 below 50,000 training images), 10 epochs or as many
    as make 10,000 steps. `decoder_cached` (default) trains on the stored tokens of the centre crops
    and makes 300 steps at least, so that a processor can end it too; never comparable with a
    published number.

    Choice and metrics are `linear`'s, and so are the training images and the held-out ones; of
    these at most 10,000 are looked at, those with the smallest hashes of their ids. What surprises:
    the vocabulary holds 1,000 coordinate bins that classification never says, and labels are
    smoothed over them too.

    Attributes:
        protocol: gives the value of each option that is `none`, unless said otherwise.
        crop_pct: centre crop over short side, in (0, 1]; `none` is the checkpoint's own.
        augmentation: random resized crops and flips of DINO (`rrc_bilinear`), DINOv2
            (`rrc_bicubic`) or MAE (`rrc_tf`); `off` trains on the stored centre crops.
    """

    version: ClassVar[int] = 1

    protocol: Literal["decoder_cached", "decoder_ab"] = "decoder_cached"
    crop_pct: float | None = None
    augmentation: Augmentation | None = None

    @property
    def label(self) -> str:
        """Name of the protocol."""
        return self.protocol

    def published(self) -> TokenProtocol:
        """The protocol that the field names."""
        return DECODER[self.protocol]

    def refusal(self, train: Split) -> str:
        """Any classes will do."""
        return ""

    def view(self, model: LoadedModel, data: TaskData) -> EvalTransform:
        """The checkpoint's own evaluation input."""
        return data.eval_transform(model, self.size_px, self.crop_pct)

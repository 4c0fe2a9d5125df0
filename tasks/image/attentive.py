"""Attentive probing: a learned query pools all frozen tokens, a linear map tells the class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

from bench.task import TaskData
from tasks.token_protocols import ATTENTIVE, Augmentation, TokenProtocol
from tasks.token_task import TokenTask

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.transforms import EvalTransform
    from tasks.token_heads import TokenHead


@final
@dataclass(frozen=True, kw_only=True)
class Attentive(TokenTask):
    """Top-1 of attention pooling and a linear classifier on all tokens after the final norm.

    CLS (where there is one) and patches; the network stays frozen.

    `attentive_cached` (default) trains on the stored tokens of the centre crops that k-NN's pass
    gives: 10 epochs, or as many as make 300 steps; never comparable with a published number.
    `attentive_ab` is Annotation Bootstrapping's Table 5: 10 epochs of fresh crops, batch 1024,
    AdamW, cosine without warm-up. Both sweep the learning rate, one head each, from one forward,
    which `linear` and `decoder` share under equal streams.

    Choice and metrics are `linear`'s, and so are the training images and the held-out ones; of
    these at most 10,000 are looked at, those with the smallest hashes of their ids. What surprises:
    training sets below 50,000 images take batches of 256 under `attentive_cached`.

    Attributes:
        protocol: gives the value of each option that is `none`, unless said otherwise.
        block: `map_bigvision` (Google's, our choice for Annotation Bootstrapping, which does not
            say which it used) or `map_voltron` (robotics: SlotMIM's policies).
        heads: attention heads, of which `map_voltron` takes twice as many; `none` is the encoder's
            number.
        crop_pct: centre crop over short side, in (0, 1]; `none` is the checkpoint's own.
        augmentation: random resized crops and flips of DINO (`rrc_bilinear`), DINOv2
            (`rrc_bicubic`) or MAE (`rrc_tf`); `off` trains on the stored centre crops.
    """

    version: ClassVar[int] = 1

    protocol: Literal["attentive_cached", "attentive_ab"] = "attentive_cached"
    block: Literal["map_bigvision", "map_voltron"] = "map_bigvision"
    heads: int | None = None
    crop_pct: float | None = None
    augmentation: Augmentation | None = None

    @property
    def label(self) -> str:
        """Name of the protocol."""
        return self.protocol

    def published(self) -> TokenProtocol:
        """The protocol that the field names."""
        return ATTENTIVE[self.protocol]

    def wrong(self) -> Sequence[str]:
        """Numbers of heads that no block has."""
        heads = self.heads
        return [] if heads is None or heads > 0 else [f"heads={heads} must be at least 1"]

    def refusal(self, train: Split) -> str:
        """Any classes will do."""
        return ""

    def view(self, model: LoadedModel, data: TaskData) -> EvalTransform:
        """The checkpoint's own evaluation input."""
        return data.eval_transform(model, self.size_px, self.crop_pct)

    def head(self, model: LoadedModel, classes: int) -> Callable[[], TokenHead]:
        """A pooling block as wide as the tokens, and a classifier."""
        from tasks.pooling import encoder_heads
        from tasks.token_heads import AttentiveHead

        width = model.backbone.embed_dim
        heads = self.heads or encoder_heads(model.backbone.vit)
        return lambda: AttentiveHead(self.block, width, heads, classes)

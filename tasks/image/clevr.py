"""CLEVR: the decoder probe counts the objects of a scene, or tells how far the nearest one is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, final

from bench.task import TaskData
from tasks.decoder_task import DecoderTask
from tasks.token_protocols import CLEVR, TokenProtocol

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.transforms import SquareTransform


@final
@dataclass(frozen=True, kw_only=True)
class Clevr(DecoderTask):
    """Top-1 of the decoder probe on CLEVR's scenes, whole images squeezed to a square.

    `clevr@clevr` counts objects (3 to 10), `clevr@clevr[label=distance]` tells which of six bins
    the nearest object's depth is in (VTAB's labels; Annotation Bootstrapping, Table 1). Nothing is
    cropped: a crop would lose objects. So nothing is augmented either, and training reads stored
    tokens where they fit the disk; mirrored images would keep both labels, but P3 does not say
    that it used them.

    `clevr_ab`, the only protocol, has `decoder`'s numbers: 10 epochs, or as many as make 10,000
    steps (63,000 images in batches of 1024: 164 epochs), which `min_steps` shortens. Metrics and
    choice as for `decoder`.

    Attributes:
        protocol: gives the value of each option that is `none`, unless said otherwise.
    """

    version: ClassVar[int] = 1
    mini: ClassVar[str] = "mini_clevr"

    protocol: Literal["clevr_ab"] = "clevr_ab"

    @property
    def label(self) -> str:
        """Name of the protocol."""
        return self.protocol

    def published(self) -> TokenProtocol:
        """The protocol that the field names."""
        return CLEVR[self.protocol]

    def refusal(self, train: Split) -> str:
        """Only CLEVR's own classes will do."""
        from bench.clevr import LABELS

        if any(tuple(train.classes) == classes for _, classes in LABELS.values()):
            return ""
        found = ", ".join(map(str, train.classes[:3]))
        return (
            f"its classes ({found}, ...) are not CLEVR's counts or distances: evaluate on clevr or "
            "clevr[label=distance], and other data with decoder"
        )

    def view(self, model: LoadedModel, data: TaskData) -> SquareTransform:
        """The whole image, whatever its aspect, at the side of the checkpoint's input."""
        from bench.transforms import SquareTransform

        own = model.backbone.input
        return SquareTransform(replace(own, size_px=self.size_px or own.size_px))

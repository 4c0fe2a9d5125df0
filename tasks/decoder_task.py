"""What the tasks of the decoder probe share: its size, and how it becomes a classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tasks.token_task import TokenTask

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from tasks.token_heads import TokenHead

LEAST_WIDTH = 384


@dataclass(frozen=True, kw_only=True)
class DecoderTask(TokenTask):
    """`layers` are P3's; all else is our reading of Beyer et al. (2023).

    Attributes:
        layers: of the decoder.
        width: of the decoder; `none` is the encoder's, 384 at least.
        heads: attention heads, which divide the width; `none` is one for each 64 columns.
        dropout: in the decoder, in [0, 1).
        smoothing: of labels, over the whole vocabulary, in [0, 1).
    """

    mini_options: ClassVar[str] = "epochs=1&lrs=0.001&width=32&layers=2"

    layers: int = 4
    width: int | None = None
    heads: int | None = None
    dropout: float = 0.1
    smoothing: float = 0.1

    def wrong(self) -> Sequence[str]:
        """Sizes that no decoder has."""
        given = {"layers": self.layers, "width": self.width, "heads": self.heads}
        known = {name: value for name, value in given.items() if value is not None}
        bad = [f"{name}={value} must be at least 1" for name, value in known.items() if value < 1]
        if self.width and self.heads and self.width % self.heads:
            bad.append(f"heads={self.heads} do not divide width={self.width}")
        for name, value in (("dropout", self.dropout), ("smoothing", self.smoothing)):
            if not 0 <= value < 1:
                bad.append(f"{name}={value} must be in [0, 1)")
        return bad

    def head(self, model: LoadedModel, classes: int) -> Callable[[], TokenHead]:
        """A decoder for this backbone whose first token is a class."""
        from tasks.token_decoder import TokenDecoder
        from tasks.token_heads import DecoderHead
        from tasks.vocabulary import Vocabulary

        image_width = model.backbone.embed_dim
        width = self.width or max(LEAST_WIDTH, image_width)
        heads = self.heads or heads_of(width)

        def build() -> TokenHead:
            vocabulary = Vocabulary(classes)
            decoder = TokenDecoder(
                vocabulary, image_width, width, heads, self.layers, dropout=self.dropout
            )
            return DecoderHead(decoder, self.smoothing)

        return build


def heads_of(width: int) -> int:
    """One head for each 64 columns, or the next fewer that divide the width."""
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)

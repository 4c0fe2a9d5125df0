"""Classifiers that read all tokens of an image: attention pooling, and a decoder's first token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from tasks.pooling import Block, pooling_block
from tasks.token_decoder import TokenDecoder
from tasks.vocabulary import Vocabulary


class TokenHead(nn.Module, ABC):
    """A loss to train on, and class scores."""

    @abstractmethod
    def loss(self, tokens: Tensor, target: Tensor) -> Tensor:
        """Mean loss of (b, t, d) tokens with classes (b,)."""

    @abstractmethod
    def scores(self, tokens: Tensor) -> Tensor:
        """(b, t, d) -> (b, c)."""


@final
class AttentiveHead(TokenHead):
    """A pooling block and a linear classifier, which starts from zeros as big_vision's does."""

    def __init__(self, block: Block, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.pool = pooling_block(block, width, heads)
        self.classifier = nn.Linear(width, classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def loss(self, tokens: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(self.scores(tokens).float(), target)

    def scores(self, tokens: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.classifier(self.pool(tokens))
        return logits


@final
class DecoderHead(TokenHead):
    """A decoder that says one token after BOS; of what it may say only the classes count."""

    def __init__(self, decoder: TokenDecoder, smoothing: float) -> None:
        super().__init__()
        self.decoder, self.smoothing = decoder, smoothing

    def loss(self, tokens: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy over the whole vocabulary, with label smoothing."""
        sequence = self.decoder.vocabulary.of_class(target)[:, None]  # (b, 1)
        return self.decoder.loss(tokens, sequence, self.smoothing)

    def scores(self, tokens: Tensor) -> Tensor:
        """Logits of the class tokens at the first place."""
        start = tokens.new_full((len(tokens), 1), Vocabulary.BOS).long()
        logits: Tensor = self.decoder(tokens, start)[:, 0, self.decoder.vocabulary.class_tokens]
        return logits


def decayed(head: nn.Module) -> list[nn.Parameter]:
    """The parameters that weight decay acts on: matrices of linear maps, as in big_vision.

    Neither biases, norms and queries nor embeddings of tokens and positions.
    """
    found = [m.weight for m in head.modules() if isinstance(m, nn.Linear)]
    attentions = [m for m in head.modules() if isinstance(m, nn.MultiheadAttention)]
    return found + [m.in_proj_weight for m in attentions if m.in_proj_weight is not None]

"""An autoregressive decoder of token sequences that looks at all tokens of an image.

The probe of Beyer et al. (2023) as Annotation Bootstrapping uses it: every task is a vocabulary and
target sequences (`tasks/vocabulary.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import SpecError
from tasks.vocabulary import Vocabulary


class TokenDecoder(nn.Module):
    """Next-token logits from the tokens of an image and the sequence so far.

    Pre-norm transformer layers (causal self-attention, cross-attention to the image, MLP of four
    times the width with GELU) and a final norm. Positions are learned, `length` of them. Image
    tokens of another width go through one linear map first.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        image_width: int,
        width: int,
        heads: int,
        layers: int = 4,
        length: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width % heads:
            raise SpecError(f"{heads} heads do not divide the decoder's width {width}")
        self.vocabulary, self.length = vocabulary, length
        self.embedding = nn.Embedding(vocabulary.size, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.inputs = nn.Linear(image_width, width) if image_width != width else nn.Identity()
        # Not nn.TransformerDecoder: it copies one layer, so that all would start the same.
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                width, heads, 4 * width, dropout, F.gelu, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, vocabulary.size)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, image: Tensor, sequence: Tensor) -> Tensor:
        """(b, t, d), (b, l) -> (b, l, v): place i has seen the image and the sequence up to i.

        Padding stands at the end, where no place before it looks, so it needs no mask.
        """
        steps = sequence.shape[1]
        if steps > self.length:
            raise ValueError(f"a sequence of {steps} tokens, but {self.length} positions")
        x = self.embedding(sequence) + self.positions[:steps]  # (b, l, w)
        memory = self.inputs(image)  # (b, t, w)
        future = torch.ones(steps, steps, dtype=torch.bool, device=x.device).triu(1)
        for layer in self.layers:
            x = layer(x, memory, tgt_mask=future if steps > 1 else None, tgt_is_causal=steps > 1)
        logits: Tensor = self.out(self.norm(x))
        return logits

    def loss(self, image: Tensor, sequence: Tensor, smoothing: float = 0.0) -> Tensor:
        """Teacher-forced cross-entropy of `sequence` (b, l) after BOS; PAD does not count."""
        start = torch.full_like(sequence[:, :1], self.vocabulary.BOS)
        given = torch.cat([start, sequence[:, :-1]], dim=1)  # (b, l)
        return sequence_loss(self(image, given), sequence, smoothing)

    @torch.no_grad()
    def decode(self, image: Tensor, allowed: Tensor, length: int) -> Tensor:
        """(b, length) likeliest tokens, one after the other; PAD after EOS.

        `allowed`, (v,) or (length, v), says which tokens may stand at each place. The caller puts
        the decoder in eval mode.
        """
        v = self.vocabulary
        allowed = allowed.to(image.device).expand(length, v.size)  # (length, v)
        if not allowed.any(dim=1).all():
            raise ValueError("no token is allowed at some place of the sequence")
        found = torch.full((len(image), 1), v.BOS, device=image.device)
        ended = torch.zeros(len(image), dtype=torch.bool, device=image.device)
        for place in range(length):
            logits = self(image, found)[:, -1].float()  # (b, v)
            token = logits.masked_fill(~allowed[place], -torch.inf).argmax(dim=1)
            token = torch.where(ended, v.PAD, token)
            ended |= token == v.EOS
            found = torch.cat([found, token[:, None]], dim=1)
        return found[:, 1:]


def sequence_loss(logits: Tensor, sequence: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy (b, l, v), (b, l) over the places that are not PAD.

    With `smoothing` s the target is 1 - s on the token and s spread evenly over the vocabulary.
    """
    return F.cross_entropy(
        logits.flatten(0, 1).float(),
        sequence.flatten(),
        ignore_index=Vocabulary.PAD,
        label_smoothing=smoothing,
    )

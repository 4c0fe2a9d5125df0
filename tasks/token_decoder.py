"""An autoregressive decoder of token sequences that looks at all tokens of an image.

The probe of Beyer et al. (2023) as Annotation Bootstrapping uses it: every task is a vocabulary and
target sequences (`tasks/vocabulary.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.token_attention import TokenAttention
from tasks.vocabulary import Vocabulary


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the image, MLP: pre-norm, each added to what came in.

    `nn.TransformerDecoderLayer(norm_first=True)` but for the keys and values of the image's tokens,
    which are never made: a step of a head that says one token takes an eighth of the time (256
    images of 65 tokens, decoder 384 wide, one thread: 0.29 s instead of 2.39).
    """

    def __init__(self, width: int, heads: int, image_width: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.image = TokenAttention(width, heads, image_width, bias=True, dropout=dropout)
        self.itself = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)
        # As torch starts its attention.
        for linear in (self.image.query, self.image.key, self.image.value):
            nn.init.xavier_uniform_(linear.weight)
        for linear in (self.image.query, self.image.value, self.image.out):
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """(b, l, w), (b, t, d) -> (b, l, w)."""
        future = torch.ones(2 * (x.shape[1],), dtype=torch.bool, device=x.device).triu(1)
        y = self.norms[0](x)
        x = x + self.dropout(self.itself(y, y, y, need_weights=False, attn_mask=future)[0])
        x = x + self.dropout(self.image(self.norms[1](x), image))
        return x + self.dropout(self.mlp(self.norms[2](x)))


class TokenDecoder(nn.Module):
    """Next-token logits from the tokens of an image and the sequence so far.

    Layers, then a final norm; positions are learned, `length` of them.
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
        self.vocabulary, self.length = vocabulary, length
        self.embedding = nn.Embedding(vocabulary.size, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, image_width, dropout) for _ in range(layers)
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
        for layer in self.layers:
            x = layer(x, image)
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

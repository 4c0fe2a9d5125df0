"""Attention of a few queries to the many tokens of an image.

Keys and values of every token are what such attention spends its time on, and it needs neither:
`q . (W_k x)` is `(W_k^T q) . x`, and the weighted mean of the values is `W_v` of the weighted mean
of the tokens. So the queries are carried into the space of the tokens, attend to the tokens
themselves, and what comes out is projected. The numbers are the same up to rounding; the cost for
each token falls from two products of width by width to one of heads by width for each query.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import SpecError


class TokenAttention(nn.Module):
    """Multi-head attention of queries `width` wide to tokens `token_width` wide.

    `bias` is that of queries and values. Keys have none: it would add the same number to every
    score of a query, which the softmax takes away again. `dropout` is of attention weights; the
    values' bias is not dropped.
    """

    def __init__(
        self, width: int, heads: int, token_width: int, bias: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            divisors = [str(h) for h in range(1, width + 1) if width % h == 0]
            raise SpecError(
                f"{heads} heads do not divide the width {width}; choose heads among "
                f"{', '.join(divisors)}"
            )
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width, bias)
        self.key = nn.Linear(token_width, width, bias=False)
        self.value = nn.Linear(token_width, width, bias)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor, inputs: nn.Linear | None = None) -> Tensor:
        """(b or 1, l, w), (b, t, d) -> (b, l, w); `inputs` maps tokens before keys and values."""
        key = self.key.weight.unflatten(0, (self.heads, -1))  # (h, c, d)
        value = self.value.weight.unflatten(0, (self.heads, -1))  # (h, c, d)
        q = self.query(queries).unflatten(-1, (self.heads, -1))  # (b, l, h, c)
        asked = torch.einsum("blhc,hcd->blhd", q, key)
        if inputs is not None:
            asked = asked @ inputs.weight  # its bias shifts all scores of a query alike
        asked = asked.flatten(1, 2).to(tokens.dtype).expand(len(tokens), -1, -1)  # (b, l*h, d)
        dropout, scale = self.dropout if self.training else 0.0, 1 / math.sqrt(key.shape[1])
        seen = tokens[:, None]  # (b, 1, t, d): all heads share it
        mean = F.scaled_dot_product_attention(
            asked[:, None], seen, seen, dropout_p=dropout, scale=scale
        )[:, 0].unflatten(1, (-1, self.heads))  # (b, l, h, d)
        if inputs is not None:
            mean = inputs(mean)
        found = torch.einsum("blhd,hcd->blhc", mean, value.to(mean.dtype)).flatten(2)  # (b, l, w)
        if self.value.bias is not None:
            found = found + self.value.bias
        answer: Tensor = self.out(found)
        return answer

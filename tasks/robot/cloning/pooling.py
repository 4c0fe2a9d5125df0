"""Attentive pooling of frozen tokens, as V-Cond and Voltron do it: one vector of all tokens.

The plain form projects every token to a query's keys and values, which is nearly all of the work.
With one latent vector the query does not depend on the image, so the projections can be moved from
the tokens to the query and to the pooled vector. That folded form is the same function of the same
parameters, with the same gradients, and about ten times faster on a processor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.errors import SpecError
from tasks.pooling import RMSNorm, SwiGLU

LATENT_STD = 0.02


def check_heads(dim: int, heads: int) -> None:
    """SpecError where the heads do not divide the width of the tokens."""
    if dim % heads:
        near = [count for count in range(1, dim + 1) if dim % count == 0]
        best = min(near, key=lambda count: abs(count - heads))
        raise SpecError(f"heads={heads} do not divide the tokens' width {dim}: choose {best}")


class AttentivePooling(nn.Module):
    """One latent vector attends to all tokens (b, t, d) and gives (b, d).

    Voltron's MAP block (Karamcheti et al., RSS 2023; `util/extraction.py`): a linear layer on the
    tokens, attention without bias on queries, keys and values and with one on its output,
    residuals normalised afterwards by RMSNorm, and a SwiGLU layer of ratio 4. The latent starts
    as N(0, 0.02), linear layers as PyTorch's own.

    Args:
        dim: width of the tokens.
        heads: of the attention; they divide the width. Voltron takes twice the encoder's.

    Raises:
        SpecError: the heads do not divide the width.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.latent = nn.Parameter(torch.empty(dim).normal_(std=LATENT_STD))
        self.projection = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.attention_norm, self.mlp_norm = RMSNorm(dim), RMSNorm(dim)
        self.mlp = nn.Sequential(SwiGLU(dim, 4 * dim), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """The folded form."""
        raw = self.attention(tokens) @ tokens  # (b, heads, t) @ (b, t, d) -> (b, heads, d)
        b, _, d = raw.shape
        value = self._split(self.key_value.weight[d:])  # (heads, c, d)
        folded = value @ self.projection.weight  # (heads, c, d)
        shift = value @ self.projection.bias  # (heads, c); weights sum to one
        pooled = torch.einsum("bhd,hcd->bhc", raw, folded) + shift
        return self._rest(pooled.reshape(b, d))

    def attention(self, tokens: Tensor) -> Tensor:
        """(b, heads, t) how much each head looks at each token; rows sum to one."""
        queries = self.queries().expand(len(tokens), -1, -1)  # (b, heads, d)
        return torch.bmm(queries, tokens.transpose(1, 2)).softmax(dim=-1)

    def queries(self) -> Tensor:
        """(heads, d) vectors whose products with raw tokens are the scores.

        The bias of the tokens' projection adds the same to all scores of a head: softmax drops it.
        """
        d = len(self.latent)
        query = (self.query(self.latent) * self.scale).view(self.heads, -1)  # (heads, c)
        keys = self._split(self.key_value.weight[:d])  # (heads, c, d)
        return torch.einsum("hc,hcd->hd", query, keys) @ self.projection.weight

    def plain(self, tokens: Tensor) -> Tensor:
        """The same as `forward`, step by step; what the folded form is tested against."""
        b, t, d = tokens.shape
        projected = self.projection(tokens)
        query = self.query(self.latent).view(1, self.heads, 1, -1)
        key, value = self.key_value(projected).view(b, t, 2, self.heads, -1).unbind(2)
        scores = (query * self.scale) @ key.permute(0, 2, 3, 1)  # (b, heads, 1, t)
        pooled = scores.softmax(dim=-1) @ value.transpose(1, 2)  # (b, heads, 1, c)
        return self._rest(pooled.reshape(b, d))

    def _rest(self, pooled: Tensor) -> Tensor:
        """What follows the attention, on (b, d)."""
        x = self.attention_norm(self.latent + self.out(pooled))
        normed: Tensor = self.mlp_norm(x + self.mlp(x))
        return normed

    def _split(self, weight: Tensor) -> Tensor:
        """(d, d) rows of all heads -> (heads, c, d)."""
        return weight.view(self.heads, -1, weight.shape[1])

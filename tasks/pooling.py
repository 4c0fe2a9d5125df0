"""Attention pooling: all tokens of an image summed up in one vector by one learned query.

Two published blocks, under the names of the code bases that they stand in.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import SpecError
from tasks.token_attention import TokenAttention

Block = Literal["map_bigvision", "map_voltron"]


class MapBigVision(nn.Module):
    """Pooling of google-research/big_vision: the query's answer, plus an MLP of its LayerNorm.

    `x = attention(probe, tokens); x + MLP(LN(x))`: no residual around the attention. MLP of four
    times the width, GELU in JAX's tanh form, LN epsilon 1e-6. Weights and probe are Xavier-uniform
    (the probe as one row), biases 0 in the attention and N(0, 1e-6) in the MLP.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(width))
        self.attention = TokenAttention(width, heads, width, bias=True)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )
        nn.init.xavier_uniform_(self.probe.data[None])  # (1, d): fan-in 1, fan-out d
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer in (self.mlp[0], self.mlp[2]):
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, t, d) -> (b, d)."""
        x = self.attention(self.probe[None, None], tokens)[:, 0]
        return x + self.mlp(self.norm(x))


class RMSNorm(nn.Module):
    """`x / max(rms(x), 1e-8) * gain`: Voltron bounds the root, where torch's adds to the square."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        rms = wide.square().mean(-1, keepdim=True).sqrt()
        return (wide / rms.clamp(min=1e-8)).to(x.dtype) * self.gain


class SwiGLU(nn.Module):
    """`a * silu(b)` of a linear map to (a, b), each `hidden` wide."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., hidden)."""
        value, gate = self.project(x).chunk(2, dim=-1)
        return value * F.silu(gate)


class MapVoltron(nn.Module):
    """Pooling of siddk/voltron-robotics, which SlotMIM's policies use too: norms after residuals.

    `x = RMS(latent + attention(latent, P tokens)); RMS(x + MLP(x))`, a SwiGLU MLP of ratio 4;
    query, keys and values without bias. `heads` are the encoder's: the block takes twice as many.
    The latent is N(0, 0.02), the rest torch's initialisation.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(width, width)
        self.latent = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.attention = TokenAttention(width, 2 * heads, width, bias=False)
        self.attention_norm = RMSNorm(width)
        self.mlp = nn.Sequential(SwiGLU(width, 4 * width), nn.Linear(4 * width, width))
        self.mlp_norm = RMSNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, t, d) -> (b, d)."""
        answer = self.attention(self.latent[None, None], tokens, self.inputs)[:, 0]
        x = self.attention_norm(self.latent + answer)
        return self.mlp_norm(x + self.mlp(x))


def pooling_block(name: Block, width: int, heads: int) -> nn.Module:
    """The block of that name for tokens `width` wide from an encoder with `heads` heads."""
    return {"map_bigvision": MapBigVision, "map_voltron": MapVoltron}[name](width, heads)


def encoder_heads(network: nn.Module) -> int:
    """Attention heads of a ViT's or Swin's last block; SpecError for networks that tell none."""
    from timm.layers.attention import Attention
    from timm.models.swin_transformer import WindowAttention

    found = [m.num_heads for m in network.modules() if isinstance(m, (Attention, WindowAttention))]
    if not found:
        raise SpecError("this network does not tell its number of attention heads; give heads=N")
    return int(found[-1])

"""What the last attention of a ViT looks at: its keys, and where its CLS token attends."""

from typing import Any

import torch
from timm.layers.attention import Attention
from torch import Tensor, nn

from bench.errors import SpecError


def attention_maps(
    block: nn.Module, x: Tensor, grid: tuple[int, int], prefix: int, has_cls: bool
) -> dict[str, Tensor]:
    """`key_last` (b, h, w, d) and, with a CLS token, `attn_cls` (b, heads, h, w) of a block.

    `x` (b, prefix + h*w, d) is the block's input. Fused attention gives no matrix, so q and k are
    recomputed here for one block instead of turning it off in all. Keys are the projection itself
    (LOST hooks `qkv`); the attention uses q and k after qk-norm where there is one, and its softmax
    includes the prefix tokens, which are dropped after it.
    """
    parts: Any = block
    attn: Any = parts.attn
    if not isinstance(attn, Attention):
        raise SpecError(
            f"key_last and attn_cls read timm's Attention; this block has a {type(attn).__name__}"
        )
    qkv = attn.qkv(parts.norm1(x))  # (b, n, 3*heads*c)
    b, n, _ = qkv.shape
    q, k, _ = qkv.reshape(b, n, 3, attn.num_heads, -1).unbind(2)  # each (b, n, heads, c)
    maps = {"key_last": k[:, prefix:].reshape(b, *grid, -1)}  # (b, h, w, d)
    if has_cls:
        q, k = attn.q_norm(q[:, 0]), attn.k_norm(k)  # (b, heads, c), (b, n, heads, c)
        with torch.autocast(x.device.type, enabled=False):  # which would undo float()
            scores = torch.einsum("bhc,bnhc->bhn", q.float(), k.float()) * attn.scale
        weights = scores.softmax(dim=-1)[..., prefix:]  # (b, heads, h*w)
        maps["attn_cls"] = weights.reshape(b, attn.num_heads, *grid)
    return maps

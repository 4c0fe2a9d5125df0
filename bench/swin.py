"""Swin Transformers: the arch grammar `swin_{size}_patch{p}_window{w}_{px}`, and how images pass.

Windows are cut down to a stage's grid at the image size of the name, as in every Swin; images of
other sizes keep these windows, and grids that they do not divide are padded (96 px crops).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import (
    SwinTransformer,
    get_relative_position_index,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.errors import SpecError, nearest

_ARCH = re.compile(r"swin_(mini|tiny|small|base|large)_patch(\d+)_window(\d+)_(\d+)")


@dataclass(frozen=True)
class Stages:
    """Width of the first stage (each later one is twice as wide), and blocks and heads of each."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]


STAGES = {
    "mini": Stages(24, (2, 2, 2, 2), (1, 2, 4, 8)),
    "tiny": Stages(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": Stages(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": Stages(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": Stages(192, (2, 2, 18, 2), (6, 12, 24, 48)),
}


def build_swin(arch: str, **kwargs: Any) -> SwinTransformer:
    """A randomly initialised timm Swin without a head; its state-dict keys are timm's.

    Names of the grammar work for any patch, window and image size; their norms have the epsilon
    1e-6 of self-supervised Swins (iBOT, EsViT). Any other name goes to timm, whose epsilon is 1e-5.
    `kwargs` go to timm's constructor. SpecError: an unknown name, a size that does not divide, or
    an architecture that is no Swin.
    """
    match = _ARCH.fullmatch(arch)
    if match is None:
        return timm_swin(arch, **kwargs)
    stages, patch, window, size_px = STAGES[match[1]], *map(int, match.groups()[1:])
    stride = patch << len(stages.depths) - 1
    if min(patch, window, size_px) < 1 or size_px % stride:
        raise SpecError(
            f"{arch}: {size_px} px do not divide into cells of {stride} px, the patches of "
            f"{patch} px merged {len(stages.depths) - 1} times: choose a multiple of {stride}"
        )
    layout: dict[str, Any] = {
        "img_size": size_px,
        "patch_size": patch,
        "window_size": window,
        "embed_dim": stages.embed_dim,
        "depths": stages.depths,
        "num_heads": stages.num_heads,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
        "drop_path_rate": 0.0,
        "num_classes": 0,
        "strict_img_size": False,
    }
    return SwinTransformer(**(layout | kwargs))


def timm_swin(name: str, **kwargs: Any) -> SwinTransformer:
    """The randomly initialised Swin of a timm name, without a head; SpecError when it is none."""
    import timm  # the model zoo: half a second that grammar names do not pay

    bare = name.split(".")[0]
    if not timm.is_model(bare):
        sizes = "|".join(STAGES)
        raise SpecError(
            f"no architecture '{name}': neither swin_{{{sizes}}}_patch{{p}}_window{{w}}_{{px}} nor "
            f"a timm model; {nearest(bare, timm.list_models('swin_*'))}"
        )
    layout = {"num_classes": 0, "drop_path_rate": 0.0, "strict_img_size": False}
    swin = timm.create_model(name, **(layout | kwargs))
    if type(swin) is not SwinTransformer:
        raise SpecError(f"'{name}' is a {type(swin).__name__}, expected timm's SwinTransformer")
    return swin


def place_indices(swin: SwinTransformer) -> None:
    """Computes on the host what a Swin built without memory holds beside its weights."""
    for block in blocks_of(swin):
        high, wide = block.window_size
        index = get_relative_position_index(high, wide, device=torch.device("cpu"))
        block.attn.register_buffer("relative_position_index", index, persistent=False)


def blocks_of(swin: SwinTransformer) -> list[Any]:
    """The blocks of all stages in order."""
    stages: Any = swin.layers
    return [block for stage in stages for block in stage.blocks]


def stride_of(swin: SwinTransformer) -> int:
    """Pixels between neighbouring patches of the last stage, 32 for the published ones."""
    parts: Any = swin.patch_embed
    return int(parts.patch_size[0]) << len(swin.layers) - 1


def embed(swin: SwinTransformer, images: Tensor) -> Tensor:
    """Patches before the first stage, (b, h, w, c); what no whole patch covers is cut off."""
    parts: Any = swin.patch_embed
    patch = int(parts.patch_size[0])
    if min(images.shape[-2:]) < patch:
        raise SpecError(
            f"an image of {tuple(images.shape[-2:])} px is smaller than one {patch} px patch: "
            "use larger images"
        )
    # patch_embed.forward may insist on the trained size; its two parts do not.
    x: Tensor = parts.norm(parts.proj(images).permute(0, 2, 3, 1))
    return x


def block_outputs(swin: SwinTransformer, x: Tensor) -> Iterator[Tensor]:
    """(b, h, w, c) after each block in turn; blocks that are not asked for do not run."""
    stages: Any = swin.layers
    for stage in stages:
        x = stage.downsample(x)
        for block in stage.blocks:
            if stage.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(window_block, block, x, use_reentrant=False)
            else:
                x = window_block(block, x)
            yield x


def window_block(block: Any, x: Tensor) -> Tensor:
    """A block of timm's Swin on a grid (b, h, w, c) of any size.

    The grid is padded to whole windows and then shifted, as in Swin's detection code, EsViT and
    iBOT. timm's own forward shifts before it pads; the mask that keeps tokens apart that the shift
    has brought together then lies over the wrong ones. Where windows divide the grid both agree.
    """
    _, h, w, _ = x.shape
    window, shift = block.window_size, block.shift_size
    y = block.norm1(x)
    below, right = -h % window[0], -w % window[1]
    if below or right:
        y = F.pad(y, (0, 0, 0, right, 0, below))
    if any(shift):
        y = y.roll((-shift[0], -shift[1]), (1, 2))
    _, high, wide, _ = y.shape
    tokens = window_partition(y, window).flatten(1, 2)  # (b * windows, window tokens, c)
    tokens = block.attn(tokens, mask=block.get_attn_mask(y))
    y = window_reverse(tokens.unflatten(1, window), window, high, wide)
    if any(shift):
        y = y.roll(shift, (1, 2))
    x = x + block.drop_path1(y[:, :h, :w])
    out: Tensor = x + block.drop_path2(block.mlp(block.norm2(x)))
    return out

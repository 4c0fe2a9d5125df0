"""The arch grammar `vit_{size}_patch{p}_{px}`, for any patch and image size, and timm's names."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from bench.errors import SpecError, nearest

_ARCH = re.compile(r"vit_(mini|tiny|small|base|large|huge)_patch(\d+)_(\d+)")


@dataclass(frozen=True)
class Width:
    """Embedding dimension, blocks and heads of a named ViT size."""

    embed_dim: int
    depth: int
    num_heads: int


WIDTHS = {
    "mini": Width(96, 4, 3),
    "tiny": Width(192, 12, 3),
    "small": Width(384, 12, 6),
    "base": Width(768, 12, 12),
    "large": Width(1024, 24, 16),
    "huge": Width(1280, 32, 16),
}


def build_vit(arch: str, **kwargs: Any) -> VisionTransformer:
    """A randomly initialised timm ViT without a head; its state-dict keys are timm's.

    Names of the grammar work for any patch and image size (`vit_small_patch8_96`); any other name
    goes to `timm.create_model`. `kwargs` go to timm's constructor (`reg_tokens=4`,
    `class_token=False`, ...). SpecError: an unknown name, a size that the patch does not divide, or
    an architecture that is no plain ViT.
    """
    match = _ARCH.fullmatch(arch)
    if arch.startswith("swin_"):
        raise SpecError(
            f"'{arch}' is a Swin Transformer, expected a plain VisionTransformer, whose tokens are "
            "of one size from end to end: choose a vit_* or deit_* name"
        )
    if match is None:
        return timm_vit(arch, **kwargs)
    width, patch, size_px = WIDTHS[match[1]], int(match[2]), int(match[3])
    if patch < 1 or size_px < patch or size_px % patch:
        raise SpecError(f"{arch}: {size_px} px is not a multiple of the patch size {patch}")
    layout: dict[str, Any] = {
        "img_size": size_px,
        "patch_size": patch,
        "embed_dim": width.embed_dim,
        "depth": width.depth,
        "num_heads": width.num_heads,
        "num_classes": 0,
        "global_pool": "",
        "class_token": True,
    }
    layout |= kwargs
    if layout["embed_dim"] % layout["num_heads"]:
        raise SpecError(
            f"{arch}: {layout['num_heads']} attention heads do not divide the width "
            f"{layout['embed_dim']}"
        )
    return VisionTransformer(**layout)


def timm_vit(name: str, **kwargs: Any) -> VisionTransformer:
    """The randomly initialised ViT of a timm name, without a head; SpecError when it is none."""
    import timm  # the model zoo: half a second that grammar names do not pay

    bare = name.split(".")[0]
    if not timm.is_model(bare):
        sizes = "|".join(WIDTHS)
        raise SpecError(
            f"no architecture '{name}': neither vit_{{{sizes}}}_patch{{p}}_{{px}} nor a timm model"
            f"; {nearest(bare, timm.list_models('vit_*'))}"
        )
    return as_vit(timm.create_model(name, **({"num_classes": 0} | kwargs)), name)


def as_vit(module: nn.Module, name: str) -> VisionTransformer:
    """`module` itself when it is timm's plain ViT; else SpecError."""
    # Subclasses add tokens or biases that the one loop over blocks would leave out without a word.
    if type(module) is not VisionTransformer:
        raise SpecError(
            f"'{name}' is a {type(module).__name__}, expected timm's plain VisionTransformer: "
            "choose a vit_* or deit_* name"
        )
    return module


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the CPU's global generator starts from `seed`; after, it goes on as if untouched."""
    state = torch.get_rng_state()
    # default_generator is the CPU's alone: torch.manual_seed would also reseed every GPU.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)

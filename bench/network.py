"""Networks by name: plain vision transformers (`vit_*`) and Swin Transformers (`swin_*`)."""

from collections.abc import Callable
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from bench.errors import SpecError
from bench.swin import build_swin, place_indices, timm_swin
from bench.vit import build_vit, seeded, timm_vit

Network = VisionTransformer | SwinTransformer


def build_network(arch: str, **kwargs: Any) -> Network:
    """The randomly initialised network of an arch name; see `build_vit` and `build_swin`."""
    return build_swin(arch, **kwargs) if _is_swin(arch) else build_vit(arch, **kwargs)


def timm_network(name: str, **kwargs: Any) -> Network:
    """The randomly initialised network of a timm name, as timm itself builds it."""
    return timm_swin(name, **kwargs) if _is_swin(name) else timm_vit(name, **kwargs)


def empty_network(
    arch: str, build: Callable[..., Network] = build_network, **kwargs: Any
) -> Network:
    """`build` without memory or values, for `load_tensors` to fill (ViT-L: 0.2 s, not 8 s)."""
    with torch.device("meta"):
        network = build(arch, **kwargs)
    if isinstance(network, SwinTransformer):
        place_indices(network)
    return network


def seeded_network(arch: str, seed: int, **kwargs: Any) -> Network:
    """`build_network` from a seed, bit for bit, leaving the global generators as they were."""
    with seeded(seed):
        return build_network(arch, **kwargs)


def as_network(module: nn.Module) -> Network:
    """`module` itself when it is a network that a Backbone reads; else SpecError."""
    # Subclasses add tokens or biases that the loops over blocks would leave out without a word.
    if type(module) not in (VisionTransformer, SwinTransformer):
        raise SpecError(
            f"a Backbone reads timm's plain VisionTransformer and SwinTransformer, this is a "
            f"{type(module).__name__}: choose a vit_*, deit_* or swin_* name"
        )
    return module  # type: ignore[return-value]


def size_of(network: Network) -> int:
    """Side in pixels of the images that the network was built for."""
    parts: Any = network.patch_embed
    return int(parts.img_size[0])


def _is_swin(name: str) -> bool:
    return name.startswith("swin_")

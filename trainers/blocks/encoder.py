"""Encoders by architecture name, as methods of the DINO family start them."""

from timm.models.swin_transformer import SwinTransformer
from torch import nn

from bench.network import build_network
from trainers.blocks.swin import TokenSwin
from trainers.blocks.vit import TokenViT

Encoder = TokenViT | TokenSwin


def encoder_of(arch: str, *, drop_path: float = 0.0, mask_token: bool = False) -> Encoder:
    """A randomly initialised ViT or Swin, seen as tokens; the class token starts as N(0, .02).

    Raises:
        SpecError: no such architecture, or one whose tokens cannot be read.
    """
    network = build_network(arch, drop_path_rate=drop_path)
    if isinstance(network, SwinTransformer):
        return TokenSwin(network, mask_token=mask_token)
    if network.cls_token is not None:
        nn.init.trunc_normal_(network.cls_token, std=0.02)  # timm starts it at 1e-6
    return TokenViT(network, mask_token=mask_token)

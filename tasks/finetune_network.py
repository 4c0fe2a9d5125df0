"""The network that is fine-tuned: a copy of the backbone, its new head, and its learning rates."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.network import Network
from bench.positions import interpolate_positions
from bench.swin import blocks_of

if TYPE_CHECKING:
    from bench.backbone import Backbone
    from tasks.finetune_protocols import FinetuneProtocol

_STEM = ("cls_token", "reg_token", "mask_token", "pos_embed", "norm_pre")
_POSITIONS = ("cls_token", "reg_token", "pos_embed", "absolute_pos_embed")


class Classifier(nn.Module):
    """Logits of normalised images (b, 3, h, w) -> (b, c), from a copy of the backbone.

    The head is `head` of the copied network, so that all parameters keep timm's names. Positions
    are put on the grid of `size_px` once, and trained there. Nothing of the given backbone changes.
    """

    def __init__(
        self,
        backbone: Backbone,
        recipe: FinetuneProtocol,
        classes: int,
        size_px: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.token = recipe.token
        kept = self.backbone.extras
        self.backbone.extras = nn.ModuleDict()
        network = self.backbone.vit.requires_grad_(True)
        if isinstance(network, VisionTransformer):
            _fit_positions(self.backbone, size_px)
            if self.token == "avg_fcnorm":
                _renew_norm(network)
        width = self.backbone.embed_dim
        head: list[nn.Module] = []
        if recipe.head == "first_layer" and "head" in kept:
            first = kept["head"].requires_grad_(True)
            head, width = [first], first[0].out_features
        last = nn.Linear(width, classes)
        nn.init.trunc_normal_(last.weight, std=recipe.head_std, generator=generator)
        nn.init.zeros_(last.bias)
        network.head = nn.Sequential(*head, last) if head else last
        self.paths = drop_paths(network, recipe.drop_path)

    @property
    def network(self) -> Network:
        """The timm network with its head."""
        return self.backbone.vit

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, c)."""
        head: Any = self.backbone.vit.head
        logits: Tensor = head(self.backbone.features(images, (self.token,))[self.token])
        return logits


class SampleDrop(nn.Module):
    """Stochastic depth whose draws are given: `x * keep`, with `keep` (b,) of 0 and 1 / (1 - rate).

    timm's draws from the global generator at every forward, so that a batch that is forwarded in
    other pieces would lose other paths.
    """

    keep: Tensor | None = None

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(b, ...) -> (b, ...)."""
        if not self.training or self.keep is None:
            return x
        return x * self.keep.to(x.dtype).view(-1, *[1] * (x.ndim - 1))

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


def drop_paths(network: Network, rate: float) -> list[SampleDrop]:
    """Gives every residual branch its stochastic depth, rising with depth from 0 to `rate`."""
    blocks = _blocks(network)
    found = []
    for block, share in zip(blocks, torch.linspace(0, rate, len(blocks)).tolist(), strict=True):
        for name in ("drop_path1", "drop_path2"):
            drop = SampleDrop(share)
            setattr(block, name, drop if share > 0 else nn.Identity())
            found += [drop] if share > 0 else []
    return found


def draw_paths(paths: list[SampleDrop], batch: int, generator: torch.Generator) -> Tensor:
    """(paths, batch) factors of the residual branches of one batch."""
    rates = torch.tensor([path.rate for path in paths])[:, None]
    kept = torch.rand(len(paths), batch, generator=generator) >= rates
    return kept / (1 - rates)


class Group(NamedTuple):
    """One parameter's share of the learning rate, and its weight decay."""

    scale: float
    weight_decay: float


def layer_table(network: Network, recipe: FinetuneProtocol) -> dict[str, Group]:
    """Parameter name -> its group, as MAE's and BEiT's scripts have it.

    1-D parameters are not decayed, nor positions and the CLS token unless `decay_positions`. timm's
    own grouping gives the last norm one power of the decay, and a Swin's merging layers one less.
    """
    top = len(_blocks(network)) + 1
    table = {}
    for name, parameter in network.named_parameters():
        plain = parameter.ndim <= 1 or (name in _POSITIONS and not recipe.decay_positions)
        scale = recipe.layer_decay ** (top - layer_of(name, network))
        table[name] = Group(scale, 0.0 if plain else recipe.weight_decay)
    return table


def layer_of(name: str, network: Network) -> int:
    """0 for patch embedding and positions, i + 1 for block i, depth + 1 for head and last norm.

    In a Swin the blocks of all stages are counted on; what merges patches between two stages goes
    with the block before it (iBOT's script).
    """
    parts = name.split(".")
    if parts[0] in _STEM or parts[0] == "patch_embed":
        return 0
    if isinstance(network, SwinTransformer) and parts[0] == "layers":
        before = sum(len(stage.blocks) for stage in list(network.layers)[: int(parts[1])])
        return before + int(parts[3]) + 1 if parts[2] == "blocks" else before
    return int(parts[1]) + 1 if parts[0] == "blocks" else len(_blocks(network)) + 1


def parameter_groups(network: Network, recipe: FinetuneProtocol) -> list[dict[str, Any]]:
    """The groups for the optimiser: `params`, `lr_scale` and `weight_decay` of each."""
    parameters = dict(network.named_parameters())
    groups: dict[Group, list[nn.Parameter]] = {}
    for name, group in layer_table(network, recipe).items():
        groups.setdefault(group, []).append(parameters[name])
    return [
        {"params": params, "lr_scale": group.scale, "weight_decay": group.weight_decay}
        for group, params in groups.items()
    ]


def _blocks(network: Network) -> list[nn.Module]:
    return list(blocks_of(network) if isinstance(network, SwinTransformer) else network.blocks)


def _fit_positions(backbone: Backbone, size_px: int) -> None:
    vit: Any = backbone.vit
    side = size_px // backbone.patch_size
    old, new = tuple(vit.patch_embed.grid_size), (side, side)
    if vit.pos_embed is None or old == new:
        return
    rows = 0 if vit.no_embed_class else int(vit.num_prefix_tokens)
    with torch.no_grad():
        fitted = interpolate_positions(vit.pos_embed, old, new, rows, backbone.pos_interp)
    vit.pos_embed = nn.Parameter(fitted.clone())
    vit.patch_embed.grid_size, vit.patch_embed.img_size = new, (size_px, size_px)


def _renew_norm(vit: Any) -> None:
    old = vit.fc_norm if isinstance(vit.norm, nn.Identity) else vit.norm
    vit.fc_norm = nn.LayerNorm(old.normalized_shape, eps=old.eps)
    vit.norm = nn.Identity()

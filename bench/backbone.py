"""Backbone: the only thing a task sees of a model, and Tokens, what it answers with.

How images go through each architecture stands in its `Trunk`.
"""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from bench.errors import SpecError
from bench.network import Network, as_network
from bench.positions import PosInterp
from bench.recipes import (
    RECIPE_BLOCKS,
    block_index,
    blocks_of,
    check_recipe,
    index_of,
    is_map,
    tap_indices,
    taps_of,
)
from bench.swin_trunk import SwinTrunk
from bench.tokens import Prototypes, Tap, Tokens
from bench.transforms import InputSpec
from bench.trunk import Trunk
from bench.vit import build_vit
from bench.vit_trunk import ViTTrunk

__all__ = [
    "RECIPE_BLOCKS",
    "Backbone",
    "Prototypes",
    "Tap",
    "Tokens",
    "build_vit",
    "weights_digest",
]


class Backbone(nn.Module):
    """A ViT or a Swin with its input contract: tokens, every token recipe, any image size.

    Images are normalised float tensors (b, 3, h, w). `extras` holds modules of recipes that need
    more than the network (`{"proto": Prototypes(...)}`). A Swin has no CLS token (`has_cls` is
    False): its `cls` is the average of its patches. Example:
    `Backbone(build_vit("vit_mini_patch4_32"), InputSpec(size_px=32))`.
    """

    def __init__(
        self,
        vit: Network,
        input: InputSpec,
        pos_interp: PosInterp = "size",
        extras: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if pos_interp not in ("size", "dino"):
            raise SpecError(f"pos_interp is '{pos_interp}': use 'size' or 'dino'")
        self.vit = vit = as_network(vit)
        self.input = input
        self.pos_interp: PosInterp = pos_interp
        self.extras = nn.ModuleDict(dict(extras or {}))
        self._trunk = trunk_of(vit, pos_interp)
        self._token_shapes: dict[int, tuple[int, int]] = {}
        self.embed_dim = self._trunk.widths[-1]
        self.depth = self._trunk.depth
        self.num_heads = self._trunk.num_heads
        self.patch_size = self._trunk.patch_size
        self.has_cls = self._trunk.has_cls

    def forward(self, images: Tensor, layers: Sequence[int] = (-1,), norm: bool = True) -> Tokens:
        """The same as `tokens`, so that wrappers (DDP, compile) of the module work."""
        return self.tokens(images, layers, norm)

    def tokens(self, images: Tensor, layers: Sequence[int] = (-1,), norm: bool = True) -> Tokens:
        """Tokens after the blocks `layers` (timm's indices), each through the final norm if `norm`.

        Blocks after the last tap are not run. `norm` is the default of DINO and DINOv2 but not of
        timm.
        """
        indices = [block_index(index, self.depth) for index in layers]
        walk = self._trunk.walk(images, indices)
        taps = tuple(self._trunk.tap(walk, index, norm) for index in indices)
        return Tokens(taps[-1].cls, taps[-1].patches, taps)

    def features(self, images: Tensor, recipes: Sequence[str]) -> dict[str, Tensor]:
        """Every recipe from one forward.

        Shapes for a patch grid (h, w): vectors (`cls`, `avg`, `cls4+avg`, any sum of blocks): (b,
        the blocks' widths together); `patch`, `key_last`: (b, h, w, d); `tokens`: (b, t, d), CLS
        where there is one, then the patches row by row; `patch@(3,5,7,11)`: (b, taps, h, w, d),
        *without* the final norm; `attn_cls`: (b, heads, h, w), whose softmax included CLS and
        registers; `proto`: (b, h, w, k).
        """
        for recipe in recipes:
            check_recipe(recipe)
            self._require(recipe)
        attention = not {"key_last", "attn_cls"}.isdisjoint(recipes)
        trunk = self._trunk
        walk = trunk.walk(images, *tap_indices(recipes, self.depth), keep_input=attention)
        blocks = {b for recipe in recipes if not is_map(recipe) for b in blocks_of(recipe)}
        values = {b: trunk.vector(walk, b, block_index(index_of(b), self.depth)) for b in blocks}
        maps = trunk.attention(walk) if attention else {}
        found: dict[str, Tensor] = {}
        for recipe in recipes:
            if not is_map(recipe):
                found[recipe] = torch.cat([values[b] for b in blocks_of(recipe)], dim=-1)
            elif recipe in maps:
                found[recipe] = maps[recipe]
            elif indices := [block_index(i, self.depth) for i in taps_of(recipe)]:
                grids = [trunk.tap(walk, i, norm=False).patches for i in indices]
                found[recipe] = torch.stack(grids, dim=1)  # (b, taps, h, w, d)
            else:
                found[recipe] = self._last(recipe, trunk.tap(walk, self.depth - 1, norm=True))
        return found

    def token_shape(self, size_px: int) -> tuple[int, int]:
        """(t, d) of the recipe `tokens` for square images of this side."""
        if size_px not in self._token_shapes:
            weight = next(self.vit.parameters())
            image = torch.zeros(1, 3, size_px, size_px, device=weight.device, dtype=weight.dtype)
            training = self.training
            self.eval()  # running statistics are not to see this image
            with torch.inference_mode():
                found = self._last("tokens", self.tokens(image).layers[-1])  # (1, t, d)
            self.train(training)
            self._token_shapes[size_px] = (found.shape[1], found.shape[2])
        return self._token_shapes[size_px]

    def available(self, recipe: str) -> bool:
        """Whether this backbone can give the recipe: it has the CLS token, blocks or prototypes."""
        try:
            check_recipe(recipe)
            self._require(recipe)
            tap_indices([recipe], self.depth)
        except SpecError:
            return False
        return True

    def width(self, block: str) -> int:
        """Columns of a whole-image block such as `cls@-4` or `avg`."""
        return self._trunk.widths[block_index(index_of(block), self.depth)]

    def signature(self) -> str:
        """Hash of what the weights do not tell: heads, norms' epsilon, activations, grid."""
        return hashlib.sha256(self._trunk.signature().encode()).hexdigest()

    def layout(self) -> list[object]:
        """The part of it that goes into a model's identity, as JSON values."""
        return self._trunk.layout()

    def _last(self, recipe: str, tap: Tap) -> Tensor:
        """`patch`, `tokens` or `proto` of the normed last block."""
        if recipe == "tokens":
            rows = tap.patches.flatten(1, 2)  # (b, h*w, d)
            if self.has_cls and tap.cls is not None:  # a Swin's is but the patches' average
                rows = torch.cat([tap.cls[:, None], rows], dim=1)
            return rows
        return self.extras["proto"](tap.patches) if recipe == "proto" else tap.patches

    def _require(self, recipe: str) -> None:
        if why := self._trunk.refusal(recipe):
            raise SpecError(why)
        if recipe == "proto" and "proto" not in self.extras:
            raise SpecError(
                "recipe 'proto' needs a checkpoint with projector and prototypes, such as "
                "SlotMIM's; this one has none"
            )


def trunk_of(network: Network, pos_interp: PosInterp) -> Trunk:
    """How images go through the network."""
    if isinstance(network, SwinTransformer):
        return SwinTrunk(network)
    return ViTTrunk(network, pos_interp)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 over the sorted (name, dtype, shape, bytes) of tensors, whatever their file was."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

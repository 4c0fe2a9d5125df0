"""Backbone: the only thing a task sees of a model, and Tokens, what it answers with.

One loop over the blocks (`Backbone._walk`) serves every token recipe.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.attention import attention_maps
from bench.errors import SpecError
from bench.positions import PosInterp, interpolate_positions
from bench.recipes import (
    RECIPE_BLOCKS,
    block_index,
    blocks_of,
    check_recipe,
    index_of,
    is_map,
    needs_cls,
    tap_indices,
    taps_of,
)
from bench.tokens import Prototypes, Tap, Tokens
from bench.transforms import InputSpec
from bench.vit import as_vit, build_vit

__all__ = [
    "RECIPE_BLOCKS",
    "Backbone",
    "Prototypes",
    "Tap",
    "Tokens",
    "build_vit",
    "weights_digest",
]


@dataclass(frozen=True)
class _Walk:
    taps: dict[int, Tensor]  # block index -> (b, prefix + h*w, d)
    cls: dict[int, Tensor]  # block index -> (b, d)
    before_last: Tensor | None  # input of the last block, when it was asked for
    grid: tuple[int, int]


class Backbone(nn.Module):
    """A ViT with its input contract: tokens, every token recipe, any image size.

    Images are normalised float tensors (b, 3, h, w); sides that the patch size does not divide are
    cropped at the bottom and the right (what DINO's convolution does). `extras` holds modules of
    recipes that need more than the ViT (`{"proto": Prototypes(...)}`). Example:
    `Backbone(build_vit("vit_mini_patch4_32"), InputSpec(size_px=32))`.
    """

    def __init__(
        self,
        vit: VisionTransformer,
        input: InputSpec,
        pos_interp: PosInterp = "size",
        extras: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if pos_interp not in ("size", "dino"):
            raise SpecError(f"pos_interp is '{pos_interp}': use 'size' or 'dino'")
        self.vit = as_vit(vit, type(vit).__name__)
        self.input = input
        self.pos_interp: PosInterp = pos_interp
        self.extras = nn.ModuleDict(dict(extras or {}))
        self.embed_dim = int(vit.embed_dim)
        self.depth = len(vit.blocks)
        self.patch_size = int(vit.patch_embed.patch_size[0])
        self.has_cls = bool(vit.has_class_token)
        self._prefix = int(vit.num_prefix_tokens)

    def forward(self, images: Tensor, layers: Sequence[int] = (-1,), norm: bool = True) -> Tokens:
        """The same as `tokens`, so that wrappers (DDP, compile) of the module work."""
        return self.tokens(images, layers, norm)

    def tokens(self, images: Tensor, layers: Sequence[int] = (-1,), norm: bool = True) -> Tokens:
        """Tokens after the blocks `layers` (timm's indices), each through the final norm if `norm`.

        Blocks after the last tap are not run. `norm` is the default of DINO and DINOv2 but not of
        timm.
        """
        indices = [block_index(index, self.depth) for index in layers]
        walk = self._walk(images, indices)
        taps = tuple(self._split(walk.taps[index], walk.grid, norm) for index in indices)
        return Tokens(taps[-1].cls, taps[-1].patches, taps)

    def features(self, images: Tensor, recipes: Sequence[str]) -> dict[str, Tensor]:
        """Every recipe from one forward.

        Shapes for a patch grid (h, w): vectors (`cls`, `avg`, `cls4+avg`, any sum of blocks): (b,
        blocks * d); `patch`, `key_last`: (b, h, w, d); `patch@(3,5,7,11)`: (b, taps, h, w, d),
        *without* the final norm; `attn_cls`: (b, heads, h, w), whose softmax included CLS and
        registers; `proto`: (b, h, w, k).
        """
        for recipe in recipes:
            check_recipe(recipe)
            self._require(recipe)
        attention = not {"key_last", "attn_cls"}.isdisjoint(recipes)
        walk = self._walk(images, *tap_indices(recipes, self.depth), keep_input=attention)
        found: dict[str, Tensor] = {}
        blocks = {b for recipe in recipes if not is_map(recipe) for b in blocks_of(recipe)}
        values = self._block_values(walk, blocks)
        maps: dict[str, Tensor] = {}
        if walk.before_last is not None:
            maps = attention_maps(
                self.vit.blocks[-1], walk.before_last, walk.grid, self._prefix, self.has_cls
            )
        for recipe in recipes:
            if not is_map(recipe):
                found[recipe] = torch.cat([values[b] for b in blocks_of(recipe)], dim=-1)
            elif recipe in maps:
                found[recipe] = maps[recipe]
            elif indices := [block_index(i, self.depth) for i in taps_of(recipe)]:
                grids = [self._split(walk.taps[i], walk.grid, norm=False).patches for i in indices]
                found[recipe] = torch.stack(grids, dim=1)  # (b, taps, h, w, d)
            else:
                patches = self._split(walk.taps[self.depth - 1], walk.grid, norm=True).patches
                found[recipe] = self.extras["proto"](patches) if recipe == "proto" else patches
        return found

    def available(self, recipe: str) -> bool:
        """Whether this backbone can give the recipe: it has the CLS token, blocks or prototypes."""
        try:
            check_recipe(recipe)
            self._require(recipe)
            tap_indices([recipe], self.depth)
        except SpecError:
            return False
        return True

    def signature(self) -> str:
        """Hash of what the weights do not tell: heads, norms' epsilon, activations, grid."""
        heads = [getattr(getattr(block, "attn", None), "num_heads", 0) for block in self.vit.blocks]
        grid = self.vit.patch_embed.grid_size
        text = f"{self.vit!r} {heads} {grid} {self.vit.no_embed_class}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _walk(
        self,
        images: Tensor,
        taps: Collection[int],
        cls_taps: Collection[int] = (),
        keep_input: bool = False,
    ) -> _Walk:
        x, grid = self._embed(images)
        kept: dict[int, Tensor] = {}
        cls: dict[int, Tensor] = {}
        before_last = None
        deepest, last = max((*taps, *cls_taps), default=-1), self.depth - 1
        for index, block in enumerate(self.vit.blocks):
            if keep_input and index == last:
                before_last = x
            if index > deepest and (index == last or not keep_input):
                break
            if self.vit.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)  # (b, prefix + h*w, d)
            if index in taps:
                kept[index] = x
            if index in cls_taps:
                cls[index] = x[:, 0].clone()  # a view would keep all tokens of the block alive
        return _Walk(kept, cls, before_last, grid)

    def _embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens before the first block (b, prefix + h*w, d), and the patch grid (h, w)."""
        vit, patch = self.vit, self.patch_size
        h, w = images.shape[-2] // patch, images.shape[-1] // patch
        if h < 1 or w < 1:
            raise SpecError(
                f"an image of {tuple(images.shape[-2:])} px is smaller than one {patch} px patch: "
                "use larger images"
            )
        # patch_embed.forward insists on the trained size; its two parts do not.
        x = vit.patch_embed.proj(images[..., : h * patch, : w * patch])  # (b, d, h, w)
        x = vit.patch_embed.norm(x.flatten(2).transpose(1, 2))  # (b, h*w, d)
        prefix = [t.expand(len(x), -1, -1) for t in (vit.cls_token, vit.reg_token) if t is not None]
        if vit.pos_embed is None:
            return vit.norm_pre(torch.cat([*prefix, x], dim=1)), (h, w)
        rows = 0 if vit.no_embed_class else self._prefix
        pos = interpolate_positions(
            vit.pos_embed, tuple(vit.patch_embed.grid_size), (h, w), rows, self.pos_interp
        )
        if vit.no_embed_class:
            x = torch.cat([*prefix, x + pos], dim=1)
        else:
            x = torch.cat([*prefix, x], dim=1) + pos
        # timm's patch_drop is left out: a grid with holes has no (h, w).
        return vit.norm_pre(vit.pos_drop(x)), (h, w)

    def _split(self, x: Tensor, grid: tuple[int, int], norm: bool) -> Tap:
        x = self._norm(x) if norm else x
        patches = x[:, self._prefix :].reshape(len(x), *grid, -1)  # (b, h, w, d)
        return Tap(x[:, 0] if self.has_cls else None, patches)

    def _norm(self, x: Tensor) -> Tensor:
        # Average-pooled timm models carry their only final norm as fc_norm.
        norm = self.vit.fc_norm if isinstance(self.vit.norm, nn.Identity) else self.vit.norm
        return cast(Tensor, norm(x))

    def _fc_norm(self, x: Tensor) -> Tensor:
        norm = self.vit.norm if isinstance(self.vit.fc_norm, nn.Identity) else self.vit.fc_norm
        return cast(Tensor, norm(x))

    def _block_values(self, walk: _Walk, blocks: Collection[str]) -> dict[str, Tensor]:
        """Each whole-image block, (b, d); means in float32, since a bf16 sum loses digits."""
        values: dict[str, Tensor] = {}
        for block in blocks:
            index = block_index(index_of(block), self.depth)
            if block.startswith("cls"):
                values[block] = self._norm(walk.cls[index])  # per token: one token suffices
                continue
            x = walk.taps[index]
            if block == "avg":
                mean = self._norm(x[:, self._prefix :]).mean(dim=1, dtype=torch.float32)
                values[block] = mean.to(x.dtype)
            else:
                mean = x[:, self._prefix :].mean(dim=1, dtype=torch.float32)
                values[block] = self._fc_norm(mean.to(x.dtype))
        return values

    def _require(self, recipe: str) -> None:
        if needs_cls(recipe) and not self.has_cls:
            raise SpecError(
                f"recipe '{recipe}' reads the CLS token, this backbone has none: use 'avg'"
            )
        if recipe == "proto" and "proto" not in self.extras:
            raise SpecError(
                "recipe 'proto' needs a checkpoint with projector and prototypes, such as "
                "SlotMIM's; this one has none"
            )


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 over the sorted (name, dtype, shape, bytes) of tensors, whatever their file was."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

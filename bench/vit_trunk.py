"""Plain vision transformers as a Backbone reads them: one loop over the blocks serves all."""

from collections.abc import Collection
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.attention import attention_maps
from bench.errors import SpecError
from bench.positions import PosInterp, interpolate_positions
from bench.recipes import needs_cls
from bench.tokens import Tap
from bench.trunk import Trunk, Walk


class ViTTrunk(Trunk):
    """timm's VisionTransformer at any image size; taps are (b, prefix + h*w, d).

    Sides that the patch size does not divide are cropped at the bottom and the right (what DINO's
    convolution does).
    """

    def __init__(self, vit: VisionTransformer, pos_interp: PosInterp) -> None:
        self._vit = vit
        self._pos_interp: PosInterp = pos_interp
        self._prefix = int(vit.num_prefix_tokens)
        self.depth = len(vit.blocks)
        self.widths = (int(vit.embed_dim),) * self.depth
        self.num_heads = int(getattr(getattr(vit.blocks[-1], "attn", None), "num_heads", 1))
        self.patch_size = int(vit.patch_embed.patch_size[0])
        self.has_cls = bool(vit.has_class_token)

    def walk(
        self,
        images: Tensor,
        taps: Collection[int],
        cls_taps: Collection[int] = (),
        keep_input: bool = False,
    ) -> Walk:
        x, grid = self._embed(images)
        kept: dict[int, Tensor] = {}
        cls: dict[int, Tensor] = {}
        before_last = None
        deepest, last = max((*taps, *cls_taps), default=-1), self.depth - 1
        for index, block in enumerate(self._vit.blocks):
            if keep_input and index == last:
                before_last = x
            if index > deepest and (index == last or not keep_input):
                break
            if self._vit.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)  # (b, prefix + h*w, d)
            if index in taps:
                kept[index] = x
            if index in cls_taps:
                cls[index] = x[:, 0].clone()  # a view would keep all tokens of the block alive
        return Walk(kept, cls, before_last, grid)

    def tap(self, walk: Walk, index: int, norm: bool) -> Tap:
        x = walk.taps[index]
        x = self._norm(x) if norm else x
        patches = x[:, self._prefix :].reshape(len(x), *walk.grid, -1)  # (b, h, w, d)
        return Tap(x[:, 0] if self.has_cls else None, patches)

    def vector(self, walk: Walk, block: str, index: int) -> Tensor:
        if block.startswith("cls"):
            return self._norm(walk.cls[index])  # per token: one token suffices
        x = walk.taps[index]
        if block == "avg":
            mean = self._norm(x[:, self._prefix :]).mean(dim=1, dtype=torch.float32)
            return mean.to(x.dtype)
        mean = x[:, self._prefix :].mean(dim=1, dtype=torch.float32)
        return self._fc_norm(mean.to(x.dtype))

    def attention(self, walk: Walk) -> dict[str, Tensor]:
        assert walk.before_last is not None
        return attention_maps(
            self._vit.blocks[-1], walk.before_last, walk.grid, self._prefix, self.has_cls
        )

    def refusal(self, recipe: str) -> str:
        if needs_cls(recipe) and not self.has_cls:
            return f"recipe '{recipe}' reads the CLS token, this backbone has none: use 'avg'"
        return ""

    def signature(self) -> str:
        vit = self._vit
        heads = [getattr(getattr(block, "attn", None), "num_heads", 0) for block in vit.blocks]
        return f"{vit!r} {heads} {vit.patch_embed.grid_size} {vit.no_embed_class}"

    def layout(self) -> list[Any]:
        blocks: Any = self._vit.blocks
        eps = self._final_norm().eps
        return [[block.attn.num_heads for block in blocks], eps, self._vit.no_embed_class]

    def _embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens before the first block (b, prefix + h*w, d), and the patch grid (h, w)."""
        vit, patch = self._vit, self.patch_size
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
            vit.pos_embed, tuple(vit.patch_embed.grid_size), (h, w), rows, self._pos_interp
        )
        if vit.no_embed_class:
            x = torch.cat([*prefix, x + pos], dim=1)
        else:
            x = torch.cat([*prefix, x], dim=1) + pos
        # timm's patch_drop is left out: a grid with holes has no (h, w).
        return vit.norm_pre(vit.pos_drop(x)), (h, w)

    def _final_norm(self) -> Any:
        # Average-pooled timm models carry their only final norm as fc_norm.
        return self._vit.fc_norm if isinstance(self._vit.norm, nn.Identity) else self._vit.norm

    def _norm(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._final_norm()(x))

    def _fc_norm(self, x: Tensor) -> Tensor:
        norm = self._vit.norm if isinstance(self._vit.fc_norm, nn.Identity) else self._vit.fc_norm
        return cast(Tensor, norm(x))

"""Swin Transformers as a Backbone reads them: averages of patches stand where a ViT has CLS."""

from collections.abc import Collection
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor

from bench.errors import SpecError
from bench.recipes import taps_of
from bench.swin import block_outputs, blocks_of, embed, stride_of
from bench.tokens import Tap
from bench.trunk import Trunk, Walk


class SwinTrunk(Trunk):
    """timm's SwinTransformer at any image size; taps are (b, h, w, d of the stage).

    There is no CLS token. `cls@k` is the average of the patches after a block, which DINO, iBOT and
    SOVE train and evaluate in its place; blocks differ in width then, and `cls4` of Swin-T has 384
    + 384 + 768 + 768 columns. The final norm fits the last stage only: taps of earlier ones stay
    without (iBOT's evaluation).
    """

    has_cls = False

    def __init__(self, swin: SwinTransformer) -> None:
        self._swin = swin
        self._blocks = blocks_of(swin)
        self.depth = len(self._blocks)
        self.widths = tuple(int(block.dim) for block in self._blocks)
        self.num_heads = int(self._blocks[-1].attn.num_heads)
        self.patch_size = stride_of(swin)

    def walk(
        self,
        images: Tensor,
        taps: Collection[int],
        cls_taps: Collection[int] = (),
        keep_input: bool = False,
    ) -> Walk:
        kept: dict[int, Tensor] = {}
        cls: dict[int, Tensor] = {}
        deepest = max((*taps, *cls_taps), default=-1)
        for index, x in enumerate(block_outputs(self._swin, embed(self._swin, images))):
            if index in taps:
                kept[index] = x
            if index in cls_taps:
                cls[index] = _average(self._norm(x, index))
            if index >= deepest:
                break
        return Walk(kept, cls, None, (x.shape[1], x.shape[2]))

    def tap(self, walk: Walk, index: int, norm: bool) -> Tap:
        x = walk.taps[index]
        patches = self._norm(x, index) if norm else x
        return Tap(_average(patches), patches)

    def vector(self, walk: Walk, block: str, index: int) -> Tensor:
        if block.startswith("cls"):
            return walk.cls[index]
        x = walk.taps[index]
        if block == "avg":
            return _average(self._norm(x, index))
        return self._norm(_average(x), index)

    def attention(self, walk: Walk) -> dict[str, Tensor]:
        raise SpecError(self.refusal("attn_cls"))

    def refusal(self, recipe: str) -> str:
        if recipe in ("key_last", "attn_cls"):
            return (
                f"recipe '{recipe}' reads an attention over the whole image, a Swin attends within "
                "windows: use 'patch'"
            )
        indices = [i % self.depth for i in taps_of(recipe) if -self.depth <= i < self.depth]
        if len({self.widths[i] for i in indices}) > 1:
            stages = [f"{self.widths.index(d)}-{self._last(d)}" for d in sorted({*self.widths})]
            return (
                f"recipe '{recipe}' taps blocks of several stages, whose patches differ in size: "
                f"choose blocks of one stage of {', '.join(stages)}"
            )
        return ""

    def signature(self) -> str:
        return f"{self._swin!r} {self.layout()}"

    def layout(self) -> list[Any]:
        return [
            [block.attn.num_heads for block in self._blocks],
            self._swin.norm.eps,
            [list(block.window_size) for block in self._blocks],
            [list(block.shift_size) for block in self._blocks],
        ]

    def _last(self, width: int) -> int:
        return self.depth - 1 - self.widths[::-1].index(width)

    def _norm(self, x: Tensor, index: int) -> Tensor:
        """The final norm after a block of the last stage; blocks before it have none."""
        return self._swin.norm(x) if self.widths[index] == self.widths[-1] else x


def _average(patches: Tensor) -> Tensor:
    """(b, h, w, d) -> (b, d); in float32, since a bf16 sum loses digits."""
    return patches.mean(dim=(1, 2), dtype=torch.float32).to(patches.dtype)

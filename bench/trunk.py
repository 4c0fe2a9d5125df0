"""What a Backbone asks of an architecture: one pass over its blocks, and tokens from it."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.tokens import Tap


@dataclass(frozen=True)
class Walk:
    """What was kept of one pass; how tokens lie in the tensors is the trunk's own affair.

    Attributes:
        taps: whole output of each block asked for, by index.
        cls: (b, d) behind `cls@k` of each block asked for, by index.
        before_last: input of the last block, when it was asked for.
        grid: rows and columns of patches.
    """

    taps: dict[int, Tensor]
    cls: dict[int, Tensor]
    before_last: Tensor | None
    grid: tuple[int, int]


class Trunk(ABC):
    """A network without its head, as a Backbone reads it; one subclass for each architecture.

    Attributes:
        depth: number of blocks.
        widths: width of the tokens after each block.
        num_heads: attention heads of the last block.
        patch_size: pixels between neighbouring patches of the last block.
        has_cls: whether there is a CLS token.
    """

    depth: int
    widths: tuple[int, ...]
    num_heads: int
    patch_size: int
    has_cls: bool

    @abstractmethod
    def walk(
        self,
        images: Tensor,
        taps: Collection[int],
        cls_taps: Collection[int] = (),
        keep_input: bool = False,
    ) -> Walk:
        """One pass that keeps the outputs of the blocks `taps` and the vectors of `cls_taps`.

        Blocks after the deepest of them do not run; `keep_input` asks for the last block's input.
        """

    @abstractmethod
    def tap(self, walk: Walk, index: int, norm: bool) -> Tap:
        """The tokens after one block, through the final norm if `norm`."""

    @abstractmethod
    def vector(self, walk: Walk, block: str, index: int) -> Tensor:
        """(b, d) of the whole-image block `cls@k`, `avg` or `avg_fcnorm`, which taps `index`."""

    @abstractmethod
    def attention(self, walk: Walk) -> dict[str, Tensor]:
        """`key_last` and, with a CLS token, `attn_cls` of the last block."""

    @abstractmethod
    def refusal(self, recipe: str) -> str:
        """Why this network cannot give the recipe, in words; empty when it can."""

    @abstractmethod
    def signature(self) -> str:
        """What the weights do not tell, as text: heads, norms' epsilon, activations, grid."""

    @abstractmethod
    def layout(self) -> list[Any]:
        """The part of `signature` that goes into a model's identity, as JSON values."""

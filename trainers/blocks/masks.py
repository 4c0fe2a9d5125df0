"""Token masks: which patches a student does not see."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bench.errors import SpecError
from trainers.blocks.views import MaskSampler


def count_kept(tokens: int, ratio: float) -> int:
    """Tokens left when ``ratio`` of them are masked.

    ``tokens - floor(ratio * tokens)``; the tiny constant undoes float error, for which
    ``int(100 * (1 - 0.9))`` gives 9.
    """
    return tokens - math.floor(ratio * tokens + 1e-9)


def uniform_keep(
    batch: int, tokens: int, ratio: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """A uniformly random set of kept tokens per image, of one exact size (MAE).

    Returns:
        keep: (batch, kept) int64 indices of visible tokens, in random order.
        mask: (batch, tokens) bool, True = masked.

    Raises:
        SpecError: with this ratio nothing is visible or nothing is masked.
    """
    kept = count_kept(tokens, ratio)
    if not 0 < kept < tokens:
        raise SpecError(
            f"mask_ratio={ratio:g} leaves {kept} of {tokens} patches visible; choose a ratio "
            f"between {1 / tokens:.2g} and {1 - 1 / tokens:.2g}"
        )
    order = torch.rand(batch, tokens, device=device).argsort(1)
    keep = order[:, :kept]
    mask = torch.ones(batch, tokens, dtype=torch.bool, device=device)
    return keep, mask.scatter_(1, keep, False)


def draw_ratio(
    rng: np.random.Generator, centres: tuple[float, ...], spreads: tuple[float, ...]
) -> float:
    """A mask ratio: one of the ranges ``centre +- spread``, then a number within it."""
    choice = int(rng.integers(len(centres)))
    return rng.uniform(centres[choice] - spreads[choice], centres[choice] + spreads[choice])


@dataclass(frozen=True)
class RandomMask:
    """Masked patches anywhere, ``floor(ratio * n)`` of them with a ratio drawn each call.

    Attributes:
        tokens: patches n of a view.
        ratios: centres of the ratio, one chosen uniformly per call.
        spreads: half-widths around each centre, same length.
    """

    tokens: int
    ratios: tuple[float, ...] = (0.7,)
    spreads: tuple[float, ...] = (0.0,)

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        ratio = draw_ratio(rng, self.ratios, self.spreads)
        mask = np.arange(self.tokens) >= count_kept(self.tokens, ratio)
        return rng.permutation(mask)


@dataclass(frozen=True)
class BlockwiseMask:
    """BEiT's blockwise mask, drawn until a target count is reached or no block adds anything.

    A call draws a ratio, then places rectangles of log-uniform aspect whose area lies between
    ``(min(h, w) // 3) ** 2`` and what is still missing. The achieved count never exceeds the target
    and is on average a little below it (0.290 for a nominal 0.3 on an 8 x 8 grid).

    Attributes:
        height: rows of the token grid.
        width: columns of the token grid.
        ratios: centres of the ratio, one chosen uniformly per call ((0, 0.3) for iBOT, (0.3,) for
            SlotMIM).
        spreads: half-widths around each centre, same length.
        aspect: least aspect ratio of a block; the greatest is its inverse.
        tries: draws per block before giving up.
    """

    height: int
    width: int
    ratios: tuple[float, ...] = (0.3,)
    spreads: tuple[float, ...] = (0.2,)
    aspect: float = 0.3
    tries: int = 10

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        target = draw_ratio(rng, self.ratios, self.spreads) * self.height * self.width
        mask = np.zeros((self.height, self.width), bool)
        while mask.sum() < target:
            if not self._place(mask, target - mask.sum(), rng):
                break
        return mask.ravel()

    def _place(self, mask: np.ndarray, missing: float, rng: np.random.Generator) -> bool:
        """Add one rectangle of at most ``missing`` new cells; False when no draw fitted."""
        low = (min(self.height, self.width) // 3) ** 2
        log_aspect = (math.log(self.aspect), -math.log(self.aspect))
        for _ in range(self.tries):
            # When less than `low` is missing the range is reversed, as in the official code.
            area = low + (missing - low) * rng.random()
            aspect = math.exp(rng.uniform(*log_aspect))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if not (w < self.width and h < self.height):
                continue
            top = int(rng.integers(0, self.height - h + 1))
            left = int(rng.integers(0, self.width - w + 1))
            block = mask[top : top + h, left : left + w]
            if 0 < h * w - block.sum() <= missing:
                block[:] = True
                return True
        return False


def mask_sampler(
    kind: Literal["blockwise", "random", "none"],
    grid: int,
    ratios: tuple[float, ...],
    spreads: tuple[float, ...],
) -> MaskSampler | None:
    """The mask of a ``grid`` x ``grid`` view that a recipe's fields ask for; ``none`` gives None.

    Raises:
        SpecError: there is not one spread for each ratio, or a range leaves [0, 1].
    """
    if kind == "none":
        return None
    if not ratios or len(ratios) != len(spreads):
        raise SpecError(
            f"mask_ratios has {len(ratios)} values, mask_spreads {len(spreads)}: give one spread "
            "for each ratio, and at least one of both"
        )
    for ratio, spread in zip(ratios, spreads, strict=True):
        widest = min(ratio, 1 - ratio)
        if not 0 <= spread <= widest:
            raise SpecError(
                f"a mask ratio of {ratio:g} +- {spread:g} leaves [0, 1]: choose a ratio in it and "
                f"a spread of at most {max(widest, 0.0):g}"
            )
    if kind == "random":
        return RandomMask(grid**2, ratios, spreads)
    return BlockwiseMask(grid, grid, ratios, spreads)

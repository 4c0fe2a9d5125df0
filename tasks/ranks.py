"""Scores and the indices they belong to in one integer, whose order no tie can upset."""

from __future__ import annotations

import torch
from torch import Tensor

INDEX_BITS = 31

_LAST = (1 << INDEX_BITS) - 1


def packed(score: Tensor, index: Tensor) -> Tensor:
    """One int64 for (score as float32, falling index): the largest is the nearest neighbour.

    No two keys of a row share a rank, so any top-k algorithm gives the same answer.
    """
    bits = (score.float() + 0.0).view(torch.int32).long()  # + 0.0 turns -0.0 into 0.0
    ordered = bits ^ ((bits >> 63) & 0x7FFFFFFF)  # negative floats sort backwards as integers
    return (ordered << INDEX_BITS) | (_LAST - index)


def unpacked(ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of `packed`: (score float32, index int64)."""
    ordered = ranks >> INDEX_BITS
    bits = ordered ^ ((ordered >> 63) & 0x7FFFFFFF)
    return bits.int().view(torch.float32), _LAST - (ranks & _LAST)

"""How the labels of neighbours become the labels of a patch, and those of all patches a map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.annotations import VOID

VOTE_ROWS = {"cpu": 64, "cuda": 4096}  # patches at once: on a host they then stay in cache


def pixel_mode(labels: Tensor, ks: Sequence[int], void_votes: bool = True) -> dict[int, Tensor]:
    """The most frequent label of the first k neighbours at each pixel of a patch, for every k.

    Equal numbers of votes go to the smaller label, and so to a class before void.

    Args:
        labels: (n, max k, w) uint8, nearest neighbour first.
        ks: numbers of neighbours, 255 at most.
        void_votes: whether void is a label like the others; else it is found only where no
            neighbour has a class.

    Returns:
        (n, w) uint8 for each k.
    """
    rows = VOTE_ROWS.get(labels.device.type, 64)
    parts = [_modes(some, ks, void_votes) for some in labels.split(rows)]
    return {k: torch.cat([part[k] for part in parts]) for k in ks}


def _modes(labels: Tensor, ks: Sequence[int], void_votes: bool) -> dict[int, Tensor]:
    known = labels.transpose(0, 1).contiguous()  # (max k, n, w)
    # Of the neighbours up to `place`, how many have the label of each, itself and later ones: the
    # first of each label knows them all.
    votes = torch.ones_like(known)
    found = {}
    for place in range(max(ks)):
        votes[:place] += (known[:place] == known[place]).view(torch.uint8)  # (place, n, w)
        if place + 1 in ks:
            first, label = votes[: place + 1].int(), known[: place + 1].int()
            if not void_votes:
                first *= label != VOID
            # Votes first, then the smaller label: the largest of one number.
            order = (first * (VOID + 1) + VOID - label).amax(0)
            found[place + 1] = (VOID - order % (VOID + 1)).to(torch.uint8)
    return found


def soft_vote(cosine: Tensor, counts: Tensor, temperature: float) -> Tensor:
    """(n, c) shares of the classes of n patches: sum over neighbours of softmax(cosine / T) share.

    Args:
        cosine: (n, k).
        counts: (n, k, c) pixels of each class in each neighbour.
        temperature: T.
    """
    weight = (cosine.double() / temperature).softmax(dim=1)  # (n, k)
    return (weight[:, None] @ counts.double())[:, 0].float()  # (n, 1, k) @ (n, k, c)


def upsampled(shares: Tensor, size_px: int, void: bool) -> Tensor:
    """(s, s) uint8: the class with the largest share at each pixel of an image.

    Args:
        shares: (g, g, c), enlarged bilinearly; equal ones go to the lower class.
        size_px: s.
        void: whether the last of the c stands for no class.
    """
    maps = shares.permute(2, 0, 1)[None]  # (1, c, g, g)
    label = F.interpolate(maps, (size_px, size_px), mode="bilinear").argmax(dim=1)[0]  # (s, s)
    if void:
        label = label.masked_fill(label == shares.shape[2] - 1, VOID)
    return label.to(torch.uint8)

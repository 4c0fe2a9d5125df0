"""LOST: the box of one object, found by how few patches resemble it (Simeoni et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

Box = npt.NDArray[np.float64]  # (4,) left, top, right, bottom; the last two exclusive


@dataclass(frozen=True, eq=False)
class Seen:
    """What LOST found in the keys of one image.

    Attributes:
        seed: row and column of the patch that the fewest others resemble.
        object: (h, w) bool, the patches of the object: one 4-connected piece with the seed in it.
    """

    seed: tuple[int, int]
    object: npt.NDArray[np.bool_]

    def box(self, patch: int, size: tuple[int, int]) -> Box:
        """The object's extent in pixels, cut off at the image's `size` (height, width)."""
        rows, columns = np.flatnonzero(self.object.any(1)), np.flatnonzero(self.object.any(0))
        right, bottom = (columns[-1] + 1) * patch, (rows[-1] + 1) * patch
        height, width = size
        ends = (columns[0] * patch, rows[0] * patch, min(right, width), min(bottom, height))
        return np.array(ends, dtype=np.float64)


def lost(keys: Tensor, k_patches: int = 100) -> Seen:
    """The object that the keys (h, w, d) of the last attention tell apart from the rest.

    ``A = K K^T``; the seed is the patch p with the fewest q != p of A_pq > 0; of the `k_patches`
    patches of lowest such degree, those s with A_seed,s > 0 vote, M = sum of their rows A_s; the
    object is the piece of M > 0 that the seed lies in.

    What surprises: the public code leaves open which of equal degrees comes first; here it is the
    first in reading order. Signs are taken in float64, else they would depend on how the device
    multiplies. A seed whose key is zero has no votes (there the public code stops) and is then the
    object by itself.
    """
    from scipy.ndimage import label

    h, w = keys.shape[:2]
    rows = keys.flatten(0, 1).double()  # (n, d)
    alike = rows @ rows.T  # (n, d) @ (d, n) -> (n, n)
    positive = alike > 0
    degree = positive.sum(1) - positive.diagonal().long()  # (n,)
    order = degree.argsort(stable=True)
    voters = order[:k_patches][positive[order[0], order[:k_patches]]]
    foreground = (alike[voters].sum(0) > 0).reshape(h, w).cpu().numpy()
    seed = divmod(int(order[0]), w)
    foreground[seed] = True
    pieces, _ = label(foreground)
    return Seen(seed, pieces == pieces[seed])


def box_ious(box: Box, others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,) intersection over union of a box with each of (n, 4), in float64."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])  # (n, 2)
    shared = np.maximum(sides, 0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    either = (box[2:] - box[:2]).prod() + areas - shared
    return np.asarray(shared / np.where(either > 0, either, 1.0))

"""Soft masks carried from frame to frame by the nearest patches of a few earlier frames.

Jabri et al., "Space-Time Correspondence as a Contrastive Random Walk" (NeurIPS 2020), as in DINO's
evaluation on DAVIS. A patch's label is the mean of the labels of its `topk` nearest patches in all
context frames together, weighted by exp(cosine / temperature); those further away than `radius`
patches in a row or a column are no candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.video_protocols import Propagation


@dataclass(frozen=True, eq=False)
class Tile:
    """Some targets of a grid, next to each other, and the part of the grid around them.

    Attributes:
        rows, columns: of the targets.
        near_rows: of the candidates; their columns are the band's.
        outside: (targets, candidate rows, 1, candidate columns) whether a candidate of the tile is
            further away from a target than the radius.
    """

    rows: slice
    columns: slice
    near_rows: slice
    outside: Tensor


@dataclass(frozen=True, eq=False)
class Band:
    """Tiles below each other, whose candidates lie in the same columns."""

    near_columns: slice
    tiles: tuple[Tile, ...]


@lru_cache(maxsize=8)
def bands(h: int, w: int, radius: int, tile: tuple[int, int], device: str) -> tuple[Band, ...]:
    """All targets of a grid (h, w), in tiles of at most `tile` rows and columns."""

    def pieces(length: int, step: int) -> Iterator[tuple[slice, slice]]:
        for start in range(0, length, step):
            end = min(start + step, length)
            yield slice(start, end), slice(max(start - radius, 0), min(end + radius, length))

    def far(targets: slice, near: slice) -> Tensor:  # (targets, candidates)
        at, of = (torch.arange(part.start, part.stop, device=device) for part in (targets, near))
        return (at[:, None] - of[None]).abs() > radius

    def tiles(columns: slice, near_columns: slice) -> Iterator[Tile]:
        across = far(columns, near_columns)[None, :, None, None]  # (1, tc, 1, 1, bc)
        for rows, near_rows in pieces(h, tile[0]):
            down = far(rows, near_rows)[:, None, :, None, None]  # (tr, 1, nr, 1, 1)
            outside = (down | across).flatten(0, 1)  # (t, nr, 1, bc)
            yield Tile(rows, columns, near_rows, outside)

    return tuple(Band(near, tuple(tiles(columns, near))) for columns, near in pieces(w, tile[1]))


class Propagator:
    """Follows the objects of one video: made of its first frame, then asked for one after another.

    Nothing is kept but the features and soft labels of the context, so memory does not grow with
    the video; candidates are compared a tile of targets at a time.

    What surprises: as in the official code, candidates that are exactly as near as the last of the
    top k all count. Where frames repeat (static video, bars at the borders) that is the rule and
    not the exception.

    Args:
        rule: what counts.
        features: (h, w, d) of the first frame.
        labels: (h, w, c) of the first frame.
        tile: rows and columns of targets that are compared at once; by default small on a processor
            and whole bands elsewhere. It changes nothing but time and memory.
    """

    def __init__(
        self,
        rule: Propagation,
        features: Tensor,
        labels: Tensor,
        tile: tuple[int, int] | None = None,
    ) -> None:
        self.rule = rule
        self.shape = h, w, _ = features.shape
        device = features.device
        radius = rule.radius or max(h, w)
        if tile is None:
            tile = ((radius + 1) // 2, radius + 1) if device.type == "cpu" else (radius + 1, w)
        self.bands = bands(h, w, radius, tile, str(device))
        self.seen = 0
        # Rows outermost, then frames: the candidates of a tile are one matrix without a copy.
        slots = 1 + rule.context
        widths = [band.near_columns.stop - band.near_columns.start for band in self.bands]
        self._features = [
            features.new_empty(h, slots, width, features.shape[2]) for width in widths
        ]
        self._labels = [labels.new_empty(h, slots, width, labels.shape[2]) for width in widths]
        self._put(F.normalize(features, dim=2), labels)

    def step(self, features: Tensor) -> Tensor:
        """(h, w, c) soft labels of the next frame, whose features are (h, w, d)."""
        if features.shape != self.shape:
            raise ValueError(f"features of shape {tuple(features.shape)}, expected {self.shape}")
        targets = F.normalize(features, dim=2)
        found = self._labels[0].new_empty(*self.shape[:2], self._labels[0].shape[3])
        for place, band in enumerate(self.bands):
            for tile in band.tiles:
                part = targets[tile.rows, tile.columns]
                found[tile.rows, tile.columns] = self._tile(part, tile, place)
        self._put(targets, found)
        return found

    def _tile(self, targets: Tensor, tile: Tile, place: int) -> Tensor:
        """(rows, columns, c) soft labels of a tile's targets (rows, columns, d)."""
        used = min(self.seen, 1 + self.rule.context)
        near = self._features[place][tile.near_rows, :used]  # (nr, f, bc, d)
        labels = self._labels[place][tile.near_rows, :used].flatten(0, 2)  # (m, c)
        scores = targets.flatten(0, 1) @ near.flatten(0, 2).T  # (t, d) @ (d, m) -> (t, m)
        scores.view(len(scores), *near.shape[:3]).masked_fill_(tile.outside, -torch.inf)
        return self._weighted(scores, labels).view(*targets.shape[:2], -1)

    def _weighted(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(t, c) means of labels (m, c) over the best candidates, from cosines (t, m)."""
        k = min(self.rule.topk, scores.shape[1])
        best, which = scores.topk(min(k + 1, scores.shape[1]), dim=1)
        weights = (best[:, :k] / self.rule.temperature).softmax(1)  # (t, k)
        found = torch.bmm(weights[:, None], labels[which[:, :k]])[:, 0]  # (t, c)
        tied = (best[:, k:] == best[:, k - 1 : k]).any(1)  # one more is as near as the last
        if tied.any():
            some, last = scores[tied], best[tied, k - 1 : k]
            some = some.masked_fill(some < last, -torch.inf)
            found[tied] = (some / self.rule.temperature).softmax(1) @ labels
        return found

    def _put(self, features: Tensor, labels: Tensor) -> None:
        """Keeps a frame in place of the oldest; the first frame stays."""
        context = self.rule.context
        slot = 0 if not self.seen else 1 + (self.seen - 1) % context if context else None
        self.seen += 1
        if slot is None:
            return
        for band, kept, kept_labels in zip(self.bands, self._features, self._labels, strict=True):
            kept[:, slot] = features[:, band.near_columns]
            kept_labels[:, slot] = labels[:, band.near_columns]

"""Labels of images by the nearest patches of a memory, under several k and distances at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.annotations import LabelMap
from bench.progress import Progress
from bench.token_table import TokenTable
from tasks.patch_labels import given, joined
from tasks.patch_memory import Memory, TokenMemory
from tasks.patch_scaler import Scaler
from tasks.patch_search import Neighbours, nearest_patches
from tasks.patch_views import patch_batches, patches_of
from tasks.patch_vote import pixel_mode, soft_vote, upsampled
from tasks.segknn_protocols import SegknnProtocol

Rows = npt.NDArray[np.int64]
Setting = tuple[int, str]  # k, distance

ASKED_ROWS = {"cpu": 8192, "cuda": 65_536}  # patches that ask in one pass over the memory
FORWARDED = 4  # times as many where a pass means that train is forwarded again


@dataclass(frozen=True, eq=False)
class Predictor:
    """What is asked of a memory and how its answers become labels.

    Attributes:
        memory: patches with labels.
        scaler: of features.
        numbers: the protocol.
        size_px: side of the labels.
        patch: side of a patch in pixels.
        batch_size: images that are read at once.
        device: of the search.
    """

    memory: Memory
    scaler: Scaler
    numbers: SegknnProtocol
    size_px: int
    patch: int
    batch_size: int
    device: str

    def predictions(
        self, table: TokenTable, rows: Rows, images: Rows, settings: Sequence[Setting]
    ) -> Iterator[tuple[int, dict[Setting, LabelMap]]]:
        """(row, (s, s) labels under each setting) of some images of a table, in their order.

        Only patches of the training images `images` vote. Every block of rows is one pass over the
        memory, and one search serves all settings.
        """
        patches, k = patches_of(table), max(k for k, _ in settings)
        distances = tuple(dict.fromkeys(distance for _, distance in settings))
        size = self._block(patches)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            read = [values for _, values in patch_batches(table, part, self.batch_size)]
            queries = self.scaler(torch.cat(read).flatten(0, 1))  # (b * g * g, d)
            found = nearest_patches(queries, self._chunks(images), k, distances)
            for place, row in enumerate(part.tolist()):
                mine = slice(place * patches, (place + 1) * patches)
                near = {n: Neighbours(f.score[mine], f.index[mine]) for n, f in found.items()}
                yield row, self._labels(near, settings)

    def _block(self, patches: int) -> int:
        """Images that ask in one pass over the memory."""
        rows = ASKED_ROWS.get(torch.device(self.device).type, ASKED_ROWS["cpu"])
        if isinstance(self.memory, TokenMemory) and not self.memory.table.stored:
            rows *= FORWARDED
        return max(1, rows // patches)

    def _chunks(self, images: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        with Progress("search among patches", self.memory.size(images)) as progress:
            for index, values in self.memory.chunks(images):
                yield index, self.scaler(values)
                progress.advance(len(index))

    def _labels(
        self, found: Mapping[str, Neighbours], settings: Sequence[Setting]
    ) -> dict[Setting, LabelMap]:
        """(s, s) labels of an image under each setting, from the neighbours of its patches."""
        labels: dict[Setting, LabelMap] = {}
        for distance, near in found.items():
            ks = [k for k, name in settings if name == distance]
            known = self.memory.labels
            rows = known[near.index.to(known.device)].to(self.device)  # (g * g, k, w)
            if self.numbers.vote == "pixels":
                votes = pixel_mode(rows, ks, self.numbers.void != "skip")
                made = {k: joined(votes[k].cpu().numpy(), self.patch) for k in ks}
            else:
                made = {k: self._soft(near.score[:, :k], rows[:, :k]) for k in ks}
            labels |= {(k, distance): given(label, self.numbers.void) for k, label in made.items()}
        return labels

    def _soft(self, cosine: Tensor, counts: Tensor) -> LabelMap:
        grid = self.size_px // self.patch
        shares = soft_vote(cosine, counts, self.numbers.temperature).view(grid, grid, -1)
        label = upsampled(shares, self.size_px, self.numbers.void == "vote")
        return np.asarray(label.cpu().numpy(), dtype=np.uint8)

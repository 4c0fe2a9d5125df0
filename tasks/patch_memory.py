"""Memories of training patches: every one of train's stored tokens, or a sample of views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.annotations import LabelMap
from bench.disk import whole_file
from bench.memory import as_tensor
from bench.token_table import TokenTable
from tasks.each_image import Kept
from tasks.patch_labels import blocks, rare_first, remembered, taken
from tasks.patch_views import Patches, patch_batches, patches_of
from tasks.segknn_protocols import SegknnProtocol

Rows = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

KEY_ROWS = {"cpu": 16_384, "cuda": 131_072}  # patches that are searched at once


class Memory(Protocol):
    """Patches of training images, whose labels lie beside them."""

    @property
    def labels(self) -> Tensor:
        """(m, w): what `tasks.patch_labels.remembered` keeps."""

    def size(self, images: Rows) -> int:
        """How many patches of these images, rows of train, are remembered."""

    def seen(self, images: Rows) -> Iterator[Tensor]:
        """(c, d) float32 features of these images as they were met, for means and deviations."""

    def chunks(self, images: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """(rows of `labels` (c,), float32 features (c, d)) of what is remembered, on the device."""


@final
@dataclass(frozen=True, eq=False)
class TokenMemory:
    """All patches of the images of a table; nothing is copied, tokens are read where they lie.

    Patch p of image i of the table has row i * g^2 + p of the labels. `batch_size` images are
    forwarded at once where tokens are not stored.
    """

    table: TokenTable
    labels: Tensor
    kept: Bools  # (n, g * g)
    device: str
    batch_size: int

    @classmethod
    def of(
        cls,
        table: TokenTable,
        maps: Iterable[LabelMap],
        patch: int,
        classes: int,
        numbers: SegknnProtocol,
        device: str,
        batch_size: int,
    ) -> TokenMemory:
        """The memory of a table whose images have these labels (s, s), in its order."""
        kept = np.empty((len(table), patches_of(table)), dtype=np.bool_)
        rows: npt.NDArray[np.generic] | None = None
        for place, labels in enumerate(maps):
            pixels = blocks(taken(labels, numbers.void), patch)
            label, kept[place] = remembered(pixels, classes, numbers.vote, numbers.void)
            if rows is None:
                rows = np.empty((len(table), *label.shape), dtype=label.dtype)
            rows[place] = label
        assert rows is not None
        flat = as_tensor(rows.reshape(-1, rows.shape[2]), device)
        return cls(table, flat, kept, device, batch_size)

    def size(self, images: Rows) -> int:
        """How many patches of these images are remembered."""
        return int(self.kept[self._places(images)].sum())

    def seen(self, images: Rows) -> Iterator[Tensor]:
        """Features of all patches, also of those that are not remembered."""
        for _, values in patch_batches(self.table, self._known(images), self._batch()):
            yield values.flatten(0, 1)

    def chunks(self, images: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """What is remembered, images in their order."""
        patches = self.kept.shape[1]
        for rows, values in patch_batches(self.table, self._known(images), self._batch()):
            places = np.searchsorted(self.table.split_rows, rows)
            index = places[:, None] * patches + np.arange(patches)  # (b, g * g)
            kept = torch.from_numpy(self.kept[places]).to(values.device)
            yield torch.from_numpy(index).to(values.device)[kept], values[kept]

    def _known(self, images: Rows) -> Rows:
        return images[np.isin(images, self.table.split_rows)]

    def _places(self, images: Rows) -> Rows:
        return np.searchsorted(self.table.split_rows, self._known(images))

    def _batch(self) -> int:
        rows = KEY_ROWS.get(torch.device(self.device).type, KEY_ROWS["cpu"])
        images = max(1, rows // self.kept.shape[1])
        return images if self.table.stored else min(images, self.batch_size)


@final
@dataclass(frozen=True, eq=False)
class SampledMemory:
    """Some patches of each view of each image, kept together: in a file, or in memory."""

    features: Tensor  # (m, d) float16
    labels: Tensor
    images: Rows  # (m,) rows of train
    device: str

    @classmethod
    def of(
        cls,
        views: Iterable[tuple[int, int, Patches, LabelMap]],
        most: int,
        patch: int,
        classes: int,
        numbers: SegknnProtocol,
        seed: int,
        device: str,
        folder: Path | None,
    ) -> SampledMemory:
        """The memory of (visit, image, patches, labels); a whole one in the folder is opened.

        `most` patches of a view are taken, those of rare classes more likely.
        """
        name = "features.f16"
        kept = Kept(folder)
        if "labels" not in kept.pieces:
            chosen = _Chosen(classes, patch, most, numbers, seed)
            if folder is None:
                features = _emptied(list(chosen.of(views)))
            else:
                with whole_file(folder / name) as file:
                    for values in chosen.of(views):
                        file.write(np.ascontiguousarray(values).data)
            kept.keep("labels", chosen.arrays())
        piece = kept.pieces["labels"]
        images = piece["images"]
        if folder is not None:
            shape = (len(images), int(piece["width"]))
            if len(images):
                features = np.memmap(folder / name, np.float16, "r", shape=shape)
            else:
                features = np.empty(shape, np.float16)  # what has no bytes cannot be mapped
        labels = as_tensor(piece["labels"], device)
        return cls(as_tensor(features, device), labels, images, device)

    def size(self, images: Rows) -> int:
        """How many patches of these images are remembered."""
        return int(np.isin(self.images, images).sum())

    def seen(self, images: Rows) -> Iterator[Tensor]:
        """Features of what is remembered."""
        return (values for _, values in self.chunks(images))

    def chunks(self, images: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """What is remembered, in the order in which it was met."""
        rows = KEY_ROWS.get(torch.device(self.device).type, KEY_ROWS["cpu"])
        for part in torch.from_numpy(np.flatnonzero(np.isin(self.images, images))).split(rows):
            values = self.features[part.to(self.features.device)].to(self.device)
            yield part.to(self.device), values.float()


class _Chosen:
    """Draws the patches of views one after the other, and keeps their labels."""

    def __init__(
        self, classes: int, patch: int, most: int, numbers: SegknnProtocol, seed: int
    ) -> None:
        self.classes, self.patch, self.most = classes, patch, most
        self.numbers, self.seed, self.width = numbers, seed, 0
        self.labels: list[npt.NDArray[np.int16]] = []
        self.images: list[Rows] = []

    def of(self, views: Iterable[tuple[int, int, Patches, LabelMap]]) -> Iterator[Patches]:
        """(c, d) features of what is taken of each view."""
        void = self.numbers.void
        for visit, image, patches, labels in views:
            pixels = blocks(taken(labels, void), self.patch)
            label, take = remembered(pixels, self.classes, self.numbers.vote, void)
            rng = np.random.default_rng((self.seed, visit, image, 1))  # the view's own has no 1
            drawn = rare_first(pixels, self.classes, void, self.most, rng)
            drawn = drawn[take[drawn]]
            self.labels.append(label[drawn])
            self.images.append(np.full(len(drawn), image))
            self.width = patches.shape[1]
            yield patches[drawn]

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What lies beside the features."""
        return {
            "labels": _emptied(self.labels),
            "images": _emptied(self.images),
            "width": np.array(self.width),
        }


def _emptied(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """All rows of the parts in one array; each part goes as it is copied, so none is held twice."""
    joined = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
    end = len(joined)
    while parts:
        part = parts.pop()
        joined[end - len(part) : end] = part
        end -= len(part)
    return joined

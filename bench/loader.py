"""Batches of images of a split, in order, each image exactly once, as uint8 tensors.

Worker processes decode when there are some, else a thread that stays a few batches ahead, so that
the device does not wait for the decoder. Small splits are kept decoded for the next model.
"""

import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.errors import DataError
from bench.split import Split
from bench.transforms import Transform

Rows = npt.NDArray[np.int64]
_AHEAD = 3  # batches decoded before they are asked for, by the thread or by each worker


class ImageBatch(NamedTuple):
    """Rows of the split and their pixels; `bad` maps unreadable rows to the reason."""

    rows: Tensor  # (b,) int64, in order
    pixels: Tensor  # (b, 3, h, w) uint8
    bad: dict[int, str]


class _Images(Dataset[ImageBatch]):
    """One batch per fetch: pixels are stacked where they are decoded, in the worker."""

    def __init__(self, split: Split, transform: Transform) -> None:
        self.split, self.transform = split, transform

    def __getitems__(self, indices: list[int]) -> ImageBatch:
        rows: list[int] = []
        pixels: list[Tensor] = []
        bad: dict[int, str] = {}
        for index in indices:
            try:
                pixels.append(self.transform(self.split.image(index)))
                rows.append(index)
            except DataError as error:
                bad[index] = str(error)
        stacked = torch.stack(pixels) if pixels else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
        return ImageBatch(torch.tensor(rows, dtype=torch.int64), stacked, bad)

    def __getitem__(self, index: int) -> ImageBatch:
        return self.__getitems__([index])


def image_batches(
    split: Split,
    transform: Transform,
    rows: Rows,
    batch_size: int,
    workers: int = 0,
    pin_memory: bool = False,
) -> Generator[ImageBatch, None, None]:
    """The given rows in batches, in their order, whatever the number of workers.

    An image that cannot be read is left out of the pixels and named in `bad`: the caller decides
    how many it tolerates. `pin_memory` is for copies to a CUDA device.
    """
    plan = [rows[i : i + batch_size].tolist() for i in range(0, len(rows), batch_size)]
    images = _Images(split, transform)
    if workers == 0:
        yield from _threaded(images, plan, pin_memory)
        return
    loader = DataLoader(
        images,
        batch_sampler=plan,
        num_workers=min(workers, len(plan)),
        collate_fn=_as_is,
        pin_memory=pin_memory,
        prefetch_factor=_AHEAD,
        generator=torch.Generator(),  # else every loader draws from the global generator
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads; these workers decode and do nothing else.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        batches = iter(loader)
    yield from batches


def by_size(
    images: Iterable[ImageBatch], batch_size: int, waiting: int = 8
) -> Generator[ImageBatch, None, None]:
    """Single images as batches of one size each, out of their order."""
    for bucket in buckets(images, batch_size, _size_of, waiting):
        yield _stacked(bucket) if len(bucket) > 1 else bucket[0]


def buckets(
    images: Iterable[ImageBatch],
    batch_size: int,
    size_of: Callable[[ImageBatch], tuple[int, ...]],
    waiting: int = 8,
) -> Generator[list[ImageBatch], None, None]:
    """Single images in lists of one size each, out of their order.

    Photographs come in few sizes, so the lists are nearly full; at most `waiting` batches of
    images wait for others of their size. An image that cannot be read comes alone, at once.
    """
    kept: dict[tuple[int, ...], list[ImageBatch]] = {}
    for image in images:
        if not len(image.rows):
            yield [image]
            continue
        bucket = kept.setdefault(size_of(image), [])
        bucket.append(image)
        if sum(map(len, kept.values())) >= waiting * batch_size:
            bucket = max(kept.values(), key=len)
        elif len(bucket) < batch_size:
            continue
        yield list(bucket)
        bucket.clear()
    yield from (bucket for bucket in kept.values() if bucket)


def _size_of(image: ImageBatch) -> tuple[int, ...]:
    return tuple(image.pixels.shape[2:])


def _stacked(bucket: Sequence[ImageBatch]) -> ImageBatch:
    rows, pixels = (torch.cat([getattr(b, name) for b in bucket]) for name in ("rows", "pixels"))
    return ImageBatch(rows, pixels, {})


def _as_is(batch: Any) -> Any:  # __getitems__ has stacked it already
    return batch


def _threaded(
    images: _Images, plan: Sequence[list[int]], pin_memory: bool
) -> Generator[ImageBatch, None, None]:
    def load(indices: list[int]) -> ImageBatch:
        batch = images.__getitems__(indices)
        return batch._replace(pixels=batch.pixels.pin_memory()) if pin_memory else batch

    pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
    waiting = deque(pool.submit(load, indices) for indices in plan[:_AHEAD])
    try:
        for position in range(len(plan)):
            batch = waiting.popleft().result()
            if position + _AHEAD < len(plan):
                waiting.append(pool.submit(load, plan[position + _AHEAD]))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class PixelCache:
    """Decoded splits kept in memory, least recently used first out, within `budget_bytes`.

    Many models are evaluated on the same few images, and decoding costs more than a small model.
    """

    budget_bytes: int = 512 * 2**20
    _kept: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)

    def batches(
        self,
        key: str,
        split: Split,
        transform: Transform,
        rows: Rows,
        batch_size: int,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> Generator[ImageBatch, None, None]:
        """`image_batches`, from memory when the whole split of this `key` was read before.

        Images of unequal size come by size instead (`by_size`) and are not kept.
        """
        if transform.ragged:
            single = image_batches(split, transform, rows, 1, workers, pin_memory)
            with closing(single):
                yield from by_size(single, batch_size)
            return
        if key in self._kept:
            self._kept.move_to_end(key)
            pixels, chosen = self._kept[key], torch.from_numpy(rows)
            for start in range(0, len(chosen), batch_size):
                part = chosen[start : start + batch_size]
                # Neighbouring rows are a view: no copy, and pinned memory stays pinned.
                run = len(part) == int(part[-1] - part[0]) + 1
                images = pixels[int(part[0]) : int(part[-1]) + 1] if run else pixels[part]
                yield ImageBatch(part, images, {})
            return
        kept: Tensor | None = None
        filled, whole = 0, len(rows) == len(split)
        for batch in image_batches(split, transform, rows, batch_size, workers, pin_memory):
            if whole and kept is None and len(batch.pixels):
                shape = (len(split), *batch.pixels.shape[1:])
                whole = int(np.prod(shape)) <= self.budget_bytes
                kept = (
                    torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory) if whole else None
                )
            if kept is not None and not batch.bad:
                kept[batch.rows] = batch.pixels
                filled += len(batch.rows)
            yield batch
        if kept is not None and filled == len(split):
            self._keep(key, kept)

    def _keep(self, key: str, pixels: Tensor) -> None:
        self._kept[key] = pixels
        while sum(tensor.nbytes for tensor in self._kept.values()) > self.budget_bytes:
            self._kept.popitem(last=False)

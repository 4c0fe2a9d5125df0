"""Reader of CIFAR-10's pickled batches, through an unpickler that can run no code."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError
from bench.safe_pickle import load_plain_pickle

BATCHES = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "val": ("test_batch",),  # CIFAR has no split of its own between train and test
}


class Batch(NamedTuple):
    """One batch file."""

    pixels: npt.NDArray[np.uint8]  # (n, height, width, 3)
    labels: npt.NDArray[np.int64]  # (n,)


def cifar10_table(dataset: Dataset, split: str) -> Table:
    """A split of the batches; ids are `<batch>/<row>`."""
    folder = _batches_folder(dataset)
    batches = {name: read_batch(folder / name) for name in BATCHES[split]}
    ids = [
        f"{name}/{row:05d}" for name, batch in batches.items() for row in range(len(batch.labels))
    ]
    start = "" if folder == dataset.root else f"{folder.name}/"
    meta = load_plain_pickle(folder / "batches.meta")
    return Table(
        ids=tuple(ids),
        keys=tuple(start + id_ for id_ in ids),
        targets=np.concatenate([batch.labels for batch in batches.values()]),
        classes=tuple(map(str, meta["label_names"])),
        # Rows all have one size, so a hash of the pixels stands in for it in the manifest.
        sizes=np.array(
            [_digest(row) for batch in batches.values() for row in batch.pixels], np.int64
        ),
    )


def _digest(pixels: npt.NDArray[np.uint8]) -> int:
    return int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=7).digest())


def cifar10_image(dataset: Dataset, key: str) -> Image.Image:
    """The image of one key of `cifar10_table`."""
    batch, _, row = key.rpartition("/")
    return Image.fromarray(read_batch(dataset.root / batch).pixels[int(row)])


@lru_cache(maxsize=24)  # CIFAR-10 is 6 files, 184 MB; forked loader processes share the pages
def read_batch(path: Path) -> Batch:
    """One batch file, kept in memory once read."""
    content = load_plain_pickle(path)
    try:
        rows = np.asarray(content["data"])  # (n, 3 * side * side), channel after channel
        labels = np.asarray(content["labels"], dtype=np.int64)
        side = math.isqrt(rows.shape[1] // 3)
        pixels = rows.reshape(len(labels), 3, side, side).transpose(0, 2, 3, 1)
        if rows.dtype != np.uint8 or not len(labels):
            raise ValueError(f"{len(labels)} rows of {rows.dtype}")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path} is no CIFAR-10 batch ({type(error).__name__}: {error}): expected uint8 'data' "
            "(n, 3072) and 'labels' (n); unpack cifar-10-python.tar.gz again"
        ) from error
    return Batch(np.ascontiguousarray(pixels), labels)


def _batches_folder(dataset: Dataset) -> Path:
    places = (dataset.root, dataset.root / "cifar-10-batches-py")
    folder = next((place for place in places if (place / "batches.meta").is_file()), None)
    if folder is None:
        raise layout_error(type(dataset), dataset.root, "no file batches.meta")
    missing = [
        name for names in BATCHES.values() for name in names if not (folder / name).is_file()
    ]
    if missing:
        raise layout_error(type(dataset), folder, f"no file {', '.join(missing)}")
    return folder

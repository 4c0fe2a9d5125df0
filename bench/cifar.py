"""Reader of the pickled batches of CIFAR-10 and CIFAR-100, by an unpickler that runs no code."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Edition:
    """How one of the two CIFARs is laid out.

    Attributes:
        folder: name of the unpacked archive.
        meta: its file of class names, `names` the key of these.
        batches: split -> its batch files, `labels` the key of their labels.
        archive: what is to be unpacked.
    """

    folder: str
    meta: str
    names: str
    labels: str
    batches: Mapping[str, tuple[str, ...]]
    archive: str


CIFAR10 = Edition(
    "cifar-10-batches-py",
    "batches.meta",
    "label_names",
    "labels",
    BATCHES,
    "cifar-10-python.tar.gz",
)
CIFAR100 = {
    label: Edition(
        "cifar-100-python",
        "meta",
        f"{label}_label_names",
        f"{label}_labels",
        {"train": ("train",), "val": ("test",)},
        "cifar-100-python.tar.gz",
    )
    for label in ("fine", "coarse")
}


class Batch(NamedTuple):
    """One batch file."""

    pixels: npt.NDArray[np.uint8]  # (n, height, width, 3)
    labels: npt.NDArray[np.int64]  # (n,)


def cifar_table(dataset: Dataset, split: str, edition: Edition) -> Table:
    """A split of the batches; ids are `<batch>/<row>`."""
    folder = _batches_folder(dataset, edition)
    batches = {name: read_batch(folder / name, edition.labels) for name in edition.batches[split]}
    ids = [
        f"{name}/{row:05d}" for name, batch in batches.items() for row in range(len(batch.labels))
    ]
    start = "" if folder == dataset.root else f"{folder.name}/"
    classes = _class_names(folder / edition.meta, edition)
    return Table(
        ids=tuple(ids),
        keys=tuple(start + id_ for id_ in ids),
        targets=np.concatenate([batch.labels for batch in batches.values()]),
        classes=classes,
        # Rows all have one size, so a hash of the pixels stands in for it in the manifest.
        sizes=np.array(
            [_digest(row) for batch in batches.values() for row in batch.pixels], np.int64
        ),
    )


def _digest(pixels: npt.NDArray[np.uint8]) -> int:
    return int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=7).digest())


def _class_names(path: Path, edition: Edition) -> tuple[str, ...]:
    content = load_plain_pickle(path)
    try:
        return tuple(map(str, content[edition.names]))
    except (TypeError, LookupError) as error:
        raise DataError(
            f"{path} holds no {edition.names!r}: unpack {edition.archive} again"
        ) from error


def cifar_image(dataset: Dataset, key: str, edition: Edition) -> Image.Image:
    """The image of one key of `cifar_table`."""
    batch, _, row = key.rpartition("/")
    return Image.fromarray(read_batch(dataset.root / batch, edition.labels).pixels[int(row)])


@lru_cache(maxsize=24)  # CIFAR-10 is 6 files, 184 MB; forked loader processes share the pages
def read_batch(path: Path, labels_key: str = "labels") -> Batch:
    """One batch file, kept in memory once read."""
    content = load_plain_pickle(path)
    try:
        rows = np.asarray(content["data"])  # (n, 3 * side * side), channel after channel
        labels = np.asarray(content[labels_key], dtype=np.int64)
        side = math.isqrt(rows.shape[1] // 3)
        pixels = rows.reshape(len(labels), 3, side, side).transpose(0, 2, 3, 1)
        if rows.dtype != np.uint8 or not len(labels):
            raise ValueError(f"{len(labels)} rows of {rows.dtype}")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path} is no CIFAR batch ({type(error).__name__}: {error}): expected uint8 'data' "
            f"(n, 3072) and {labels_key!r} (n); unpack the official archive again"
        ) from error
    return Batch(np.ascontiguousarray(pixels), labels)


def _batches_folder(dataset: Dataset, edition: Edition) -> Path:
    places = (dataset.root, dataset.root / edition.folder)
    folder = next((place for place in places if (place / edition.meta).is_file()), None)
    if folder is None:
        raise layout_error(type(dataset), dataset.root, f"no file {edition.meta}")
    missing = [
        name
        for names in edition.batches.values()
        for name in names
        if not (folder / name).is_file()
    ]
    if missing:
        raise layout_error(type(dataset), folder, f"no file {', '.join(missing)}")
    return folder

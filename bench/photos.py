"""Photographs for figures: files, folders and data sets, told apart from models."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import registry
from bench.errors import DataError, SpecError, nearest
from bench.spec import DatasetPart, parse_dataset

if TYPE_CHECKING:  # torch stays out until a figure is drawn: `sslbench ls` reads this module
    from PIL import Image
    from torch import Tensor

    from bench.split import Split
    from bench.transforms import Transform

_OF_ONE_SPLIT = {"list", "n", "seed", "split"}  # modifiers that a named split has to itself


@dataclass(frozen=True)
class Photo:
    """An image by name, not yet decoded.

    Attributes:
        label: name of its class; empty where there is none.
        train: opens the training images of the data set that it was drawn from.
        sample: the split and the place in it, the way to annotations; None for a file.
    """

    name: str
    open: Callable[[], Image.Image]
    label: str = ""
    train: Callable[[], Split] | None = None
    sample: tuple[Split, int] | None = None


@dataclass(frozen=True)
class Photos:
    """The images of a figure, single files first.

    Attributes:
        items: the images.
        skip_bad: unreadable ones that are left out instead of stopping.
        data: data root of data sets that a figure opens itself.
    """

    items: Sequence[Photo]
    skip_bad: int = 0
    data: Path | None = None

    def pixels(self, transform: Transform) -> tuple[list[str], Tensor]:
        """Names and uint8 pixels (n, 3, s, s) of the readable images, as `read`."""
        photos, found = self.read(transform)
        return [photo.name for photo in photos], found

    def read(self, transform: Transform) -> tuple[list[Photo], Tensor]:
        """The readable images and their uint8 pixels (n, 3, s, s)."""
        import torch

        photos, found = [], []
        for photo, image in self.images():
            photos.append(photo)
            found.append(transform(image))
        return photos, torch.stack(found)

    def images(self) -> Iterator[tuple[Photo, Image.Image]]:
        """The readable images one by one, decoded.

        DataError: more than `skip_bad` are unreadable, or all.
        """
        bad = 0
        for photo in self.items:
            try:
                image = photo.open()
            except DataError:
                bad += 1
                if bad > self.skip_bad or bad == len(self.items):
                    raise
            else:
                yield photo, image

    def train(self, text: str = "") -> Split | None:
        """The training images of the data set `text`; by default of the first among the images.

        Those with a label, where any has one. None where no data set is named.
        """
        from bench.dataset import open_split

        opens = [photo.train for photo in self.items if photo.train]
        if not text and not opens:
            return None
        split = open_split(text, "train", self.data) if text else opens[0]()
        return split.labelled() if (split.targets >= 0).any() else split


def sort_out(
    things: Sequence[str], most: int, seed: int = 0, data: Path | None = None
) -> tuple[list[str], list[Photo]]:
    """The models and the images among `things`, told apart one by one.

    The name of a data set, with or without modifiers, gives its held-out images, or those of the
    split that a modifier names; the name of an image file that image; a folder that is no model the
    images below it. Everything else is a model.

    Args:
        things: what the user named.
        most: images drawn of each folder or data set, in random order.
        seed: of these draws.
        data: data root.
    """
    models: list[str] = []
    files: list[Photo] = []
    drawn: list[Photo] = []
    for text in things:
        if text.partition("+")[0].partition("[")[0] in registry.names("dataset"):
            drawn += _some(_of_dataset(text, data), most, seed)
        elif _is_image(text):
            files.append(_of_file(Path(text)))
        elif Path(text).is_dir() and not _is_model(text):
            drawn += _some(_of_folder(Path(text)), most, seed)
        else:
            _check_spelling(text)
            models.append(text)
    return models, files + drawn


def _some(photos: Sequence[Photo], most: int, seed: int) -> list[Photo]:
    order = np.random.default_rng(seed).permutation(len(photos))  # data sets are sorted by class
    return [photos[index] for index in order[:most]]


def _is_image(text: str) -> bool:
    from bench.layouts import EXTENSIONS

    return Path(text).suffix.lower() in EXTENSIONS


def _of_file(path: Path) -> Photo:
    from bench.images import decode

    return Photo(path.name, partial(decode, path))


def _of_folder(folder: Path) -> list[Photo]:
    from bench.images import decode
    from bench.layouts import list_tree

    names = [name for name, _ in list_tree(folder)]
    if not names:
        raise DataError(f"{folder} holds neither a model nor images: correct the path")
    return [Photo(name, partial(decode, folder / name)) for name in names]


def _of_dataset(text: str, data: Path | None) -> list[Photo]:
    from bench.class_words import class_words
    from bench.dataset import open_split

    parts = parse_dataset(text)
    named = any(key == "split" for part in parts for key, _ in part.modifiers)
    split = open_split(parts, "train" if named else "val", data)
    if named:
        parts = tuple(dict.fromkeys(map(_whole, parts)))
    train, words = partial(open_split, parts, "train", data), class_words(split)
    labels = [words[target] if target >= 0 else "" for target in split.targets.tolist()]
    return [
        Photo(id_, partial(split.image, index), label, train, (split, index))
        for index, (id_, label) in enumerate(zip(split.ids, labels, strict=True))
    ]


def _whole(part: DatasetPart) -> DatasetPart:
    """The part without what chooses a split of it and images of that split."""
    kept = tuple(pair for pair in part.modifiers if pair[0] not in _OF_ONE_SPLIT)
    return DatasetPart(part.name, kept)


def _is_model(text: str) -> bool:
    families = (registry.load("family", name)() for name in registry.names("family"))
    return any(family.claims(text) for family in families)


def _check_spelling(text: str) -> None:
    """Refuse a word that is no path and almost the name of a data set."""
    datasets, word = registry.names("dataset"), text.partition("[")[0]
    if ":" in word or Path(text).exists() or not difflib.get_close_matches(word, datasets):
        return
    raise SpecError(f"there is no model and no data set {word!r}; {nearest(word, datasets)}")

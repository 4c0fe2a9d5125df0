"""Split files: which image is in which split, for datasets whose release does not say it.

`split_file=FILE` names a text file with one image and its split a line,

    airplane/airplane_001.jpg train
    airplane/airplane_002.jpg test

or a folder with one list for each split, whose names end in `train.txt` or `tr.txt`, `test.txt`
or `te.txt` and, optional, `val.txt`, `valid.txt` or `va.txt` (as TFDS and torchgeo have them).
Images are written as paths below the image folder (a leading `/` does not count) or as bare file
names. Here "test" is what a task evaluates on, the role "val" of this project; "valid" (also "val"
and "validation") is the held-out part for choices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.dataset import Dataset, find_path
from bench.errors import DataError, nearest
from bench.subsets import read_lines

#: split of a dataset -> name in split files
NAMES = {"train": "train", "valid": "valid", "val": "test"}
_WORDS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_ENDINGS = {
    "train": ("train.txt", "tr.txt"),
    "valid": ("val.txt", "valid.txt", "va.txt"),
    "test": ("test.txt", "te.txt"),
}


@dataclass(frozen=True)
class SplitFile:
    """The images of each split as they are written in a file, and the file's SHA-256."""

    path: Path
    images: Mapping[str, tuple[str, ...]]  # "train", "valid", "test" -> names
    sha256: str

    @property
    def split_id(self) -> str:
        """What results call this split: `file:<sha256[:12]>`."""
        return f"file:{self.sha256[:12]}"

    def of(self, split: str) -> tuple[str, ...]:
        """The images of one split of a dataset ("val" is the file's "test")."""
        found = self.images[NAMES[split]]
        if not found:
            raise DataError(
                f"split file {self.path} has no {NAMES[split]} images, which are the split "
                f"{split!r}: write lines '<image> {NAMES[split]}'"
            )
        return found


def given_split_file(dataset: Dataset) -> SplitFile | None:
    """The file of the modifier `split_file`, None without one.

    Relative paths are looked for in the working folder, the dataset's folder and the one above.
    """
    if "split_file" not in dataset.options:
        return None
    places = (Path(), dataset.root, dataset.root.parent)
    return read_split_file(find_path(dataset.options["split_file"], places, "split file"))


def read_split_file(path: Path) -> SplitFile:
    """A split file or a folder of lists; `DataError` where an image is in it twice."""
    lists = _lists_of(path) if path.is_dir() else {"": path}
    images: dict[str, list[str]] = {name: [] for name in _ENDINGS}
    for split, file in lists.items():
        for line in read_lines(file):
            name, word = (line, split) if split else _cut(line, file)
            images[word].append(name.lstrip("/"))
    seen: set[str] = set()
    for name in (name for names in images.values() for name in names):
        if name in seen:
            raise DataError(f"split file {path} names {name} twice: an image has one split")
        seen.add(name)
    content = b"".join(lists[split].read_bytes() for split in sorted(lists))
    return SplitFile(
        path,
        {split: tuple(names) for split, names in images.items()},
        hashlib.sha256(content).hexdigest(),
    )


def _lists_of(folder: Path) -> dict[str, Path]:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    lists: dict[str, Path] = {}
    for split, endings in _ENDINGS.items():
        found = [name for name in names if name.endswith(endings)]
        if len(found) > 1 or (not found and split != "valid"):
            raise DataError(
                f"split_file={folder}: expected one list of {split} images, *{endings[0]} or "
                f"*{endings[-1]}, found {', '.join(found) or 'none'}"
            )
        if found:
            lists[split] = folder / found[0]
    return lists


def _cut(line: str, path: Path) -> tuple[str, str]:
    name, _, word = line.replace(",", " ").replace("\t", " ").rpartition(" ")
    if not name.strip() or word not in _WORDS:
        raise DataError(
            f"split file {path}: {line!r} does not end in a split: write '<image> train' "
            f"({nearest(word, _WORDS)})"
        )
    return name.strip(), _WORDS[word]

"""Datasets: what each official layout holds, and how a dataset text becomes a `Split`.

A `Dataset` (one file each in `bench/data/`) knows one layout; `open_split` turns a text such as
`imagenet1k[n=1000,seed=0]+coco` into a `Split`, which is all that tasks and training see.
"""

from __future__ import annotations

import itertools
import os
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from PIL import Image

from bench import registry, subsets
from bench.annotations import Annotations
from bench.errors import DataError, SpecError, nearest
from bench.spec import DatasetPart, parse_dataset
from bench.split import Split, Table

__all__ = [
    "Dataset",
    "Split",
    "Table",
    "check_part",
    "data_root",
    "distinct",
    "find_path",
    "layout_error",
    "open_split",
]

DATA_VARIABLE = "SSLBENCH_DATA"

#: What every dataset takes in brackets; see `open_split`.
MODIFIERS = ("classes", "list", "n", "seed", "split", "val_n")


class Dataset(ABC):
    """One dataset in its official layout.

    A subclass in `bench/data/NAME.py` states the class variables and implements `scan` and
    `image`; readers that several datasets share are functions in `bench/layouts.py`. Instances
    hold two plain fields, so that they travel to worker processes.
    """

    title: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]  # looked for under the data root, best first; () for none
    tree: ClassVar[str]  # the expected layout, shown in errors
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    counts: ClassVar[dict[str, int]] = {}  # images of each whole split, where that is one number
    modifiers: ClassVar[tuple[str, ...]] = ()  # own ones; "path" replaces the search by `locate`
    annotations: ClassVar[Annotations | None] = None  # of pixels and objects, where there are any

    def __init__(self, root: Path, options: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.options = dict(options or {})

    @classmethod
    def locate(cls, data_root: Path) -> Path:
        """The dataset's folder under the data root, or the data root itself if it bears the name.

        Only names count: that a folder holds `train` and `val` does not say which dataset it is.
        """
        for name in cls.folders:
            if (data_root / name).is_dir():
                return data_root / name
        if not {data_root.name, data_root.resolve().name}.isdisjoint(cls.folders):
            return data_root
        names = " or ".join(cls.folders)
        raise layout_error(cls, data_root, f"no folder {names} in the data root")

    @property
    def split_id(self) -> str:
        """The rule that says which sample is in which split: "official" where the release does.

        Datasets without one official split name theirs ("hash60-20-20", "partition1",
        "file:<sha256[:12]>"), so that numbers of unlike splits are never taken for the same.
        """
        return "official"

    @abstractmethod
    def scan(self, split: str) -> Table:
        """The samples of the split; raises `layout_error` where the layout is another one."""

    @abstractmethod
    def image(self, split: str, key: str) -> Image.Image:
        """The image of one key of the split's table, in RGB."""


def layout_error(cls: type[Dataset], folder: Path, why: str) -> DataError:
    """The error for a missing or strange layout: why, what was found, what was expected."""
    return DataError(
        f"{cls.title}: {why}\nfound in {folder}: {_listing(folder)}\n"
        f"expected:\n{textwrap.indent(textwrap.dedent(cls.tree).strip(), '  ')}"
    )


def _listing(folder: Path, limit: int = 8) -> str:
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name + "/" * e.is_dir() for e in itertools.islice(entries, 10_000))
    except OSError as error:
        return f"({error.strerror})"
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "(empty)"


def data_root(explicit: Path | None = None) -> Path:
    """The folder that holds the datasets: the given one, or that of `SSLBENCH_DATA`."""
    text = str(explicit) if explicit is not None else os.environ.get(DATA_VARIABLE, "")
    if not text:
        raise DataError(
            f"no data root: pass --data DIR or set {DATA_VARIABLE}=DIR (the folder that holds the "
            "datasets); `sslbench mini DIR` writes a small one"
        )
    root = Path(text).expanduser()
    if not root.is_dir():
        origin = "--data" if explicit is not None else DATA_VARIABLE
        raise DataError(f"data root {root} ({origin}) is not a folder: give an existing one")
    return root


def open_split(
    parts: tuple[DatasetPart, ...] | str, split: str, data_root: Path | None = None
) -> Split:
    """The split of a dataset or of a union of datasets, with the parts' modifiers applied.

    Modifiers of every dataset, applied in this order:
      split    which of its splits is opened as "train" (`coco[split=unlabeled]`)
      list     file of image names to keep of train (few-label lists)
      classes  file of class names to keep, in every split (ImageNet-100)
      n        how many images to draw of train     val_n  ... of any other split
      seed     of these draws, default 0
    Relative files are looked for in the working folder, the dataset's folder and the data root.

    Opened as anything but train, parts that then are the same (COCO and its unlabelled images)
    count once.
    """
    parsed = parse_dataset(parts) if isinstance(parts, str) else tuple(parts)
    text = "+".join(map(str, parsed))
    if not parsed:
        raise SpecError("no dataset given; write one behind the '@', such as knn@imagenet1k")
    if len(set(parsed)) < len(parsed):
        raise SpecError(f"{text} names the same part twice; keep one")
    return Split.union(
        [_open_part(part, split, data_root) for part in distinct(parsed, split)], text
    )


def distinct(parts: Sequence[DatasetPart], split: str) -> tuple[DatasetPart, ...]:
    """The parts that make up a split: those that differ in train only count once in any other."""
    if split == "train":
        return tuple(parts)
    return tuple({_held_out(part): part for part in reversed(parts)}.values())[::-1]


def _held_out(part: DatasetPart) -> DatasetPart:
    """The part without what only shapes its train split."""
    dropped = {"list", "n", "split"}
    if "val_n" not in dict(part.modifiers):
        dropped.add("seed")
    return DatasetPart(part.name, tuple(pair for pair in part.modifiers if pair[0] not in dropped))


def check_part(part: DatasetPart) -> type[Dataset]:
    """The data set of a part; SpecError when it or one of its modifiers does not exist."""
    cls: type[Dataset] = registry.load("dataset", part.name)
    for key, _ in part.modifiers:
        if key not in (*MODIFIERS, *cls.modifiers):
            raise SpecError(
                f"{part}: no modifier {key!r}; {nearest(key, MODIFIERS + cls.modifiers)}"
            )
    return cls


def _open_part(part: DatasetPart, role: str, explicit: Path | None) -> Split:
    cls, options = check_part(part), dict(part.modifiers)
    actual = options.get("split", "train") if role == "train" else role
    if actual not in cls.splits:
        others = [n for n in registry.names("dataset") if actual in splits_of(n)]
        raise SpecError(
            f"{part}: {cls.title} has no split {actual!r}; {nearest(actual, cls.splits)}. "
            f"Data sets with such a split: {', '.join(others) or 'none'}"
        )
    folder = _folder_of(part, cls, options, explicit)
    dataset = cls(folder, {key: options[key] for key in cls.modifiers if key in options})
    piece = replace(Split.open(dataset, actual, str(part)), split=role)
    try:
        return _selected(piece, options, [Path(), folder, *_given_root(explicit)])
    except DataError as error:
        raise DataError(f"{part}, {role}: {error}") from error


def splits_of(name: str) -> tuple[str, ...]:
    """The splits that a registered data set may have."""
    cls: type[Dataset] = registry.load("dataset", name)
    return cls.splits


def _selected(piece: Split, options: Mapping[str, str], places: list[Path]) -> Split:
    """The part after its `list`, `classes`, `n` or `val_n` modifiers."""
    name, train = piece.name, piece.split == "train"
    if train and "list" in options:
        path = find_path(options["list"], places, "list")
        piece = piece.take(subsets.of_list(piece.ids, piece.classes, path), name)
    if "classes" in options:
        path = find_path(options["classes"], places, "class list")
        chosen, targets, classes = subsets.of_classes(piece.classes, piece.targets, path)
        piece = replace(piece.take(chosen, name), targets=targets, classes=classes)
    counts = {key: _whole(key, options[key]) for key in ("n", "val_n", "seed") if key in options}
    count = counts.get("n" if train else "val_n")
    if count is not None:
        piece = replace(piece.subset(count, counts.get("seed", 0)), name=name)
    return piece


def _folder_of(
    part: DatasetPart, cls: type[Dataset], options: Mapping[str, str], explicit: Path | None
) -> Path:
    if "path" not in cls.modifiers:
        return cls.locate(data_root(explicit)) if cls.folders else Path()
    if "path" not in options:
        raise SpecError(f"{part}: say where the images are, {part.name}[path=DIR]")
    return find_path(options["path"], [Path(), *_given_root(explicit)], "folder")


def _given_root(explicit: Path | None) -> list[Path]:
    """The data root where one is given: datasets with a `path` of their own do without."""
    return [data_root(explicit)] if explicit is not None or os.environ.get(DATA_VARIABLE) else []


def find_path(text: str, places: Sequence[Path], what: str) -> Path:
    """The first of `places/text` that exists; `DataError` tells where it was looked for."""
    tried = [place / Path(text).expanduser() for place in places]
    for path in tried:
        if path.exists():
            return path
    where = ", ".join(dict.fromkeys(str(path.absolute()) for path in tried))
    raise DataError(f"{what} {text} is not there (looked for {where}): correct the path")


def _whole(key: str, text: str) -> int:
    if not text.isdecimal() or (key != "seed" and int(text) == 0):
        raise SpecError(f"{key}={text}: expected a whole number{' > 0' if key != 'seed' else ''}")
    return int(text)

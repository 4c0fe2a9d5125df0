"""Readers of layouts that several datasets share: folders of images, and ImageNet's forms.

Each returns the `Table` of one split. Folders are read once, with one `stat` per image, in
threads, which is what counts for a million files on a network disk. Names that start with a dot
(`.DS_Store`, `._photo.jpg`) are passed over everywhere.
"""

from __future__ import annotations

import csv
import os
import re
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError

EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

Files = list[tuple[str, int]]  # (name, bytes)


# Folders


def list_folder(folder: Path) -> tuple[Files, list[str]]:
    """Images (name, bytes) and sub-folders right in a folder, each sorted by name."""
    images: Files = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                    found = entry.stat()
                    if stat.S_ISREG(found.st_mode):
                        images.append((entry.name, found.st_size))
                        continue
                if entry.is_dir():
                    folders.append(entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from error
    return sorted(images), sorted(folders)


def list_tree(folder: Path) -> Files:
    """All images below a folder as (relative path with '/', bytes), sorted; link loops end."""
    found: Files = []
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        inside, above = waiting.pop()
        try:
            here = (folder / inside).stat()
        except OSError as error:
            raise _unreadable(folder / inside, error) from error
        if (here.st_dev, here.st_ino) in above:
            continue
        images, folders = list_folder(folder / inside)
        found += [(inside + name, size) for name, size in images]
        above |= {(here.st_dev, here.st_ino)}
        waiting += [(f"{inside}{name}/", above) for name in folders]
    return sorted(found)


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot read {error.filename or folder} ({error.strerror}): mend the link or the "
        "permissions, or restore the file"
    )


def list_class_folders(folder: Path, classes: Sequence[str], deep: bool = False) -> Files:
    """All images of the class folders as ("class/name", bytes); `deep` enters their sub-folders."""

    def one(name: str) -> Files:
        return list_tree(folder / name) if deep else list_folder(folder / name)[0]

    with ThreadPoolExecutor(8) as pool:  # the time goes into waiting for the disk
        lists = list(pool.map(one, classes))
    return [
        (f"{name}/{file}", size)
        for name, files in zip(classes, lists, strict=True)
        for file, size in files
    ]


def class_folder_table(
    dataset: Dataset, folder: Path, train: Path | None, deep: bool = False
) -> Table:
    """`folder/<class>/<image>`; ids are `<class>/<image>`.

    Classes are the sorted sub-folders of `train` (where given), so that a validation folder in
    which a class is missing keeps the numbering of training.
    """
    loose, present = list_folder(folder)
    if loose:
        raise layout_error(
            type(dataset),
            folder,
            f"{len(loose)} images lie beside the class folders ({loose[0][0]})",
        )
    classes = list_folder(train)[1] if train is not None else present
    strange = sorted(set(present) - set(classes))
    if strange:
        raise layout_error(
            type(dataset),
            folder,
            f"{len(strange)} class folders are not in {train} ({', '.join(strange[:5])})",
        )
    files = list_class_folders(folder, present, deep)
    empty = sorted(set(present) - {file.partition("/")[0] for file, _ in files})
    if empty:
        raise layout_error(
            type(dataset),
            folder / empty[0],
            f"{len(empty)} of {len(present)} class folders hold no images",
        )
    number = {name: index for index, name in enumerate(classes)}
    targets = [number[file.partition("/")[0]] for file, _ in files]
    return file_table(dataset, folder, files, targets, classes)


def file_table(
    dataset: Dataset,
    folder: Path,
    files: Files,
    targets: Sequence[int] | npt.NDArray[np.int64] | None = None,
    classes: Sequence[str] = (),
    ids: Sequence[str] | None = None,
) -> Table:
    """The table of image files below `folder`; keys are paths below the dataset's root."""
    if not files:
        raise layout_error(type(dataset), folder, "no images")
    start = folder.relative_to(dataset.root).as_posix()
    prefix = "" if start == "." else f"{start}/"
    return Table(
        ids=tuple(ids) if ids is not None else tuple(name for name, _ in files),
        keys=tuple(prefix + name for name, _ in files),
        targets=np.full(len(files), -1) if targets is None else np.asarray(targets, np.int64),
        classes=tuple(classes),
        sizes=np.array([size for _, size in files], dtype=np.int64),
    )


def folder_table(dataset: Dataset, split: str, labelled: bool) -> Table:
    """A plain folder, or one with `train/` and `val/` (or `test/`) inside.

    Without such sub-folders all images are "train", and asking for another split is an error:
    handing out the same images twice would be a leak.
    """
    root = dataset.root
    held_out = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
    train = root / "train" if held_out is not None and (root / "train").is_dir() else root
    if split == "train":
        folder = train
    elif train == root or held_out is None:
        raise layout_error(
            type(dataset), root, f"no split {split!r}: no train/ and val/ in the folder"
        )
    else:
        folder = held_out
    if labelled:
        return class_folder_table(dataset, folder, train, deep=True)
    return file_table(dataset, folder, list_tree(folder))


# ImageNet


def imagenet_table(dataset: Dataset, split: str) -> Table:
    """A split in any layout in which ImageNet is handed around.

    `train/<wnid>/` and `val/<wnid>/`, right in the root or in `ILSVRC/Data/CLS-LOC/`; or a flat
    `val/` with Kaggle's `LOC_val_solution.csv` or the devkit's ground truth. Ids are
    `<wnid>/<file>` in all of them, so that the manifest and all results are the same.
    """
    train, folder = (_imagenet_folder(dataset.root, name) for name in ("train", split))
    if folder is None:
        raise layout_error(type(dataset), dataset.root, f"no folder {split}/")
    images, folders = list_folder(folder)
    if folders or not images:
        return class_folder_table(dataset, folder, train)
    truth = _flat_truth(dataset, folder, [name for name, _ in images])
    wnids = [truth.get(name, "") for name, _ in images]
    classes = list_folder(train)[1] if train is not None else sorted(set(truth.values()))
    number = {name: index for index, name in enumerate(classes)}
    strange = [name for (name, _), wnid in zip(images, wnids, strict=True) if wnid not in number]
    if strange:
        raise layout_error(
            type(dataset),
            folder,
            f"{len(strange)} flat images have no class of train ({strange[0]})",
        )
    rows = sorted(zip(wnids, images, strict=True))
    return file_table(
        dataset,
        folder,
        [image for _, image in rows],
        [number[wnid] for wnid, _ in rows],
        classes,
        ids=[f"{wnid}/{name}" for wnid, (name, _) in rows],
    )


def _imagenet_folder(root: Path, split: str) -> Path | None:
    places = (root / split, root / "Data/CLS-LOC" / split, root / "ILSVRC/Data/CLS-LOC" / split)
    return next((place for place in places if place.is_dir()), None)


def _flat_truth(dataset: Dataset, folder: Path, names: Sequence[str]) -> Mapping[str, str]:
    """File name -> wnid of a flat folder, from whichever ground truth lies by."""
    for place in (dataset.root, dataset.root.parent):
        for file, reader in (
            ("LOC_val_solution.csv", _kaggle_truth),
            ("ILSVRC2012_devkit_t12/data/meta.mat", _devkit_truth),
        ):
            if (place / file).is_file():
                try:
                    return reader(place / file, names)
                except (OSError, ValueError, LookupError, TypeError) as error:
                    raise DataError(
                        f"cannot read the ground truth {place / file} "
                        f"({type(error).__name__}: {error}): take it from its official source again"
                    ) from error
    raise layout_error(
        type(dataset),
        folder,
        f"{len(names)} images lie flat, and neither LOC_val_solution.csv nor "
        f"ILSVRC2012_devkit_t12/ in {dataset.root} says their classes",
    )


def _kaggle_truth(path: Path, names: Sequence[str]) -> Mapping[str, str]:
    # rows: "ILSVRC2012_val_00048981,n03995372 85 1 499 272 " (wnid and boxes)
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    return {name: rows[stem] for name in names if (stem := name.partition(".")[0]) in rows}


def _devkit_truth(meta: Path, names: Sequence[str]) -> Mapping[str, str]:
    """Line k of the ground truth is the ILSVRC id of the image whose name ends in number k."""
    from scipy.io import loadmat  # only this layout needs scipy

    synsets = loadmat(str(meta), squeeze_me=True)["synsets"]
    wnid_of = {
        int(number): str(wnid)
        for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
    }
    lines = (meta.parent / "ILSVRC2012_validation_ground_truth.txt").read_text().split()
    truth = {}
    for name in names:
        found = re.search(r"_(\d+)\.", name)
        if found and 1 <= int(found[1]) <= len(lines):
            truth[name] = wnid_of[int(lines[int(found[1]) - 1])]
    return truth

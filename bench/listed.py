"""Readers of layouts in which a list, and not the folder, says which images a split has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError
from bench.layouts import file_table, list_class_folders, list_folder


def require_paths(dataset: Dataset, folder: Path, *names: str) -> None:
    """Raises `layout_error` unless all are there; names that end in "/" are folders."""
    missing = [
        f"folder {name}" if name.endswith("/") else f"file {name}"
        for name in names
        if not ((folder / name).is_dir() if name.endswith("/") else (folder / name).is_file())
    ]
    if missing:
        raise layout_error(type(dataset), folder, f"no {', no '.join(missing)}")


def first_folder(places: Iterable[Path], *names: str) -> Path | None:
    """The first of the places that holds one of the names."""
    return next((place for place in places if any((place / n).exists() for n in names)), None)


def listed_table(
    dataset: Dataset,
    folder: Path,
    rows: Sequence[tuple[str, int]],
    classes: Sequence[str],
    listing: str,
) -> Table:
    """The images that a list names, sorted by name.

    Args:
        dataset: whose they are.
        folder: where they lie.
        rows: path below the folder and target of each image; the paths are the ids.
        classes: names of the targets.
        listing: the list's name, for the error where an image is not in the folder.
    """
    outside = [name for name, _ in rows if {"", ".", ".."} & set(name.split("/"))]
    if outside:
        raise DataError(
            f"{listing} lists {outside[0]!r}: expected a path below {folder}; take the list from "
            "its official source again"
        )
    parents = sorted({name.rpartition("/")[0] for name, _ in rows})
    sizes = dict(list_folder(folder)[0]) if "" in parents else {}
    below = [parent for parent in parents if parent and (folder / parent).is_dir()]
    sizes |= dict(list_class_folders(folder, below))
    missing = sorted(name for name, _ in rows if name not in sizes)
    if missing:
        raise layout_error(
            type(dataset),
            folder,
            f"{len(missing)} of the {len(rows)} images that {listing} lists are not there "
            f"({', '.join(missing[:3])})",
        )
    rows = sorted(rows)
    files = [(name, sizes[name]) for name, _ in rows]
    return file_table(dataset, folder, files, [target for _, target in rows], classes)

"""Reader of layouts with a folder of images and one of masks, paired by the names of the files."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from bench.dataset import Dataset, Table, layout_error
from bench.layouts import Files, file_table, list_folder
from bench.listed import require_paths


def paired_table(
    dataset: Dataset, images: str, masks: str, listed: Sequence[str] = (), listing: str = ""
) -> Table:
    """Unlabelled images, each with its mask; ids are the stems of the files, in their order.

    Args:
        dataset: whose they are.
        images: the folder of images below the root.
        masks: the folder of the masks `<stem>.png`.
        listed: stems of the images that count; all of the folder where empty.
        listing: the list's name, for errors.

    Raises:
        DataError: a folder is missing, or an image or a mask without its partner, named.
    """
    require_paths(dataset, dataset.root, f"{images}/", f"{masks}/")
    folder, annotated = dataset.root / images, dataset.root / masks
    files, mask_bytes = by_stem(dataset, folder), stem_sizes(annotated)
    stems = sorted(listed or files)
    require_stems(dataset, folder, f"images that {listing} lists are not there", stems, files)
    what = f"images of {images}/ have no mask"
    require_stems(dataset, annotated, what, stems, mask_bytes, ".png")
    if not listed:
        what = f"masks of {masks}/ have no image"
        require_stems(dataset, folder, what, sorted(mask_bytes), files, ".png")
    chosen = [files[stem] for stem in stems]
    table = file_table(dataset, folder, chosen, ids=stems)
    extra = np.array([mask_bytes[stem] for stem in stems], dtype=np.int64)  # (n,)
    return Table(table.ids, table.keys, table.targets, table.classes, table.sizes + extra)


def by_stem(dataset: Dataset, folder: Path) -> dict[str, tuple[str, int]]:
    """Stem -> (name, bytes) of the images right in a folder; two of one stem are refused."""
    files: dict[str, tuple[str, int]] = {}
    for name, size in list_folder(folder)[0]:
        stem = name.rpartition(".")[0]
        if stem in files:
            why = f"{files[stem][0]} and {name} are called alike: keep one"
            raise layout_error(type(dataset), folder, why)
        files[stem] = (name, size)
    return files


def stem_sizes(folder: Path, ending: str = ".png") -> dict[str, int]:
    """Stem -> bytes of the masks right in a folder; nothing where there is no such folder."""
    found: Files = list_folder(folder)[0] if folder.is_dir() else []
    return {name.removesuffix(ending): size for name, size in found if name.endswith(ending)}


def require_stems(
    dataset: Dataset,
    folder: Path,
    what: str,
    stems: Sequence[str],
    there: Container[str],
    ending: str = "",
) -> None:
    """Raises `layout_error` with the first of the stems that are not there, if any."""
    missing = [stem + ending for stem in stems if stem not in there]
    if missing:
        why = f"{len(missing)} of {len(stems)} {what} ({', '.join(missing[:3])})"
        raise layout_error(type(dataset), folder, why)

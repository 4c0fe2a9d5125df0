"""ImageNet-9 (Xiao et al., "Noise or Signal", 2020): variants, super-classes, and their map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError
from bench.json_files import reading
from bench.layouts import Files, file_table, list_class_folders, list_folder

IntArray = npt.NDArray[np.int64]

VARIANTS = (
    "original",
    "only_fg",
    "mixed_same",
    "mixed_rand",
    "mixed_next",
    "no_fg",
    "only_bg_b",
    "only_bg_t",
)
CLASSES = (
    "00_dog",
    "01_bird",
    "02_wheeled vehicle",
    "03_reptile",
    "04_carnivore",
    "05_insect",
    "06_musical instrument",
    "07_primate",
    "08_fish",
)
IMAGENET_CLASSES = 1000

#: super-class -> ImageNet-1k classes as index or "first-last"; protocols.md T16
_MEMBERS = (
    "151-170 173-268",
    "7-24 87-100 127-146",
    "407 408 428 436 444 468 511 547 555 561 565 569 573 586 603 609 612 627 656 661 665 670 671 "
    "675 690 705 717 734 751 757 791 802 803 817 820 829 847 864 866 867 870 880",
    "33-68",
    "269-280 286-299 356-362 387-388",
    "300-326",
    "401 402 420 432 486 494 513 541 546 558 566 577 579 593 594 641 642 683 684 687 699 776 822 "
    "875 881 889",
    "365-384",
    "0-6 389-397",
)

# The map


def super_classes() -> IntArray:
    """Super-class of each of ImageNet's 1,000 classes, (1000,); -1 for those that have none."""
    found = np.full(IMAGENET_CLASSES, -1, np.int64)
    for number, members in enumerate(_MEMBERS):
        for span in members.split():
            first, _, last = span.partition("-")
            found[int(first) : int(last or first) + 1] = number
    return found


def class_map(root: Path) -> IntArray:
    """The map of the dataset's own `in_to_in9.json` where it has one, else `super_classes`."""
    path = root / "in_to_in9.json"
    if not path.is_file():
        return super_classes()
    found = np.full(IMAGENET_CLASSES, -1, np.int64)
    with reading(path, "the class map") as content:
        for index, number in content.items():
            if not (0 <= int(index) < IMAGENET_CLASSES and -1 <= number < len(CLASSES)):
                raise ValueError(f"class {index} -> {number}, expected 0..999 -> -1..8")
            found[int(index)] = number
    return found


def super_classes_of(wnids: Sequence[str], class_map: IntArray | None = None) -> IntArray:
    """Super-class of each class of a head that was trained on ImageNet or a subset, (c,).

    Args:
        wnids: names of the head's classes, in its order.
        class_map: of the 1,000 classes; `super_classes()` where it is not given.

    Raises:
        DataError: a name is not one of ImageNet-1k's, or no class has a super-class.
    """
    from timm.data.imagenet_info import ImageNetInfo  # late: brings torch

    known: list[str] = ImageNetInfo().label_names()  # type: ignore[no-untyped-call]
    index = {wnid: number for number, wnid in enumerate(known)}
    strange = [wnid for wnid in wnids if wnid not in index]
    if strange:
        raise DataError(
            f"{len(strange)} of {len(wnids)} classes are not in ImageNet-1k "
            f"({', '.join(strange[:5])}): ImageNet-9 needs a head trained on ImageNet or on a "
            "subset of its classes, named by wnid"
        )
    whole = super_classes() if class_map is None else class_map
    found = whole[[index[wnid] for wnid in wnids]]
    if not (found >= 0).any():
        raise DataError(
            f"none of the {len(wnids)} classes belongs to ImageNet-9's nine: every image would "
            "count as wrong; train the head on classes that do"
        )
    return found


# The images


def imagenet9_table(dataset: Dataset, classes: Sequence[str] = CLASSES) -> Table:
    """The images of all variants; ids are `<variant>/<class>/<file>` with official class names."""
    missing = [name for name in VARIANTS if not (dataset.root / name / "val").is_dir()]
    if missing:
        shown = ", ".join(f"{name}/val/" for name in missing)
        raise layout_error(type(dataset), dataset.root, f"no folder {shown}")
    files: Files = []
    ids: list[str] = []
    targets: list[int] = []
    for variant in sorted(VARIANTS):
        place = f"{variant}/val"
        folders = _class_folders(dataset, dataset.root / place, classes)
        images = list_class_folders(dataset.root / place, folders)
        number = {folder: index for index, folder in enumerate(folders)}
        held = {name.partition("/")[0] for name, _ in images}
        if empty := [name for name in folders if name not in held]:
            raise layout_error(
                type(dataset), dataset.root / place, f"no images in {', '.join(empty)}"
            )
        for name, size in images:
            label, _, file = name.partition("/")
            targets.append(number[label])
            ids.append(f"{variant}/{classes[targets[-1]]}/{file}")
            files.append((f"{place}/{name}", size))
    return file_table(dataset, dataset.root, files, targets, classes, ids)


def _class_folders(dataset: Dataset, folder: Path, classes: Sequence[str]) -> list[str]:
    """The folder of each super-class: number and noun count (`02_vehicle` is one of them)."""
    present = list_folder(folder)[1]
    found: list[str] = []
    for name in classes:
        noun = name.rpartition(" ")[2].rpartition("_")[2]
        fits = [p for p in present if p[:3] == name[:3] and noun in p.casefold()]
        if len(fits) != 1:
            shown = ", ".join(fits) or "no"
            raise layout_error(type(dataset), folder, f"{shown} class folders for {name}/")
        found += fits
    if strange := sorted(set(present) - set(found)):
        raise layout_error(
            type(dataset), folder, f"folders of no super-class: {', '.join(strange[:5])}"
        )
    return found

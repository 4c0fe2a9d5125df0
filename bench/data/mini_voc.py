"""Built-in mini benchmark: objects with masks and boxes, in VOC2012's layout."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from PIL import Image

from bench.annotations import Annotations
from bench.data.mini.names import MATERIAL_NAMES
from bench.dataset import Dataset, Table
from bench.images import decode
from bench.voc import SPLITS, VOC_ANNOTATIONS, voc_table


class MiniVoc(Dataset):
    """Scenes that `sslbench mini DIR` writes; `train` and `val` have masks, `trainval` boxes."""

    title: ClassVar[str] = "mini VOC"
    folders: ClassVar[tuple[str, ...]] = ("mini_voc",)
    splits: ClassVar[tuple[str, ...]] = SPLITS
    annotations: ClassVar[Annotations | None] = replace(
        VOC_ANNOTATIONS, label_set="mini-voc", classes=("background", *MATERIAL_NAMES)
    )
    tree: ClassVar[str] = """
        mini_voc/               written by: sslbench mini DIR
          JPEGImages/*.jpg
          Annotations/*.xml
          {SegmentationClass,SegmentationObject}/*.png
          ImageSets/{Segmentation,Main}/{train,val,trainval}.txt
    """

    def scan(self, split: str) -> Table:
        """The images that the split's list names."""
        return voc_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

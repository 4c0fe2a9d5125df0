"""COCO 2017: 118,287 + 5,000 photographs of everyday scenes, 80 categories; 123,403 unlabelled."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.coco import coco_table
from bench.dataset import Dataset, Table
from bench.images import decode


class Coco(Dataset):
    """COCO 2017; `coco+coco[split=unlabeled]` is the 241k images of COCO+.

    `bench.coco` says what the class of a scene is, and gives boxes, masks and captions.
    """

    title: ClassVar[str] = "COCO 2017"
    folders: ClassVar[tuple[str, ...]] = ("coco", "COCO", "coco2017", "COCO2017", "mscoco")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "unlabeled")
    counts: ClassVar[dict[str, int]] = {"train": 118_287, "val": 5000, "unlabeled": 123_403}
    tree: ClassVar[str] = """
        coco/
          train2017/*.jpg
          val2017/*.jpg
          unlabeled2017/*.jpg   optional, for pre-training
          annotations/{instances,captions}_{train,val}2017.json
    """

    def scan(self, split: str) -> Table:
        """All images of the split; the target is the category of the largest instance."""
        return coco_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

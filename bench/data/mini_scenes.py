"""Built-in mini benchmark: scenes of several objects with boxes and masks, in COCO's layout."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.coco import coco_table
from bench.dataset import Dataset, Table
from bench.images import decode


class MiniScenes(Dataset):
    """Scene-centric images that `sslbench mini DIR` writes."""

    title: ClassVar[str] = "mini scenes"
    folders: ClassVar[tuple[str, ...]] = ("mini_scenes",)
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "unlabeled")
    tree: ClassVar[str] = """
        mini_scenes/            written by: sslbench mini DIR
          train2017/*
          val2017/*
          unlabeled2017/*
          annotations/{instances,captions}_{train,val}2017.json
    """

    def scan(self, split: str) -> Table:
        """All images of the split; the target is the category of the largest instance."""
        return coco_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

"""Built-in mini benchmark: one large object per image, in ImageNet's layout."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.images import decode
from bench.layouts import imagenet_table


class MiniObjects(Dataset):
    """Object-centric images that `sslbench mini DIR` writes."""

    title: ClassVar[str] = "mini objects"
    folders: ClassVar[tuple[str, ...]] = ("mini_objects",)
    tree: ClassVar[str] = """
        mini_objects/           written by: sslbench mini DIR
          train/<class>/*
          val/<class>/*
    """

    def scan(self, split: str) -> Table:
        """All images of the split."""
        return imagenet_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

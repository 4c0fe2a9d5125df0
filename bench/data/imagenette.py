"""Imagenette 2: 10 easy ImageNet classes, 9,469 + 3,925 photographs."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.images import decode
from bench.layouts import imagenet_table


class Imagenette(Dataset):
    """Imagenette in any of its sizes; the largest found is read.

    To read another size, give its folder itself as the data root.
    """

    title: ClassVar[str] = "Imagenette"
    folders: ClassVar[tuple[str, ...]] = (
        "imagenette2",
        "imagenette2-320",
        "imagenette2-224",
        "imagenette2-160",
    )
    counts: ClassVar[dict[str, int]] = {"train": 9469, "val": 3925}
    tree: ClassVar[str] = """
        imagenette2/            or imagenette2-320, imagenette2-224, imagenette2-160
          train/<wnid>/*.JPEG
          val/<wnid>/*.JPEG
    """

    def scan(self, split: str) -> Table:
        """All images of the split."""
        return imagenet_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

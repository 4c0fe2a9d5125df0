"""ImageNet-1k (ILSVRC 2012): 1,281,167 + 50,000 photographs of 1,000 classes."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.images import decode
from bench.layouts import imagenet_table


class ImageNet1k(Dataset):
    """ImageNet-1k by class folders, or with the flat validation folder of Kaggle or the devkit."""

    title: ClassVar[str] = "ImageNet-1k"
    folders: ClassVar[tuple[str, ...]] = (
        "imagenet1k",
        "imagenet-1k",
        "imagenet",
        "ImageNet",
        "ILSVRC2012",
        "ILSVRC",
    )
    counts: ClassVar[dict[str, int]] = {"train": 1_281_167, "val": 50_000}
    tree: ClassVar[str] = """
        imagenet1k/             or imagenet, ILSVRC2012, ILSVRC, ...
          train/<wnid>/*.JPEG
          val/<wnid>/*.JPEG     or val/*.JPEG with LOC_val_solution.csv (Kaggle)
                                or val/*.JPEG with ILSVRC2012_devkit_t12/data/{meta.mat,
                                ILSVRC2012_validation_ground_truth.txt}
        train and val may also lie in ILSVRC/Data/CLS-LOC/
    """

    def scan(self, split: str) -> Table:
        """All images of the split."""
        return imagenet_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

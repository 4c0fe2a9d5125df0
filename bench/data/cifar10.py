"""CIFAR-10: 50,000 + 10,000 images of 10 classes at 32 pixels; the test batch is "val"."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.cifar import CIFAR10, cifar_image, cifar_table
from bench.dataset import Dataset, Table


class Cifar10(Dataset):
    """CIFAR-10 in its Python batches, as torchvision keeps them."""

    title: ClassVar[str] = "CIFAR-10"
    folders: ClassVar[tuple[str, ...]] = (
        "cifar-10-batches-py",
        "cifar10",
        "cifar-10",
        "CIFAR10",
        "CIFAR-10",
    )
    counts: ClassVar[dict[str, int]] = {"train": 50_000, "val": 10_000}
    tree: ClassVar[str] = """
        cifar-10-batches-py/    here, or inside a folder cifar10/
          batches.meta
          data_batch_1 ... data_batch_5
          test_batch
    """

    def scan(self, split: str) -> Table:
        """All images of the split."""
        return cifar_table(self, split, CIFAR10)

    def image(self, split: str, key: str) -> Image.Image:
        """One row of a batch file."""
        return cifar_image(self, key, CIFAR10)

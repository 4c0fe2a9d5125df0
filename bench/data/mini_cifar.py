"""Built-in mini benchmark: single objects in CIFAR-10's pickled batches."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.cifar import CIFAR10, cifar_image, cifar_table
from bench.dataset import Dataset, Table


class MiniCifar(Dataset):
    """Object-centric images, as `sslbench mini DIR` writes them for the CIFAR-10 reader."""

    title: ClassVar[str] = "mini CIFAR"
    folders: ClassVar[tuple[str, ...]] = ("mini_cifar",)
    tree: ClassVar[str] = """
        mini_cifar/             written by: sslbench mini DIR
          cifar-10-batches-py/{batches.meta,data_batch_1,...,data_batch_5,test_batch}
    """

    def scan(self, split: str) -> Table:
        """All images of the split."""
        return cifar_table(self, split, CIFAR10)

    def image(self, split: str, key: str) -> Image.Image:
        """One row of a batch file."""
        return cifar_image(self, key, CIFAR10)

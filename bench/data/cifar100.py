"""CIFAR-100: 50,000 + 10,000 images of 100 classes at 32 pixels; the test file is "val"."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.cifar import CIFAR100, Edition, cifar_image, cifar_table
from bench.dataset import Dataset, Table
from bench.errors import SpecError, nearest


class Cifar100(Dataset):
    """CIFAR-100 in its Python pickles; `cifar100[label=coarse]` has the 20 super-classes."""

    title: ClassVar[str] = "CIFAR-100"
    folders: ClassVar[tuple[str, ...]] = (
        "cifar-100-python",
        "cifar100",
        "cifar-100",
        "CIFAR100",
        "CIFAR-100",
    )
    modifiers: ClassVar[tuple[str, ...]] = ("label",)
    counts: ClassVar[dict[str, int]] = {"train": 50_000, "val": 10_000}
    tree: ClassVar[str] = """
        cifar-100-python/       here, or inside a folder cifar100/
          meta
          train
          test
    """

    def scan(self, split: str) -> Table:
        """All images of the split."""
        return cifar_table(self, split, self._edition())

    def image(self, split: str, key: str) -> Image.Image:
        """One row of a batch file."""
        return cifar_image(self, key, self._edition())

    def _edition(self) -> Edition:
        label = self.options.get("label", "fine")
        if label not in CIFAR100:
            raise SpecError(f"label={label}: {nearest(label, CIFAR100)}")
        return CIFAR100[label]

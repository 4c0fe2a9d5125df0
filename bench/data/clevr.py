"""CLEVR: 70,000 + 15,000 rendered scenes; counts objects, or how far the nearest is (VTAB)."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.clevr import clevr_table
from bench.dataset import Dataset, Table
from bench.images import decode


class Clevr(Dataset):
    """CLEVR with VTAB's labels: `clevr` counts (8 classes), `clevr[label=distance]` has 6 classes.

    The whole train part trains and the official val part evaluates: the scenes of the test part are
    not published.
    """

    title: ClassVar[str] = "CLEVR"
    folders: ClassVar[tuple[str, ...]] = ("CLEVR_v1.0", "clevr", "CLEVR", "clevr_v1.0")
    modifiers: ClassVar[tuple[str, ...]] = ("label",)
    counts: ClassVar[dict[str, int]] = {"train": 70_000, "val": 15_000}
    tree: ClassVar[str] = """
        CLEVR_v1.0/             or clevr, CLEVR
          images/train/CLEVR_train_000000.png ...
          images/val/CLEVR_val_000000.png ...
          scenes/CLEVR_train_scenes.json
          scenes/CLEVR_val_scenes.json
    """

    @property
    def split_id(self) -> str:
        """The official val part stands for the test part, which has no labels."""
        return "train/val"

    def scan(self, split: str) -> Table:
        """The images of the split's scenes."""
        return clevr_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root; the alpha of the official files is dropped."""
        return decode(self.root / key)

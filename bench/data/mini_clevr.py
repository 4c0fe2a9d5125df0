"""Built-in mini benchmark: objects to count on a floor, in CLEVR's layout."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.clevr import clevr_table
from bench.dataset import Dataset, Table
from bench.images import decode


class MiniClevr(Dataset):
    """Scenes that `sslbench mini DIR` writes; `label` is `count` or `distance`, as for `clevr`."""

    title: ClassVar[str] = "mini CLEVR"
    folders: ClassVar[tuple[str, ...]] = ("mini_clevr",)
    modifiers: ClassVar[tuple[str, ...]] = ("label",)
    tree: ClassVar[str] = """
        mini_clevr/             written by: sslbench mini DIR
          images/{train,val}/CLEVR_{train,val}_000000.png ...
          scenes/CLEVR_{train,val}_scenes.json
    """

    def scan(self, split: str) -> Table:
        """The images of the split's scenes."""
        return clevr_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root, without its alpha."""
        return decode(self.root / key)

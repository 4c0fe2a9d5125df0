"""Built-in mini benchmark: retrieval of single things, in Revisited Oxford's layout."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.revisited import SPLITS, revisited_image, revisited_table


class MiniOxford(Dataset):
    """Photographed digits to find again, as `sslbench mini DIR` writes them; only evaluation."""

    title: ClassVar[str] = "mini Oxford"
    folders: ClassVar[tuple[str, ...]] = ("mini_oxford",)
    splits: ClassVar[tuple[str, ...]] = SPLITS
    tree: ClassVar[str] = """
        mini_oxford/            written by: sslbench mini DIR
          jpg/*.jpg
          gnd_mini_oxford.pkl
    """

    def scan(self, split: str) -> Table:
        """The images of the database, or those of the queries, in the order of the ground truth."""
        return revisited_table(self, split, "mini_oxford")

    def image(self, split: str, key: str) -> Image.Image:
        """The picture, in `query_crop` cut to the region of the query."""
        return revisited_image(self, key)

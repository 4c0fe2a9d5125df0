"""Revisited Paris: 6,322 photographs and 70 queries, whole or cropped, for retrieval."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.revisited import SPLITS, revisited_image, revisited_table


class RParis6k(Dataset):
    """RParis6k; `bench.revisited.ground_truth` says what is relevant to each query."""

    title: ClassVar[str] = "Revisited Paris"
    folders: ClassVar[tuple[str, ...]] = (
        "rparis6k",
        "RParis6k",
        "rparis",
        "revisitop/rparis6k",
    )
    splits: ClassVar[tuple[str, ...]] = SPLITS
    counts: ClassVar[dict[str, int]] = {"database": 6322, "query": 70, "query_crop": 70}
    tree: ClassVar[str] = """
        rparis6k/               or RParis6k, rparis, revisitop/rparis6k
          jpg/*.jpg
          gnd_rparis6k.pkl
    """

    def scan(self, split: str) -> Table:
        """The images of the database, or those of the queries, in the order of the ground truth."""
        return revisited_table(self, split, "rparis6k")

    def image(self, split: str, key: str) -> Image.Image:
        """The photograph, in `query_crop` cut to the region of the query."""
        return revisited_image(self, key)

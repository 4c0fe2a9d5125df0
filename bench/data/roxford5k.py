"""Revisited Oxford: 4,993 photographs and 70 queries, whole or cropped, for retrieval."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.revisited import SPLITS, revisited_image, revisited_table


class ROxford5k(Dataset):
    """ROxford5k; `bench.revisited.ground_truth` says what is relevant to each query."""

    title: ClassVar[str] = "Revisited Oxford"
    folders: ClassVar[tuple[str, ...]] = (
        "roxford5k",
        "ROxford5k",
        "roxford",
        "revisitop/roxford5k",
    )
    splits: ClassVar[tuple[str, ...]] = SPLITS
    counts: ClassVar[dict[str, int]] = {"database": 4993, "query": 70, "query_crop": 70}
    tree: ClassVar[str] = """
        roxford5k/              or ROxford5k, roxford, revisitop/roxford5k
          jpg/*.jpg
          gnd_roxford5k.pkl
    """

    def scan(self, split: str) -> Table:
        """The images of the database, or those of the queries, in the order of the ground truth."""
        return revisited_table(self, split, "roxford5k")

    def image(self, split: str, key: str) -> Image.Image:
        """The photograph, in `query_crop` cut to the region of the query."""
        return revisited_image(self, key)

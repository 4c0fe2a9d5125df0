"""iNaturalist 2018: 8,142 species, 437,513 + 24,426 photographs of plants and animals."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.images import decode
from bench.inat import inat_table


class INat18(Dataset):
    """The 2018 challenge; classes are in the order of category ids (`bench.inat`)."""

    title: ClassVar[str] = "iNaturalist 2018"
    folders: ClassVar[tuple[str, ...]] = (
        "inat18",
        "iNat18",
        "inat2018",
        "iNat2018",
        "inaturalist2018",
        "iNaturalist2018",
        "inaturalist-2018",
        "inaturalist_2018",
    )
    counts: ClassVar[dict[str, int]] = {"train": 437_513, "val": 24_426}
    tree: ClassVar[str] = """
        inat18/                 or inat2018, inaturalist2018, ...
          train_val2018/<super-category>/<category id>/*.jpg
          train2018.json
          val2018.json
          categories.json       optional: readable names of the classes
    """

    def scan(self, split: str) -> Table:
        """The images of the split's JSON file."""
        return inat_table(self, split, 2018)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

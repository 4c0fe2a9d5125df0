"""iNaturalist 2019: 1,010 species, 265,213 + 3,030 photographs of plants and animals."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.images import decode
from bench.inat import inat_table


class INat19(Dataset):
    """The 2019 challenge; classes are in the order of category ids (`bench.inat`)."""

    title: ClassVar[str] = "iNaturalist 2019"
    folders: ClassVar[tuple[str, ...]] = (
        "inat19",
        "iNat19",
        "inat2019",
        "iNat2019",
        "inaturalist2019",
        "iNaturalist2019",
        "inaturalist-2019",
        "inaturalist_2019",
    )
    counts: ClassVar[dict[str, int]] = {"train": 265_213, "val": 3030}
    tree: ClassVar[str] = """
        inat19/                 or inat2019, inaturalist2019, ...
          train_val2019/<super-category>/<category id>/*.jpg
          train2019.json
          val2019.json
          categories.json       optional: readable names of the classes
    """

    def scan(self, split: str) -> Table:
        """The images of the split's JSON file."""
        return inat_table(self, split, 2019)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

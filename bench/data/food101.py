"""Food-101: 75,750 + 25,250 photographs of 101 dishes; the test list is "val"."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table, layout_error
from bench.images import decode
from bench.listed import listed_table, require_paths
from bench.subsets import read_lines


class Food101(Dataset):
    """Food-101 by its lists; ids are `<class>/<file>`, classes sorted by name."""

    title: ClassVar[str] = "Food-101"
    folders: ClassVar[tuple[str, ...]] = ("food-101", "food101", "Food-101", "Food101", "food_101")
    counts: ClassVar[dict[str, int]] = {"train": 75_750, "val": 25_250}
    tree: ClassVar[str] = """
        food-101/               or food101, Food-101, ...
          images/<class>/*.jpg
          meta/train.txt        <class>/<number> a line
          meta/test.txt
          meta/classes.txt      optional
    """

    def scan(self, split: str) -> Table:
        """The images of the split's list."""
        listing = "meta/train.txt" if split == "train" else "meta/test.txt"
        require_paths(self, self.root, "images/", "meta/train.txt", listing)
        written = self.root / "meta/classes.txt"
        named = written if written.is_file() else self.root / "meta/train.txt"
        classes = sorted({line.partition("/")[0] for line in read_lines(named)})
        number = {name: index for index, name in enumerate(classes)}
        lines = read_lines(self.root / listing)
        strange = sorted({line.partition("/")[0] for line in lines} - number.keys())
        if strange:
            raise layout_error(
                type(self),
                self.root / "meta",
                f"{listing} has {len(strange)} classes that meta/{named.name} does not name "
                f"({', '.join(strange[:5])})",
            )
        rows = [
            (f"{line.removesuffix('.jpg')}.jpg", number[line.partition("/")[0]]) for line in lines
        ]
        return listed_table(self, self.root / "images", rows, classes, listing)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

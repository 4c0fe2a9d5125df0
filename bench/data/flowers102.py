"""Oxford Flowers-102: 2,040 + 6,149 photographs of flowers; "train" is train + val, "val" test."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from PIL import Image

from bench.dataset import Dataset, Table, layout_error
from bench.images import decode
from bench.listed import listed_table, require_paths
from bench.mat_files import reading_mat


class Flowers102(Dataset):
    """Flowers-102 as transfer protocols use it: `trnid` and `valid` train, `tstid` evaluates.

    The release has no names of classes, so they are the numbers of `imagelabels.mat`: "1".."102".
    """

    title: ClassVar[str] = "Flowers-102"
    folders: ClassVar[tuple[str, ...]] = (
        "flowers102",
        "flowers-102",
        "102flowers",
        "oxford-102-flowers",
        "oxford_flowers102",
        "flowers",
    )
    counts: ClassVar[dict[str, int]] = {"train": 2040, "val": 6149}
    tree: ClassVar[str] = """
        flowers102/             or flowers-102, 102flowers, ...
          jpg/image_00001.jpg ...
          imagelabels.mat
          setid.mat
    """

    @property
    def split_id(self) -> str:
        """Train and val of the release together, against its test part, the large one."""
        return "trnid+valid/tstid"

    def scan(self, split: str) -> Table:
        """The images of the split's numbers, which count from 1."""
        require_paths(self, self.root, "jpg/", "imagelabels.mat", "setid.mat")
        with reading_mat(self.root / "imagelabels.mat") as content:
            labels = content["labels"].astype(np.int64)  # (n,), 1..102
        with reading_mat(self.root / "setid.mat") as content:
            sets = ("trnid", "valid") if split == "train" else ("tstid",)
            numbers = np.concatenate([content[name] for name in sets]).astype(np.int64)
        if len(labels) == 0 or labels.min() < 1:
            raise layout_error(type(self), self.root, "imagelabels.mat has no labels from 1 on")
        if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= len(labels):
            raise layout_error(
                type(self),
                self.root,
                f"setid.mat names images {numbers.min()}..{numbers.max()}, imagelabels.mat labels "
                f"1..{len(labels)}",
            )
        rows = [(f"image_{number:05d}.jpg", int(labels[number - 1]) - 1) for number in numbers]
        classes = [str(number) for number in range(1, int(labels.max()) + 1)]
        return listed_table(self, self.root / "jpg", rows, classes, "setid.mat")

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

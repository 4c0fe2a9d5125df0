"""DAVIS-2017: 60 + 30 videos of moving objects, each numbered in every frame."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.annotations import Annotations
from bench.dataset import Dataset, Table
from bench.davis import DAVIS_ANNOTATIONS, SPLITS, davis_image, davis_table


class Davis2017(Dataset):
    """DAVIS-2017 at 480p; `davis2017[sequences=blackswan:libby]` keeps some of its videos.

    `bench.davis` says what the samples of the splits are.
    """

    title: ClassVar[str] = "DAVIS-2017"
    folders: ClassVar[tuple[str, ...]] = ("DAVIS", "DAVIS-2017", "DAVIS2017", "davis2017", "davis")
    splits: ClassVar[tuple[str, ...]] = SPLITS
    modifiers: ClassVar[tuple[str, ...]] = ("sequences",)
    annotations: ClassVar[Annotations | None] = DAVIS_ANNOTATIONS
    counts: ClassVar[dict[str, int]] = {"objects": 61}
    tree: ClassVar[str] = """
        DAVIS/                        or DAVIS-2017, DAVIS2017
          JPEGImages/480p/<sequence>/00000.jpg ...
          Annotations/480p/<sequence>/00000.png ...
          ImageSets/2017/train.txt
          ImageSets/2017/val.txt
    """

    def scan(self, split: str) -> Table:
        """The frames of the split, or the objects of the val sequences."""
        return davis_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """A frame; of an object, the first of its sequence."""
        return davis_image(self, split, key)

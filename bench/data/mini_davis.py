"""Built-in mini benchmark: short videos of moving objects, in DAVIS-2017's layout."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.annotations import Annotations
from bench.dataset import Dataset, Table
from bench.davis import DAVIS_ANNOTATIONS, SPLITS, davis_image, davis_table


class MiniDavis(Dataset):
    """Videos that `sslbench mini DIR` writes; `bench.davis` says what the splits' samples are."""

    title: ClassVar[str] = "mini DAVIS"
    folders: ClassVar[tuple[str, ...]] = ("mini_davis",)
    splits: ClassVar[tuple[str, ...]] = SPLITS
    modifiers: ClassVar[tuple[str, ...]] = ("sequences",)
    annotations: ClassVar[Annotations | None] = DAVIS_ANNOTATIONS
    tree: ClassVar[str] = """
        mini_davis/             written by: sslbench mini DIR
          JPEGImages/480p/<sequence>/00000.jpg ...
          Annotations/480p/<sequence>/00000.png ...
          ImageSets/2017/{train,val}.txt
    """

    def scan(self, split: str) -> Table:
        """The frames of the split, or the objects of the val sequences."""
        return davis_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """A frame; of an object, the first of its sequence."""
        return davis_image(self, split, key)

"""DAVIS-2016: 30 + 20 videos, the moving objects of each taken as one."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.annotations import Annotations
from bench.dataset import Dataset, Table
from bench.davis import DAVIS_2016_ANNOTATIONS, SPLITS, davis_image, davis_table


class Davis2016(Dataset):
    """DAVIS-2016 at 480p; `davis2016[sequences=blackswan:libby]` keeps some of its videos.

    Masks are those of the first release, or the merged objects of DAVIS-2017, which has all of the
    videos. `bench.davis` says what the samples of the splits are.
    """

    title: ClassVar[str] = "DAVIS-2016"
    folders: ClassVar[tuple[str, ...]] = (
        "DAVIS-2016",
        "DAVIS2016",
        "davis2016",
        "DAVIS",
        "DAVIS-2017",
        "DAVIS2017",
        "davis2017",
        "davis",
    )
    splits: ClassVar[tuple[str, ...]] = SPLITS
    modifiers: ClassVar[tuple[str, ...]] = ("sequences",)
    annotations: ClassVar[Annotations | None] = DAVIS_2016_ANNOTATIONS
    counts: ClassVar[dict[str, int]] = {"train": 2079, "val": 1376, "objects": 20}
    tree: ClassVar[str] = """
        DAVIS-2016/                   or DAVIS2016, DAVIS, and the folders of davis2017
          JPEGImages/480p/<sequence>/00000.jpg ...
          Annotations_2016/480p/<sequence>/00000.png ...    or Annotations/480p/
          ImageSets/2016/train.txt                          or ImageSets/480p/
          ImageSets/2016/val.txt
    """

    def scan(self, split: str) -> Table:
        """The frames of the split, or one object for each val sequence."""
        return davis_table(self, split, 2016)

    def image(self, split: str, key: str) -> Image.Image:
        """A frame; of an object, the first of its sequence."""
        return davis_image(self, split, key)

"""ADE20K: 20,210 + 2,000 photographs of scenes with 150 classes of pixels."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.ade20k import ADE_ANNOTATIONS, ade_table
from bench.annotations import Annotations
from bench.dataset import Dataset, Table
from bench.images import decode


class Ade20k(Dataset):
    """ADE20K as the scene parsing challenge of 2016 gives it; pixels of no class are void."""

    title: ClassVar[str] = "ADE20K"
    folders: ClassVar[tuple[str, ...]] = (
        "ADEChallengeData2016",
        "ade/ADEChallengeData2016",
        "ade20k/ADEChallengeData2016",
        "ade20k",
        "ADE20K",
    )
    annotations: ClassVar[Annotations | None] = ADE_ANNOTATIONS
    counts: ClassVar[dict[str, int]] = {"train": 20_210, "val": 2000}
    tree: ClassVar[str] = """
        ADEChallengeData2016/         also inside a folder ade/
          images/training/ADE_train_00000001.jpg ...
          images/validation/ADE_val_00000001.jpg ...
          annotations/training/ADE_train_00000001.png ...
          annotations/validation/ADE_val_00000001.png ...
    """

    def scan(self, split: str) -> Table:
        """All images of the split, which have no label of their own."""
        return ade_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

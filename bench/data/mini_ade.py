"""Built-in mini benchmark: scenes with classes of pixels, in ADE20K's layout."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from PIL import Image

from bench.ade20k import ADE_ANNOTATIONS, ade_table
from bench.annotations import Annotations
from bench.data.mini.names import MATERIAL_NAMES
from bench.dataset import Dataset, Table
from bench.images import decode


class MiniAde(Dataset):
    """Scenes that `sslbench mini DIR` writes; the class is the material, the background is void."""

    title: ClassVar[str] = "mini ADE20K"
    folders: ClassVar[tuple[str, ...]] = ("mini_ade",)
    annotations: ClassVar[Annotations | None] = replace(
        ADE_ANNOTATIONS, label_set="mini-ade", classes=MATERIAL_NAMES
    )
    tree: ClassVar[str] = """
        mini_ade/               written by: sslbench mini DIR
          images/{training,validation}/ADE_{train,val}_*.jpg
          annotations/{training,validation}/ADE_{train,val}_*.png
    """

    def scan(self, split: str) -> Table:
        """All images of the split, which have no label of their own."""
        return ade_table(self, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

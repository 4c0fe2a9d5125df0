"""Built-in mini benchmark: objects on their own and on other backgrounds, ImageNet-9's layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from PIL import Image

from bench.dataset import Dataset, Table
from bench.errors import DataError
from bench.imagenet9 import IntArray, class_map, imagenet9_table
from bench.images import decode


class MiniIn9(Dataset):
    """Eight variants of each image, as `sslbench mini DIR` writes them; only evaluation."""

    title: ClassVar[str] = "mini ImageNet-9"
    folders: ClassVar[tuple[str, ...]] = ("mini_in9/bg_challenge",)
    splits: ClassVar[tuple[str, ...]] = ("val",)
    trained_on: ClassVar[str] = "mini_objects"  # whose linear head classifies these images
    tree: ClassVar[str] = """
        mini_in9/bg_challenge/  written by: sslbench mini DIR
          <variant>/val/<00_stone ... 08_animal>/*.JPEG
          in_to_in9.json        the map from the classes of mini_objects
    """

    def super_classes_of(self, classes: Sequence[str]) -> IntArray:
        """Super-class of each class of a head; DataError where one is none of mini_objects."""
        from bench.data.mini.materials import MATERIALS  # late: brings scipy

        order = sorted(material.wnid for material in MATERIALS)
        strange = [name for name in classes if name not in order]
        if strange:
            raise DataError(
                f"{len(strange)} of {len(classes)} classes are not those of mini_objects "
                f"({', '.join(strange[:5])}): mini_in9 needs a head trained on mini_objects"
            )
        return np.asarray(class_map(self.root)[[order.index(name) for name in classes]])

    def scan(self, split: str) -> Table:
        """All images of all variants."""
        from bench.data.mini.in9 import SUPER_CLASSES  # late: brings scipy

        return imagenet9_table(self, tuple(SUPER_CLASSES))

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

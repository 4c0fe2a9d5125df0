"""ImageNet-9: 4,050 images in each of 8 variants of fore- and background; only evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.imagenet9 import IntArray, class_map, imagenet9_table, super_classes_of
from bench.images import decode


class ImageNet9(Dataset):
    """The backgrounds challenge: one split, whose ids begin with the variant.

    `bench.imagenet9` has the variants, the nine super-classes and the map from ImageNet's classes.
    The masks of the release (`fg_mask/`) are not read.
    """

    title: ClassVar[str] = "ImageNet-9"
    folders: ClassVar[tuple[str, ...]] = (
        "bg_challenge",
        "backgrounds_challenge",
        "imagenet9",
        "in9",
    )
    splits: ClassVar[tuple[str, ...]] = ("val",)
    trained_on: ClassVar[str] = "imagenet1k"  # whose linear head classifies these images
    counts: ClassVar[dict[str, int]] = {"val": 8 * 4050}
    tree: ClassVar[str] = """
        bg_challenge/           or backgrounds_challenge, imagenet9, in9
          original/val/<00_dog ... 08_fish>/*.JPEG
          only_fg/val/...       and the same in mixed_same, mixed_rand, mixed_next, no_fg,
                                only_bg_b and only_bg_t
          in_to_in9.json        optional: the map from ImageNet's classes
    """

    def super_classes_of(self, classes: Sequence[str]) -> IntArray:
        """Super-class of each class of a head, -1 for none; DataError where it knows none."""
        return super_classes_of(classes, class_map(self.root))

    def scan(self, split: str) -> Table:
        """All images of all variants."""
        return imagenet9_table(self)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

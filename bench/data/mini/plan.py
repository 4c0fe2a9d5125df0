"""How large each data set of the mini benchmark is, and what every writer is told."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.data.mini.materials import MATERIALS

VERSION = 4  # raise it whenever a pixel, a label or a file name changes
Size = Literal["small", "medium"]
SIDE_PX: dict[Size, int] = {"small": 32, "medium": 64}
CIFAR_SIDE_PX = 32
IMAGES = 6000
Report = Callable[[str, int, int], None]  # data set, images written, images in all


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of a data set."""

    size: Size
    seed: int
    images: int  # train images of mini_objects, about; the other sets follow in proportion
    version: int = VERSION

    @property
    def object_px(self) -> int:
        return SIDE_PX[self.size]

    @property
    def scene_px(self) -> int:
        """Half as wide again, so that the smallest of several objects is still recognised."""
        return SIDE_PX[self.size] * 3 // 2

    def per_class(self, share: float, classes: int = len(MATERIALS)) -> int:
        """Images of each class in a split that is ``share`` as large as the object train split."""
        return max(1, round(self.images * share / classes))

    def rng(self, stream: str) -> np.random.Generator:
        """A random generator of its own for each stream: one more image here moves none there."""
        return np.random.default_rng([self.seed, self.version, zlib.crc32(stream.encode())])

    def marker(self) -> dict[str, object]:
        return asdict(self)


def save_jpeg(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write (h, w, 3) so that fine structure survives: quality 95, colour not subsampled."""
    Image.fromarray(pixels).save(path, "JPEG", quality=95, subsampling=0)

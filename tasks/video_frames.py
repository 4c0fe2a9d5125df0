"""Frames as DAVIS's label propagation sees them, and the masks that go in and come out.

All as in DINO's `eval_video_segmentation.py`, without OpenCV: pixels equal `cv2.resize`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bench.annotations import VOID, LabelMap
from bench.errors import DataError
from bench.label_maps import resized_labels

Ints = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

_ONE = 2048  # OpenCV's weights of 8-bit images are whole numbers of 1 / 2048


def frame_size(native: tuple[int, int], size_px: int, multiple: int, patch: int) -> tuple[int, int]:
    """(height, width) at which a frame of native (height, width) is looked at.

    The short side becomes `size_px`, the other one what keeps the aspect, rounded down to a
    multiple of `multiple` (a slight squeeze, no crop). Then both are rounded down to multiples of
    the patch, which changes nothing for patches of 8 and 16 at 480 px. A square frame counts as
    lying. A side may come out as 0.
    """
    height, width = native
    long = int(size_px * max(native) / min(native) // multiple * multiple)
    found = (long, size_px) if height > width else (size_px, long)
    return found[0] // patch * patch, found[1] // patch * patch


@dataclass(frozen=True)
class FrameTransform:
    """Frames of one native size (height, width) brought to another; DataError for other frames."""

    ragged: ClassVar[bool] = False
    scales: ClassVar[tuple[float, ...]] = (1.0,)

    native: tuple[int, int]
    size: tuple[int, int]

    @property
    def id(self) -> str:
        """For example `cv2-480x832`."""
        return f"cv2-{self.size[0]}x{self.size[1]}"

    def __call__(self, image: Image.Image) -> Tensor:
        """uint8 tensor (3, height, width)."""
        if (image.height, image.width) != self.native:
            raise DataError(
                f"a frame has {image.width} x {image.height} pixels, expected {self.native[1]} x "
                f"{self.native[0]}"
            )
        pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        return torch.from_numpy(resized(pixels, self.size).transpose(2, 0, 1).copy())


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(height, width, c) of `size`, from (h, w, c): bit for bit `cv2.resize`, bilinear.

    No antialiasing: a pixel is made of its four neighbours, whatever the factor. Weights are
    rounded to 1/2048, and the vertical pass drops the lowest bits of each product on its own.
    """
    top, bottom, above, below = _taps(pixels.shape[0], size[0])
    left, right, before, after = _taps(pixels.shape[1], size[1])
    across = pixels[:, left] * before[:, None] + pixels[:, right] * after[:, None]
    across >>= 4  # (h, width, c) int32, 128 times the values
    found = (across[top] * above[:, None, None] >> 16) + (
        across[bottom] * below[:, None, None] >> 16
    )
    return np.asarray((found + 2) >> 2, dtype=np.uint8)


@lru_cache(maxsize=16)
def _taps(old: int, new: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Indices of both neighbours (new,) of each new pixel on one axis, and their int32 weights."""
    at = ((np.arange(new) + 0.5) / (new / old) - 0.5).astype(np.float32)
    low = np.floor(at).astype(np.int64)
    share = at - low.astype(np.float32)
    first, second = (np.rint(s * np.float32(_ONE)).astype(np.int32) for s in (1 - share, share))
    return low.clip(0, old - 1), (low + 1).clip(0, old - 1), first, second


def seed_labels(labels: LabelMap, grid: tuple[int, int]) -> LabelMap:
    """(h, w) object of each patch of the grid: the nearest pixel's, without interpolation.

    Void counts as background. Small objects may lose all of their patches.
    """
    plain = np.where(labels == VOID, 0, labels).astype(np.uint8)
    return resized_labels(plain, grid)


def read_out(soft: Tensor, patch: int, size: tuple[int, int]) -> LabelMap:
    """(height, width) of `size`: the object of each pixel, from soft labels (h, w, c) of patches.

    Labels are enlarged bilinearly to the pixels that the network saw, each channel is stretched to
    [0, 1] over the frame, the largest wins, and the map is brought to `size` by the nearest pixel.
    Stretching means that an object with a faint trace anywhere wins there against a background of
    less than its own maximum. A channel of one positive value all over wins everywhere, as the
    official division by zero does; one of zeros nowhere.
    """
    channels = soft.permute(2, 0, 1)[None]  # (1, c, h, w)
    large = F.interpolate(
        channels, None, float(patch), "bilinear", align_corners=False, recompute_scale_factor=False
    )[0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)  # (c, 1, 1)
    stretched = (large - low) / (high - low)
    flat = torch.where(high > 0, torch.inf, 0.0).to(large.dtype)
    winner = torch.where(high > low, stretched, flat).argmax(0)  # (h * patch, w * patch)
    return resized_labels(winner.to(torch.uint8).cpu().numpy(), size)

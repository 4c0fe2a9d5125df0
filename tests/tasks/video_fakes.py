"""Videos on the disk whose pixels tell the object, and a backbone that reads it off them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bench.checkpoint import LoadedModel
from bench.features import FeatureCache
from bench.label_maps import index_png
from bench.records import ModelRecord
from bench.spec import parse_dataset
from bench.task import TaskData
from bench.transforms import InputSpec

SHAPE = (64, 128)  # of a frame
PATCH = 8
STEP = 30  # of grey from one object to the next

Videos = Mapping[str, list[np.ndarray]]


def rectangles(*corners: tuple[int, int], side: int = 16) -> np.ndarray:
    """(h, w) objects 1, 2, ...: squares with these top left corners, later ones in front."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for number, (top, left) in enumerate(corners, 1):
        labels[top : top + side, left : left + side] = number
    return labels


def moving(frames: int = 6, step: int = 3) -> list[np.ndarray]:
    """Two squares that move towards each other, not along the grid of patches."""
    return [rectangles((5 + t, 3 + step * t), (40, 100 - step * t)) for t in range(frames)]


def write_videos(root: Path, videos: Videos) -> Path:
    """A data root with `mini_davis`: frames are grey, as bright as the object's number is high."""
    folder = root / "mini_davis"
    for name, maps in videos.items():
        images, masks = (folder / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for t, labels in enumerate(maps):
            pixels = np.where(labels == 255, 0, labels) * STEP
            Image.fromarray(pixels.astype(np.uint8)).convert("RGB").save(images / f"{t:05d}.png")
            (masks / f"{t:05d}.png").write_bytes(index_png(labels))
    (folder / "ImageSets" / "2017").mkdir(parents=True)
    for part in ("train", "val"):
        text = "".join(f"{name}\n" for name in videos)
        (folder / "ImageSets" / "2017" / f"{part}.txt").write_text(text)
    return root


def data_of(root: Path, dataset: str = "mini_davis", **settings: Any) -> TaskData:
    """What a task is given of a folder that `write_videos` wrote."""
    cache = FeatureCache(root / "cache")
    return TaskData(parts=parse_dataset(dataset), data_root=root, cache=cache, **settings)


class Oracle(nn.Module):
    """One-hot object of the pixel under each patch's centre, after ImageNet's normalisation."""

    def __init__(self, patch_size: int = PATCH) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.pos_interp = "dino"
        self.input = InputSpec(size_px=64)
        self.batches: list[int] = []
        self.weight = nn.Parameter(torch.zeros(1))

    def features(self, images: Tensor, recipes: list[str]) -> dict[str, Tensor]:
        """`patch` (b, h, w, 9)."""
        assert recipes == ["patch"]
        self.batches.append(len(images))
        half, step = self.patch_size // 2, self.patch_size
        centres = images[:, 1, half::step, half::step]  # green: red's spread is the slip's
        grey = (centres * 0.224 + 0.456) * 255
        return {"patch": nn.functional.one_hot((grey / STEP).round().long(), 9).float()}


def oracle(patch_size: int = PATCH) -> Any:
    """A loaded model around an `Oracle`."""
    record = ModelRecord("oracle", "memory", "fake", "fake", None, "0" * 64, {})
    return LoadedModel(Oracle(patch_size), record, None)  # type: ignore[arg-type]


def bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, c) of `size`: four neighbours of each pixel of (h, w, c), in float64."""
    height, width = values.shape[:2]
    found = np.zeros((*size, values.shape[2]))
    for i in range(size[0]):
        y = min(max((i + 0.5) * height / size[0] - 0.5, 0), height - 1)
        top, bottom = math.floor(y), min(math.floor(y) + 1, height - 1)
        for j in range(size[1]):
            x = min(max((j + 0.5) * width / size[1] - 0.5, 0), width - 1)
            left, right = math.floor(x), min(math.floor(x) + 1, width - 1)
            down, across = y - top, x - left
            upper = values[top, left] * (1 - across) + values[top, right] * across
            lower = values[bottom, left] * (1 - across) + values[bottom, right] * across
            found[i, j] = upper * (1 - down) + lower * down
    return found


def ceiling(labels: np.ndarray, patch: int = PATCH) -> np.ndarray:
    """(h, w) what is left of a mask that goes through the grid of patches and back."""
    small = labels[patch // 2 :: patch, patch // 2 :: patch]  # (h / patch, w / patch)
    channels = np.eye(int(small.max()) + 1)[small]
    large = bilinear(channels, (labels.shape[0], labels.shape[1]))
    for channel in range(large.shape[2]):
        part = large[..., channel]
        if part.max() > 0:
            large[..., channel] = (part - part.min()) / (part.max() - part.min())
    return large.argmax(2).astype(np.uint8)

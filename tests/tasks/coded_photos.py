"""Photographs whose colours tell the object of each pixel, and a backbone that reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from bench.checkpoint import LoadedModel
from bench.engine import Settings, task_data
from bench.features import FeatureCache
from bench.label_maps import index_png
from bench.plan import requests
from bench.records import Outcome
from bench.task import Task
from bench.transforms import InputSpec
from tests.bench.dense_trees import voc_xml
from tests.bench.trees import write_lines

STEP = 20  # of red between two objects; background is black, as padding is
OBJECTS = 8  # numbers of objects, background counted
Labels = np.ndarray  # (h, w) uint8: number of the object, 255 void


class Reader(nn.Module):
    """Maps that `make` draws from the share of each object in each patch: (b, h, w, OBJECTS)."""

    def __init__(self, make: Callable[[Tensor], Tensor], lacks: Sequence[str] = ()) -> None:
        super().__init__()
        self.make, self.lacks = make, lacks
        self.patch_size, self.pos_interp = 8, "dino"
        self.input = InputSpec(64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.asked: list[tuple[str, Tensor]] = []

    def available(self, recipe: str) -> bool:
        return recipe not in self.lacks

    def features(self, images: Tensor, recipes: Sequence[str]) -> dict[str, Tensor]:
        p = self.patch_size
        self.asked.append((recipes[0], images))
        h, w = images.shape[2] // p, images.shape[3] // p
        codes = (images[:, 0, : h * p, : w * p] * 255 / STEP).round().long().clamp(0, OBJECTS - 1)
        shares = F.one_hot(codes, OBJECTS).float().reshape(-1, h, p, w, p, OBJECTS).mean((2, 4))
        return {recipe: self.make(shares) for recipe in recipes}


def reader(make: Callable[[Tensor], Tensor], lacks: Sequence[str] = ()) -> LoadedModel:
    """What a task asks of a loaded model."""
    record = SimpleNamespace(name="reader")
    model: Any = SimpleNamespace(backbone=Reader(make, lacks), record=record)
    return model  # type: ignore[no-any-return]


def photo(labels: Labels) -> Image.Image:
    """Void pixels are photographed as background."""
    red = np.where(labels == 255, 0, labels).astype(np.uint8) * STEP
    return Image.fromarray(np.stack([red, red, red], axis=-1))


def classes_of(labels: Labels) -> Labels:
    """Objects 1 and 2 are of class 1, 3 and 4 of class 2, ..."""
    return np.where(labels == 255, 255, (labels + 1) // 2).astype(np.uint8)


def write_coded(
    root: Path, photos: Mapping[str, Labels], boxes: Mapping[str, Sequence[Any]] | None = None
) -> Path:
    """A VOC tree in which every photo is in val and in trainval; `boxes` become XML files."""
    folder = root / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (folder / name).mkdir(parents=True)
    for stem, labels in photos.items():
        photo(labels).save(folder / f"JPEGImages/{stem}.jpg", "PNG")
        for kind, mask in (("Class", classes_of(labels)), ("Object", labels)):
            (folder / f"Segmentation{kind}/{stem}.png").write_bytes(index_png(mask))
    for listing in ("Segmentation/val.txt", "Main/trainval.txt"):
        write_lines(folder / "ImageSets" / listing, *photos)
    if boxes is not None:
        (folder / "Annotations").mkdir()
        for stem, found in boxes.items():
            height, width = photos[stem].shape
            text = voc_xml(*(("dog", box) for box in found), size=(width, height))
            (folder / f"Annotations/{stem}.xml").write_text(text)
    return root


def run(spec: str, root: Path, model: LoadedModel, **settings: Any) -> tuple[Task, Outcome]:
    """The task of a spec such as `discovery@voc2012?mass=1` on a written tree."""
    (request,) = requests([spec])
    options: dict[str, Any] = {"workers": 0, "device": "cpu"} | settings
    given = Settings(data=root, **options)
    data = task_data(request, 0, given, FeatureCache(Path("unused")))
    return request.task, request.task.run(model, data)

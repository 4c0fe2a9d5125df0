"""In-memory images that are patches and label maps: nothing is read or forwarded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch

from bench.annotations import VOID, Annotations, LabelMap
from bench.records import Outcome
from bench.token_table import TokenTable
from bench.transforms import InputSpec
from tasks.dense.segknn import Segknn


class Labelled:
    """A data set of nothing but label maps, by key."""

    annotations: ClassVar[Annotations | None] = None

    def __init__(self, maps: dict[str, LabelMap]) -> None:
        self.maps = maps


def labelled(classes: int) -> type[Labelled]:
    """Its type, with so many classes."""
    names = tuple(f"c{i}" for i in range(classes))
    said = Annotations(
        label_set=f"fake-{classes}", classes=names, semantic=lambda data, _, key: data.maps[key]
    )
    return type("Fake", (Labelled,), {"annotations": said})


@dataclass
class PatchSplit:
    """Images that are patches (n, g * g, d), with labels (n, s, s)."""

    name: str
    split: str
    patches: np.ndarray
    source_set: Labelled
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def datasets(self) -> tuple[Labelled, ...]:
        """The only one."""
        return (self.source_set,)

    def source(self, index: int) -> tuple[Labelled, str, str]:
        """Where the labels of an image are."""
        return self.source_set, self.split, self.ids[index]

    def take(self, rows: Any, name: str) -> PatchSplit:
        """Some of them."""
        ids = tuple(self.ids[row] for row in rows)
        return PatchSplit(name, self.split, self.patches[rows], self.source_set, ids)


@dataclass
class PatchData:
    """What a task asks of its data."""

    train: PatchSplit
    val: PatchSplit
    seed: int = 0
    device: str = "cpu"
    batch_size: int = 5
    workers: int = 0
    workspace: Path | None = None
    stored: bool = True
    read: list[str] = field(default_factory=list)

    def open(self, name: str) -> PatchSplit:
        """Train, or val under any other name."""
        return self.train if name == "train" else self.val

    def tokens(self, model: Any, split: PatchSplit, view: Any) -> TokenTable:
        """CLS, which is noise, and the patches; float16 as they are stored."""
        n, _, d = split.patches.shape
        noise = np.random.default_rng(0).normal(size=(n, 1, d))
        values = np.concatenate([noise, split.patches], 1).astype(np.float16)

        def read(rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
            self.read.append(split.name)
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                yield part, torch.from_numpy(values[part]).float().to(self.device)

        every = np.arange(n)
        return TokenTable(split.ids, every, (), every, values.shape[1:], self.stored, read)


def model_of(patch: int) -> Any:
    """A model of which only the description is read."""
    backbone = SimpleNamespace(patch_size=patch, input=InputSpec(size_px=32), has_cls=True)
    return SimpleNamespace(backbone=backbone, record=SimpleNamespace(name="fake"))


def patch_data(
    patches: Sequence[np.ndarray], maps: Sequence[np.ndarray], classes: int, **settings: Any
) -> PatchData:
    """Data of (train, val) patches (n, g * g, d) and labels (n, h, w)."""
    kind, splits = labelled(classes), []
    for name, values, labels in zip(("train", "val"), patches, maps, strict=True):
        ids = tuple(f"{name}-{i:03d}" for i in range(len(values)))
        known = kind({i: np.asarray(m, np.uint8) for i, m in zip(ids, labels, strict=True)})
        splits.append(PatchSplit(f"fake {name}", name, np.asarray(values), known, ids))
    return PatchData(*splits, **settings)


def scenes(
    rng: np.random.Generator, n: int, grid: int, patch: int, classes: int, void: float = 0.1
) -> np.ndarray:
    """(n, s, s) labels that are constant on random rectangles, some pixels void."""
    size = grid * patch
    maps = np.full((n, size, size), 0, dtype=np.uint8)
    for labels in maps:
        for _ in range(4):
            top, left = rng.integers(0, size, 2)
            labels[top : top + size // 2, left : left + size // 2] = rng.integers(classes)
    maps[rng.random(maps.shape) < void] = VOID
    return maps


def majority(maps: np.ndarray, patch: int, classes: int) -> np.ndarray:
    """(n, g * g) the label that most pixels of each patch have, void after all classes."""
    n, size, _ = maps.shape
    grid = size // patch
    cut = maps.reshape(n, grid, patch, grid, patch).transpose(0, 1, 3, 2, 4)
    flat = cut.reshape(n, grid * grid, patch * patch)
    return np.apply_along_axis(lambda row: np.bincount(row, minlength=256).argmax(), 2, flat)


def noisy_patches(
    rng: np.random.Generator, maps: np.ndarray, patch: int, classes: int, noise: float
) -> np.ndarray:
    """(n, g * g, d) features around a centre of each patch's majority label."""
    centres = np.random.default_rng(1).normal(size=(256, 12))
    label = majority(maps, patch, classes)
    return centres[label] + noise * rng.normal(size=(*label.shape, 12))


def run(data: PatchData, patch: int, **fields: Any) -> Outcome:
    """The task on the data, at the size of the train labels."""
    size = len(next(iter(data.train.source_set.maps.values())))
    return Segknn(**({"size_px": size} | fields)).run(model_of(patch), data)  # type: ignore[arg-type]

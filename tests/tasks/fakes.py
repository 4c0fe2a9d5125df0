"""In-memory stand-ins for a loaded model and its data: features are given, nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.recipes import needs_cls
from bench.transforms import EvalTransform, InputSpec


@dataclass
class FakeSplit:
    """A labelled split whose images are rows of a feature array (n, d)."""

    name: str
    values: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.ids = self.ids or tuple(f"{self.name}-{i}" for i in range(len(self.values)))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def manifest(self) -> str:
        """Of the name and the number of images."""
        return f"{self.name} {len(self)}"

    images_digest = manifest

    def take(self, indices: np.ndarray, name: str) -> FakeSplit:
        """The rows at the indices."""
        ids = tuple(self.ids[i] for i in indices)
        return FakeSplit(name, self.values[indices], self.targets[indices], self.classes, ids)


class FakeTable:
    """A feature table that gives the same features for every token recipe."""

    def __init__(self, split: FakeSplit) -> None:
        self.ids, self.targets, self.classes = split.ids, split.targets, split.classes
        self.split_rows = np.arange(len(split))
        self._values = split.values.astype(np.float16)
        self._values.flags.writeable = False  # as a memory map opened for reading

    def get(self, recipe: str) -> np.ndarray:
        """(n, d) float16."""
        return self._values


@dataclass
class FakeData:
    """What a task asks of TaskData, without files."""

    train: FakeSplit
    val: FakeSplit
    seed: int = 0
    device: str = "cpu"
    batch_size: int = 64
    workers: int = 0
    precision: str = "fp32"
    skip_bad: int = 0
    workspace: None = None
    asked: list[str] = field(default_factory=list)

    def pair(self) -> tuple[FakeSplit, FakeSplit]:
        """Train and val."""
        return self.train, self.val

    def eval_transform(
        self, model: Any, size_px: int | None, crop_pct: float | None
    ) -> EvalTransform:
        """Features are given: nothing is transformed by it."""
        return EvalTransform(InputSpec(size_px=32))

    def features(self, model: Any, split: FakeSplit, transform: Any = None) -> FakeTable:
        """The split's own rows; which split was asked for is kept."""
        self.asked.append(split.name)
        return FakeTable(split)


def fake_model(has_cls: bool = True, embed_dim: int = 8) -> Any:
    """A loaded model of which only the description is ever read."""
    backbone = SimpleNamespace(
        input=InputSpec(size_px=32),
        has_cls=has_cls,
        embed_dim=embed_dim,
        available=lambda recipe: has_cls or not needs_cls(recipe),
    )
    return SimpleNamespace(backbone=backbone)


def data_of(
    train: np.ndarray, train_targets: np.ndarray, val: np.ndarray, val_targets: np.ndarray
) -> FakeData:
    """Data whose class names are counted from the targets."""
    count = int(max(train_targets.max(), val_targets.max())) + 1
    classes = tuple(f"c{i:04d}" for i in range(count))
    return FakeData(
        FakeSplit("train", train, train_targets.astype(np.int64), classes),
        FakeSplit("val", val, val_targets.astype(np.int64), classes),
    )


def one_hot(targets: np.ndarray, classes: int) -> np.ndarray:
    """Features that are the answer: (n, classes)."""
    return np.eye(classes, dtype=np.float32)[targets]

"""In-memory stand-ins whose images are tokens: nothing is forwarded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from bench.transforms import EvalTransform, InputSpec
from tests.tasks.fakes import FakeData, FakeSplit, FakeTable

MODEL: Any = SimpleNamespace(
    backbone=SimpleNamespace(
        input=InputSpec(size_px=32), has_cls=True, embed_dim=8, available=lambda recipe: True
    )
)


@dataclass
class TokenSplit(FakeSplit):
    """A labelled split whose images are tokens (n, t, d)."""

    split: str = "train"


class FakeTokens:
    """A token table of rows of a split, rounded as the stored ones are."""

    stored = True

    def __init__(self, split: FakeSplit) -> None:
        self.ids, self.targets, self.classes = split.ids, split.targets, split.classes
        self.split_rows = np.arange(len(split))
        self.shape = split.values.shape[1:]
        self._values = torch.from_numpy(split.values.astype(np.float16)).float()
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.ids)

    def batches(self, rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """(rows (b,), tokens (b, t, d))."""
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            self.read += part.tolist()
            yield part, self._values[part]


@dataclass
class TokenData(FakeData):
    """Data whose features are the means of their tokens."""

    tables: dict[str, FakeTokens] = field(default_factory=dict)
    workspace: Any = None

    def eval_transform(self, model: Any, size_px: int | None, crop_pct: float | None) -> Any:
        """A true one, of which only the id is read."""
        return EvalTransform(replace(model.backbone.input, size_px=size_px or 32))

    def tokens(self, model: Any, split: Any, transform: Any = None) -> FakeTokens:
        """The split's own tokens, the same table whenever asked."""
        return self.tables.setdefault(split.name, FakeTokens(split))

    def features(self, model: Any, split: Any, transform: Any = None) -> FakeTable:
        """The mean of each image's tokens."""
        return FakeTable(replace(split, values=split.values.mean(axis=1)))


def noise_tokens(rng: np.random.Generator, n: int, t: int = 5, d: int = 8) -> np.ndarray:
    """(n, t, d) of length about 1."""
    return rng.normal(size=(n, t, d)) * 0.3


def token_data(
    n: int = 300, classes: int = 4, seed: int = 0, strength: float = 2.0, names: Any = None
) -> TokenData:
    """The class stands in one token at a random place; all else is noise."""
    rng = np.random.default_rng(seed)
    names = names or tuple(f"c{i}" for i in range(classes))
    classes = len(names)
    splits = []
    for name, count in (("train", n), ("val", n // 3)):
        values, targets = noise_tokens(rng, count), np.arange(count) % classes
        places = rng.integers(0, values.shape[1], count)
        values[np.arange(count), places] += strength * np.eye(8)[targets]
        splits.append(TokenSplit(name, values, targets, names))
    return TokenData(*splits)

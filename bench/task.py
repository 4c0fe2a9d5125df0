"""The contract of an evaluation task, and the data that a task is given.

A task is a frozen dataclass: its fields *are* the protocol, so that two cells with the same fields
mean the same experiment. `run` turns a model into an `Outcome` (one row per evaluated sample), and
`score` turns a stored outcome into metrics without touching a model again.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench.errors import DataError
from bench.records import Metric, Outcome

if TYPE_CHECKING:  # torch stays out: `sslbench ls` and the leaderboards read tasks without it
    from bench.checkpoint import LoadedModel
    from bench.dataset import Split
    from bench.features import FeatureCache, FeatureTable
    from bench.spec import DatasetPart
    from bench.transforms import EvalTransform

WARNINGS = "warnings"


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One evaluation protocol; subclasses add the fields and live one to a file.

    Rules that every task keeps:

    - A changed number with unchanged fields raises `version`.
    - The outcome has a column `id`, and `value` holds each sample's share of the headline metric
      wherever that metric is a mean over samples (for accuracies: 1.0 right, 0.0 wrong). Paired
      comparisons rest on this.
    - What the reader of a number must know ("k was clipped", "selected on the test split") goes
      into the outcome through `with_warnings`, and comes back with `warnings_of`.
    - Wrong field values raise SpecError when the task is made, before any model runs.
    """

    version: ClassVar[int]
    headline: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("train", "val")
    mini: ClassVar[str] = "mini_objects"  # the part of the mini benchmark it runs on
    mini_options: ClassVar[str] = ""  # options for the conformance suite: "epochs=1&batch=64"

    @abstractmethod
    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Per-sample outcome of the model under this protocol."""

    @abstractmethod
    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """Metrics of a stored outcome; pure, and among them the one named by `headline`."""


def with_warnings(outcome: Outcome, warnings: Iterable[str]) -> Outcome:
    """The same outcome carrying the warnings, so that they are stored with the numbers."""
    texts = [*warnings_of(outcome), *warnings]
    extras = {name: array for name, array in outcome.extras.items() if name != WARNINGS}
    if texts:
        extras[WARNINGS] = np.array(texts, dtype=np.str_)
    return Outcome(columns=outcome.columns, extras=extras)


def warnings_of(outcome: Outcome) -> list[str]:
    """What the task had to say about this outcome; empty when nothing."""
    return [str(text) for text in outcome.extras.get(WARNINGS, ())]


@dataclass
class TaskData:
    """What a task may read: the splits of one dataset and the shared feature cache.

    One object serves many tasks and models; splits are opened once. `seed` drives everything
    random in a task (held-out slices, initial heads, order of batches).
    """

    parts: tuple[DatasetPart, ...]
    data_root: Path | None
    cache: FeatureCache
    seed: int = 0
    device: str = "cpu"
    batch_size: int = 128
    workers: int = 0
    precision: str = "fp32"
    skip_bad: int = 0
    skipped: dict[str, None] = field(default_factory=dict, init=False)
    _splits: dict[str, Split] = field(default_factory=dict, init=False, repr=False)

    def open(self, split: str) -> Split:
        """The split of this dataset under its usual name, opened once."""
        if split not in self._splits:
            from bench.dataset import open_split

            self._splits[split] = open_split(self.parts, split, self.data_root)
        return self._splits[split]

    def labelled(self, split: str) -> Split:
        """The samples of a split that have a class; `DataError` when none has."""
        return self.open(split).labelled()

    def pair(self) -> tuple[Split, Split]:
        """Labelled train and val splits with one list of classes; DataError when they differ."""
        train, test = self.labelled("train"), self.labelled("val")
        if tuple(train.classes) != tuple(test.classes):
            only = sorted(set(train.classes) ^ set(test.classes))[:5]
            raise DataError(
                f"train and val of {train.name} have different classes ({len(train.classes)} and "
                f"{len(test.classes)}; in one only: {', '.join(map(str, only)) or 'the order'}); "
                "both splits need the same class folders or the same class list"
            )
        return train, test

    def eval_transform(
        self, model: LoadedModel, size_px: int | None = None, crop_pct: float | None = None
    ) -> EvalTransform:
        """The checkpoint's own evaluation input, but for the side or crop that a field asks for."""
        from bench.transforms import EvalTransform

        own = model.backbone.input
        return EvalTransform(
            replace(own, size_px=size_px or own.size_px, crop_pct=crop_pct or own.crop_pct)
        )

    def features(
        self, model: LoadedModel, split: Split, transform: EvalTransform | None = None
    ) -> FeatureTable:
        """Frozen whole-image features of a split: the one cached pass all frozen tasks share."""
        table = self.cache.extract(
            model,
            split,
            transform or self.eval_transform(model),
            batch_size=self.batch_size,
            workers=self.workers,
            device=self.device,
            precision=self.precision,
            skip_bad=self.skip_bad,
        )
        self.skipped.update(dict.fromkeys(table.skipped))
        return table

    def manifest(self, splits: Iterable[str] = ("train", "val")) -> str:
        """sha256 over the manifests of the named splits, as opened (subsets and lists applied).

        The order of the samples is in it: batches are drawn and ties are broken by it.
        """
        digest = hashlib.sha256()
        for name in splits:
            split = self.open(name)
            digest.update(f"{name} {split.manifest}\n".encode())
            digest.update("\n".join(split.ids).encode())
        return digest.hexdigest()

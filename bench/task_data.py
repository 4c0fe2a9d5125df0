"""The data that a task is given: splits of a dataset, shared features, and how to run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import DataError
from bench.records import Outcome

if TYPE_CHECKING:  # torch stays out: `sslbench ls` and the leaderboards read tasks without it
    from bench.checkpoint import LoadedModel
    from bench.dataset import Split
    from bench.feature_file import Rows
    from bench.features import FeatureCache, FeatureTable, Matrix
    from bench.plan import Request
    from bench.spec import DatasetPart
    from bench.token_table import TokenTable
    from bench.transforms import EvalTransform, Transform

Runner = Callable[["LoadedModel", "Request", "TaskData"], Outcome]


@dataclass
class TaskData:
    """What a task may read: the splits of one dataset and the shared feature cache.

    One object serves many tasks and models; splits are opened once. `seed` drives everything
    random in a task (held-out slices, initial heads, order of batches). `workspace`, where there is
    one, is a folder of the running cell for what lets a killed training continue; it goes once the
    result is stored. `runner` makes or finds other cells (the engine's; without it they are run).
    `splits` are those that are open, by name.
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
    workspace: Path | None = None
    runner: Runner | None = field(default=None, repr=False)
    splits: dict[str, Split] = field(default_factory=dict, repr=False)
    skipped: dict[str, None] = field(default_factory=dict, init=False)
    _spaces: dict[str, TaskData] = field(default_factory=dict, init=False, repr=False)

    def open(self, split: str) -> Split:
        """The split of this dataset under its usual name, opened once."""
        if split not in self.splits:
            from bench.dataset import open_split

            self.splits[split] = open_split(self.parts, split, self.data_root)
        return self.splits[split]

    def leave_out(self, bad: Mapping[int, str]) -> None:
        """Notes unreadable images (row -> reason); DataError when they are over `skip_bad`."""
        from bench.feature_table import too_many_bad

        self.skipped.update(dict.fromkeys(bad.values()))
        if len(bad) > self.skip_bad:
            raise too_many_bad(list(bad.values())[-1], len(bad), self.skip_bad)

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
        self, model: LoadedModel, split: Split, transform: Transform | None = None
    ) -> FeatureTable:
        """Frozen whole-image features of a split: the one cached pass all frozen tasks share."""
        from bench.recipes import RECIPE_BLOCKS

        return self._table(model, split, transform or self.eval_transform(model), RECIPE_BLOCKS)

    def tokens(
        self, model: LoadedModel, split: Split, transform: Transform | None = None
    ) -> TokenTable:
        """All frozen tokens of a split, from the same pass; not stored where they are too many."""
        from bench.features import token_shape
        from bench.token_table import TOKENS, TokenTable, forwarded

        transform = transform or self.eval_transform(model)
        shape = token_shape(model.backbone, transform)
        there = self._stored(model, split, transform, (TOKENS,))
        if there or self.cache.keeps_tokens(len(split), shape):
            table = self._table(model, split, transform, (TOKENS,))
            return TokenTable.of(table, shape, self.device)
        return forwarded(self, model, split, transform, shape)

    def prepare(
        self,
        model: LoadedModel,
        split: Split,
        transform: Transform,
        *,
        vectors: bool = True,
        tokens: bool = False,
    ) -> dict[str, float]:
        """Makes the pass that `features` (`vectors`) and, if they are stored, `tokens` read.

        Returns:
            `images` and `seconds` of a pass that had to be made; empty when all was there.
        """
        from bench.features import token_shape
        from bench.recipes import RECIPE_BLOCKS
        from bench.token_table import TOKENS

        # What is readable at all is known from the vectors: `forwarded` asks them.
        vectors |= tokens and self.skip_bad > 0
        wanted: list[tuple[str, ...]] = [RECIPE_BLOCKS] if vectors else []
        if tokens and self.cache.keeps_tokens(len(split), token_shape(model.backbone, transform)):
            wanted.append((TOKENS,))
        options = (model, split, transform)
        wanted = [blocks for blocks in wanted if self._stored(*options, blocks) is None]
        if not wanted:
            return {}
        clock = time.perf_counter()
        self.cache.prepare(*options, wanted, **self._how())
        return {"images": len(split), "seconds": time.perf_counter() - clock}

    def _table(
        self, model: LoadedModel, split: Split, transform: Transform, blocks: Sequence[str]
    ) -> FeatureTable:
        """Stored columns of a split; those of the split it was cut from serve as well."""
        from bench.feature_table import open_table

        if found := self._stored(model, split, transform, blocks):
            matrix, rows = found
            facts = (matrix.folder, split, matrix.blocks, matrix.widths, self.skip_bad)
            return self._noted(open_table(*facts, stored=rows))
        return self._noted(self.cache.extract(model, split, transform, blocks, **self._how()))

    def _stored(
        self, model: LoadedModel, split: Split, transform: Transform, blocks: Sequence[str]
    ) -> tuple[Matrix, Rows | None] | None:
        """A complete matrix that has the split's rows, and which of its rows these are.

        That of the split which this one was cut from comes first.
        """
        from bench.features import agreed

        places = [*([split.origin] if split.origin is not None else []), (split, None)]
        for whole, rows in places:
            matrix = self.cache.matrix(model, whole, transform, blocks, self.precision)
            if agreed(matrix.exists):
                return matrix, rows
        return None

    def _how(self) -> dict[str, Any]:
        names = ("batch_size", "workers", "device", "precision", "skip_bad")
        return {name: getattr(self, name) for name in names}

    def _noted(self, table: FeatureTable) -> FeatureTable:
        self.skipped.update(dict.fromkeys(table.skipped))
        return table

    def beside(self, parts: tuple[DatasetPart, ...]) -> TaskData:
        """The data of another dataset under the same settings and seed; opened once."""
        spaces = self._spaces
        spaces.setdefault("+".join(map(str, self.parts)), self)
        key = "+".join(map(str, parts))
        if key not in spaces:
            spaces[key] = replace(self, parts=parts, workspace=None, splits={})
            spaces[key]._spaces = spaces
        return spaces[key]

    def cell(self, model: LoadedModel, spec: str) -> Outcome:
        """The outcome of another cell of this model and seed, made now where it is not stored."""
        from bench.plan import requests

        (request,) = requests([spec])
        data = self.beside(request.spec.dataset)
        if self.runner is not None:
            return self.runner(model, request, data)
        return request.task.run(model, data)

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

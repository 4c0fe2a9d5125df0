"""A split: the samples that a task or a training run sees, from one dataset or from several."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, final

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench import subsets
from bench.errors import DataError, SpecError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Table:
    """What one scan of a split found, in the order of the samples.

    Raises:
        DataError: columns of unequal length, repeated ids, targets outside the classes.
    """

    ids: tuple[str, ...]  # unique and the same on every machine
    keys: tuple[str, ...]  # what Dataset.image needs
    targets: IntArray  # (n,), -1 = no label
    classes: tuple[str, ...]
    sizes: IntArray  # (n,) bytes, for the manifest

    def __post_init__(self) -> None:
        lengths = [len(column) for column in (self.ids, self.keys, self.targets, self.sizes)]
        if len(set(lengths)) > 1:
            raise DataError(f"ids, keys, targets and sizes differ in length: {lengths}")
        if len(set(self.ids)) < len(self.ids):
            twice = next(a for a, b in itertools.pairwise(sorted(self.ids)) if a == b)
            raise DataError(f"two images have the id {twice!r}: ids must be unique in a split")
        if len(self.targets) and not -1 <= self.targets.min() <= self.targets.max() < len(
            self.classes
        ):
            raise DataError(
                f"targets {self.targets.min()}..{self.targets.max()} do not fit "
                f"{len(self.classes)} classes"
            )


class Source(Protocol):
    """What a split asks of a dataset (`bench.dataset.Dataset` has it)."""

    root: Path

    @property
    def split_id(self) -> str:
        """The rule that says which sample is in which split."""

    def scan(self, split: str) -> Table:
        """The samples of one split."""

    def image(self, split: str, key: str) -> Image.Image:
        """The image of one key, RGB."""


@final
@dataclass(frozen=True, eq=False)
class Split:
    """The samples that a task or a training run gets, from one dataset or a union.

    Order and ids are the same on every file system. Picklable; keys are one packed array, because
    a million Python strings would be copied into each forked loader process.
    """

    name: str  # canonical dataset text
    split: str  # the role it was opened for: "train", "val", ...
    ids: tuple[str, ...]
    targets: IntArray  # (n,), -1 = no label
    classes: tuple[str, ...]
    sizes: IntArray  # (n,) bytes
    _keys: npt.NDArray[np.bytes_]  # (n,)
    _sources: tuple[tuple[Source, str], ...]  # (dataset, its split)
    _source: npt.NDArray[np.int16]  # (n,) index into _sources
    #: The split that this one was cut from, if any, and its rows: their features are the same.
    origin: tuple[Split, IntArray] | None = None

    @classmethod
    def open(cls, dataset: Source, split: str, name: str) -> Split:
        """All samples of one split of a dataset; `name` is the canonical text."""
        table = dataset.scan(split)
        return cls(
            name=name,
            split=split,
            ids=table.ids,
            targets=table.targets,
            classes=table.classes,
            sizes=table.sizes,
            _keys=np.array([os.fsencode(key) for key in table.keys], dtype=np.bytes_),
            _sources=((dataset, split),),
            _source=np.zeros(len(table.ids), dtype=np.int16),
        )

    @classmethod
    def union(cls, splits: Sequence[Split], name: str = "") -> Split:
        """All samples of several splits, ids prefixed by the name of the part.

        Parts of one dataset are told apart by their whole text. Labels survive only where all
        parts have the same classes; else targets are -1 and there are no classes.
        """
        if len(splits) == 1:
            return replace(splits[0], name=name or splits[0].name)
        plain = [part.name.partition("[")[0] for part in splits]
        heads = plain if len(set(plain)) == len(plain) else [part.name for part in splits]
        if len(set(heads)) < len(heads):
            raise SpecError(f"{'+'.join(heads)} names the same part twice; keep one")
        shared = len({part.classes for part in splits}) == 1
        targets = np.concatenate([part.targets for part in splits])
        shifts = np.cumsum([0, *(len(part._sources) for part in splits[:-1])])
        return cls(
            name=name or "+".join(part.name for part in splits),
            split=splits[0].split,
            ids=tuple(
                f"{head}:{id_}"
                for head, part in zip(heads, splits, strict=True)
                for id_ in part.ids
            ),
            targets=targets if shared else np.full_like(targets, -1),
            classes=splits[0].classes if shared else (),
            sizes=np.concatenate([part.sizes for part in splits]),
            _keys=np.concatenate([part._keys for part in splits]),
            _sources=tuple(source for part in splits for source in part._sources),
            _source=np.concatenate(
                [part._source + shift for part, shift in zip(splits, shifts, strict=True)]
            ).astype(np.int16),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, object]:
        # Loader processes have no use for the samples that were left out.
        return self.__dict__ | {"origin": None}

    def image(self, index: int) -> Image.Image:
        """The image at this index, RGB; `DataError` names a file that cannot be decoded."""
        dataset, split, key = self.source(index)
        return dataset.image(split, key)

    def source(self, index: int) -> tuple[Source, str, str]:
        """(dataset, its split, key) of a sample: the way to annotations (`bench.coco`)."""
        dataset, split = self._sources[self._source[index]]
        return dataset, split, os.fsdecode(bytes(self._keys[index]))

    @property
    def datasets(self) -> tuple[Source, ...]:
        """The data set of each part, in their order."""
        return tuple(dataset for dataset, _ in self._sources)

    @property
    def split_ids(self) -> tuple[str, ...]:
        """The split rule of each part, in their order: `Dataset.split_id`."""
        return tuple(dataset.split_id for dataset, _ in self._sources)

    def take(self, indices: npt.ArrayLike, name: str) -> Split:
        """The samples at the indices, in the order of the indices."""
        chosen = np.asarray(indices, dtype=np.int64)  # (m,)
        whole, rows = self.origin or (self, np.arange(len(self)))
        return replace(
            self,
            origin=(whole, rows[chosen]),
            name=name,
            ids=tuple(self.ids[index] for index in chosen),
            targets=self.targets[chosen],
            sizes=self.sizes[chosen],
            _keys=self._keys[chosen],
            _source=self._source[chosen],
        )

    def subset(self, n: int, seed: int) -> Split:
        """`n` samples drawn uniformly without replacement (see `subsets.uniform`), order kept."""
        chosen = subsets.uniform(self.ids, n, seed)
        return self.take(chosen, f"{self.name}#n={n},seed={seed}")

    def labelled(self) -> Split:
        """The samples that have a label; `DataError` when none has."""
        chosen = np.flatnonzero(self.targets >= 0)
        if len(chosen) == len(self):
            return self
        if not len(chosen):
            raise DataError(
                f"{self.name}: none of its {len(self)} {self.split} images has a label; "
                "take a labelled dataset for this task"
            )
        return self.take(chosen, self.name)

    @cached_property
    def images_digest(self) -> str:
        """SHA-256 (hex) over ids and sizes in their order, whatever the labels."""
        lines = (f"{id_} {size}" for id_, size in zip(self.ids, self.sizes.tolist(), strict=True))
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @cached_property
    def manifest(self) -> str:
        """SHA-256 (hex) over the sorted "id size target" lines and the class names.

        It does not depend on where the data lies, nor in which of its official layouts.
        """
        lines = sorted(
            f"{id_} {size} {target}"
            for id_, size, target in zip(
                self.ids, self.sizes.tolist(), self.targets.tolist(), strict=True
            )
        )
        lines += [f"class {name}" for name in self.classes]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

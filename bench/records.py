"""The records that outlive a run: identities, outcomes, metrics, results, models.

All are frozen dataclasses that need numpy only, so that leaderboards rebuild without torch. JSON
texts carry `schema`; a text of a newer schema is refused rather than half understood.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import NewerSchema, SSLBenchError, StoreError
from bench.result_shape import check_shape

SCHEMA = 1
IDENTITY_VERSION = 1
#: Field of an identity: digests of the cells of the same model that the cell reads.
CELLS = "cells"
Array = npt.NDArray[Any]

_COLUMN, _EXTRA = "column.", "extra."  # prefixes of the array names inside outcome.npz


@dataclass(frozen=True)
class Identity:
    """Everything that can change a number; equal identities are the same cell.

    `weights` and `dataset` are sha256 hex digests (of the tensors, of the manifests), `fields` the
    protocol fields that differ from the task's defaults, `version` that of this definition.
    """

    weights: str
    task: str
    task_version: int
    fields: dict[str, Any]
    dataset: str
    seed: int
    version: int = IDENTITY_VERSION

    @cached_property
    def digest(self) -> str:
        """20 hex digits of the sha256 of the canonical JSON of all fields."""
        values = {field: getattr(self, field) for field in self.__dataclass_fields__}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True)
class Metric:
    """One number with its interval; `n` is how many samples stand behind it.

    `interval` names how `low` and `high` were found: `wilson95`, `bootstrap95` or None.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    interval: str | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise SSLBenchError(
                    f"a metric's {name} is {number}, expected a finite number; look for NaN in the "
                    "model's features or predictions, and leave out a metric that is undefined"
                )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise SSLBenchError(f"a metric's interval runs from {self.low} down to {self.high}")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a task found out, per sample: enough to redo every score, interval and paired test.

    `columns` are arrays of equal length with unique string ids in `id`; what else `score` needs is
    usually `target`, `prediction` or `value`. `extras` hold arrays that are not per sample.
    """

    columns: dict[str, Array]
    extras: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "id" not in self.columns:
            raise SSLBenchError(f"an outcome needs the column 'id', found {sorted(self.columns)}")
        object.__setattr__(self, "columns", _arrays(self.columns))
        object.__setattr__(self, "extras", _arrays(self.extras))
        ids = self.columns["id"]
        if ids.dtype.kind != "U" or ids.ndim != 1:
            raise SSLBenchError(f"outcome ids must be strings in one row, found {ids.dtype}")
        lengths = {name: len(array) if array.ndim else 0 for name, array in self.columns.items()}
        if len(set(lengths.values())) != 1:
            raise SSLBenchError(f"outcome columns differ in length: {lengths}; extras may differ")
        unique, counts = np.unique(ids, return_counts=True)
        if len(unique) != len(ids):
            twice = unique[counts > 1][0]
            raise SSLBenchError(
                f"outcome id {str(twice)!r} occurs {counts.max()} times; every sample counts once"
            )

    def __len__(self) -> int:
        return len(self.columns["id"])

    def save(self, path: Path) -> None:
        """Writes a compressed .npz without pickles; the same outcome gives the same bytes."""
        arrays: dict[str, Any] = {f"{_COLUMN}{k}": array for k, array in self.columns.items()}
        arrays |= {f"{_EXTRA}{k}": array for k, array in self.extras.items()}
        with open(path, "wb") as stream:  # given a path, numpy would append .npz to it
            np.savez_compressed(stream, **dict(sorted(arrays.items())))

    @classmethod
    def load(cls, path: Path) -> Outcome:
        """Reads what `save` wrote; `StoreError` when it is missing or broken."""
        try:
            # numpy leaves a file that it opened itself open when the archive is broken
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return cls(_with_prefix(arrays, _COLUMN), _with_prefix(arrays, _EXTRA))
        except FileNotFoundError as error:
            raise StoreError(f"{path} is missing; delete its folder and evaluate again") from error
        except (*_BROKEN_ARCHIVE, SSLBenchError) as error:
            reason = " ".join(str(error).split())
            raise StoreError(
                f"{path} cannot be read ({reason}); delete its folder and evaluate again"
            ) from error


@dataclass(frozen=True)
class KeyReport:
    """Which tensors of a checkpoint reached the model, and why the others did not.

    `dropped` (in the file, not in the model) and `missing` (in the model, not in the file) map
    tensor names to reasons.
    """

    loaded: int
    total: int
    dropped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model came from the checkpoint."""
        return self.loaded == self.total and not self.missing


@dataclass(frozen=True)
class ModelRecord:
    """What is known of a model: where it came from, what it expects, how it was pre-trained.

    `pretrain` holds `spec` (what was trained, without what cannot change it), `dataset` (spec
    text), `manifest`, `images`, `epochs`, `effective_epochs`, `views_seen`, `steps`, `flops`,
    `seed`, `recipe` and `collapsed` (in words, or empty); None when the checkpoint does not say.
    `parameters` counts those of the evaluated network; None in records older than that.
    """

    name: str
    source: str
    family: str
    arch: str
    method: str | None
    weights: str
    input: dict[str, Any]
    pretrain: dict[str, Any] | None = None
    parameters: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values; `from_dict` reads them back."""
        return _object(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelRecord:
        """The record of a dictionary that `to_dict` gave."""
        return cls(**values)


@dataclass(frozen=True)
class Result:
    """One cell: the identity, its metrics, and everything needed to explain and compare them.

    `model` is a `ModelRecord` as dictionary; `cost` holds `seconds`, `images`,
    `peak_memory_bytes` and, where known, `flops`; `headline` names one of `metrics`.
    """

    identity: Identity
    task_spec: str
    headline: str
    metrics: dict[str, Metric]
    model: dict[str, Any]
    dataset: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.headline not in self.metrics:
            raise SSLBenchError(
                f"headline {self.headline!r} is not among the metrics {sorted(self.metrics)}"
            )

    def to_json(self) -> str:
        """Indented JSON with sorted keys, and the identity's digest for readers of the file."""
        values = {"digest": self.identity.digest, **dataclasses.asdict(self)}
        return json.dumps(_object(values), sort_keys=True, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Result:
        """The result that `to_json` wrote; `StoreError` if broken, `NewerSchema` if newer."""
        try:
            values = json.loads(text)
            schema = values["schema"]
            if schema > SCHEMA:
                raise NewerSchema(
                    f"result of schema {schema}, newer than this version's {SCHEMA}; "
                    "pip install --upgrade sslbench"
                )
            check_shape(values)
            digest = values.pop("digest")
            values["identity"] = Identity(**values["identity"])
            values["metrics"] = {k: Metric(**metric) for k, metric in values["metrics"].items()}
            result = cls(**values)
        except NewerSchema:
            raise
        except (*_BROKEN_JSON, SSLBenchError) as error:
            raise StoreError(f"not a stored result ({type(error).__name__}: {error})") from error
        if digest != result.identity.digest:
            raise StoreError(f"identity was edited: its digest is no longer {digest}")
        return result


# Numbers of any size and lists of any depth are JSON, but not a result.
_BROKEN_JSON = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
_BROKEN_ARCHIVE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def _arrays(values: Mapping[str, Any]) -> dict[str, Array]:
    """The values as arrays that a file can hold without pickling."""
    arrays = {}
    for name, value in values.items():
        array = np.asarray(value)
        if array.dtype.kind == "T":
            array = np.array(array.tolist(), dtype=np.str_)  # variable width cannot be saved
        if array.dtype.kind not in "biufcUSmM":
            raise SSLBenchError(
                f"outcome array {name!r} has type {array.dtype}; expected numbers, booleans or "
                "strings (np.array(values, dtype=str))"
            )
        arrays[name] = array
    return arrays


def _with_prefix(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}


def _object(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): _jsonable(value, str(key)) for key, value in values.items()}


def _jsonable(value: Any, where: str) -> Any:
    """Numpy scalars as numbers, tuples as lists, numbers JSON does not know (NaN) as null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_jsonable(item, where) for item in value]
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{where!r} holds a {type(value).__name__}, which JSON cannot hold")

"""The file of the index: columns of numbers and one JSON text, in an archive that knows its sums.

`numpy` writes and reads it without pickles and without compression: what its size says is what it
holds, and each part is checked against its sum when it is read.
"""

from __future__ import annotations

import itertools
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.summary import Setting, Summary

NAME = ".index.npz"
SCHEMA = 1

Folder = tuple[str, str]  # names of a model's folder and of a task's folder inside it
Look = tuple[int, int, int]  # of a folder: when it and its attributes changed (ns), its inode
Entry = tuple[Look, list[Summary]]  # how a folder looked when it was read, and the results in it
Array = npt.NDArray[Any]

_BROKEN = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(OverflowError, RecursionError, MemoryError, zipfile.BadZipFile, zlib.error),
)


def load(root: Path) -> dict[Folder, Entry]:
    """What the index of the store at `root` holds: nothing if it is missing, broken or older."""
    try:
        # numpy leaves a file that it opened itself open when the archive is broken
        with open(root / NAME, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if any(member.compress_type for member in stored.zip.infolist()):
                return {}  # none of ours, and it may grow without end
            return _entries({name: stored[name] for name in stored.files}, str(root))
    except _BROKEN:
        return {}


def save(path: Path, entries: Mapping[Folder, Entry]) -> None:
    """Writes what `load` reads; `OSError` where the disk refuses."""
    results = [summary for _, found in entries.values() for summary in found]
    settings, setting = _numbered([summary.setting for summary in results])
    models, model = _numbered([summary.model for summary in results])
    weights, weight = _numbered([summary.weights for summary in results])
    header = {
        "schema": SCHEMA,
        "folders": list(entries),
        "settings": [one.to_json() for one in settings],
        "models": models,
        "weights": weights,
    }
    numbers = [(s.value, s.low, s.high, s.seconds) for s in results]
    details = [summary.details for summary in results]
    with open(path, "wb") as stream:
        np.savez(
            stream,
            header=_bytes(json.dumps(header).encode()),
            looks=np.array([look for look, _ in entries.values()], np.int64).reshape(-1, 3),
            counts=np.array([len(found) for _, found in entries.values()], np.int64),
            shared=np.array([setting, model, weight], np.int64),
            numbers=np.array(numbers, np.float64).reshape(-1, 4),  # None becomes NaN
            digests=np.array([summary.digest for summary in results], "S20"),
            details=_bytes(b"".join(details)),
            ends=np.cumsum([0, *map(len, details)], dtype=np.int64),
        )


def _entries(arrays: Mapping[str, Array], root: str) -> dict[Folder, Entry]:
    header = json.loads(arrays["header"].tobytes())
    if header["schema"] != SCHEMA:
        return {}
    folders = [(model, task) for model, task in header["folders"]]
    counts = arrays["counts"].tolist()
    places = [f"{root}/{model}/{task}" for model, task in folders]
    spans = arrays["ends"].tolist()
    texts = arrays["details"].data
    columns = [
        *_shared(header, arrays["shared"]),
        *_floats(arrays["numbers"]),
        [place for place, count in zip(places, counts, strict=True) for _ in range(count)],
        arrays["digests"].astype("U20").tolist(),
        [texts] * len(arrays["digests"]),
        spans[:-1],
        spans[1:],
    ]
    if len({len(column) for column in columns}) != 1:
        raise ValueError("columns of different lengths")
    results = list(map(Summary, *columns))
    ends = itertools.pairwise(itertools.accumulate(counts, initial=0))
    looks = map(tuple, arrays["looks"].tolist())
    return {
        folder: (look, results[a:b])
        for folder, look, (a, b) in zip(folders, looks, ends, strict=True)
    }


def _shared(header: Mapping[str, Any], numbers: Array) -> list[list[Any]]:
    """The settings, models and weights of all results; equal numbers are one object."""
    settings = [Setting.from_json(values) for values in header["settings"]]
    objects = (settings, header["models"], header["weights"])
    return [[of[i] for i in row] for of, row in zip(objects, numbers.tolist(), strict=True)]


def _floats(numbers: Array) -> list[list[Any]]:
    """The columns as lists of numbers, None for NaN."""
    return [[None if x != x else x for x in column] for column in numbers.T.tolist()]


def _numbered(values: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The different objects, and for each value the number of its object."""
    objects = {id(value): value for value in values}
    numbers = {key: number for number, key in enumerate(objects)}
    return list(objects.values()), [numbers[id(value)] for value in values]


def _bytes(data: bytes) -> Array:
    return np.frombuffer(data, np.uint8)

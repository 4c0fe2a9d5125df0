"""Which samples of a split to keep: uniform draws, class lists and few-label lists."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import DataError

IntArray = npt.NDArray[np.int64]

_NAMED = 5  # how many offenders an error lists


def uniform(ids: Sequence[str], n: int, seed: int) -> IntArray:
    """Indices of `n` ids drawn uniformly without replacement, in rising order.

    The `n` ids whose keyed hash is smallest: the draw depends on the ids and the seed alone, not
    on their order nor on a library's random stream, and draws of one seed are nested
    (`n=100` lies inside `n=200`), which is what a data-scaling curve wants.
    """
    if not 0 < n <= len(ids):
        raise DataError(f"cannot draw {n} of {len(ids)} images: give n between 1 and {len(ids)}")
    key = f"{seed}\n".encode()
    digests = b"".join(
        hashlib.blake2b(key + id_.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        for id_ in ids
    )
    order = np.argsort(np.frombuffer(digests, dtype=">u8"), kind="stable")
    return np.sort(order[:n]).astype(np.int64)


def of_classes(
    classes: Sequence[str], targets: IntArray, path: Path
) -> tuple[IntArray, IntArray, tuple[str, ...]]:
    """Indices of the samples of the classes that a class-list file names, their targets, the names.

    One class a line; what follows the first space is a comment unless the whole line is a class
    name (`traffic light`). Targets are renumbered in the order of `classes`, so that lists of the
    same classes in another order select the same task.
    """
    if not classes:
        raise DataError(f"cannot apply the class list {path}: these images have no labels")
    known = {name: index for index, name in enumerate(classes)}
    named = [line if line in known else line.split()[0] for line in read_lines(path)]
    strange = [name for name in named if name not in known]
    if strange:
        raise DataError(
            f"class list {path} names {len(strange)} unknown classes ({_some(strange)}); the data "
            f"set's classes look like {_some(classes)}. Use a list written for this data set"
        )
    kept = sorted({known[name] for name in named})
    renumbered = np.full(len(classes) + 1, -1, dtype=np.int64)  # the last one catches target -1
    renumbered[kept] = np.arange(len(kept))
    indices = np.flatnonzero(renumbered[targets] >= 0)
    return indices, renumbered[targets[indices]], tuple(classes[index] for index in kept)


def of_list(ids: Sequence[str], classes: Sequence[str], path: Path) -> IntArray:
    """Indices of the samples that a few-label list names, in the split's order.

    Lines are bare file names as in SimCLRv2's `1percent.txt` (`n04235860_14959.JPEG`, the class
    is what stands before the last `_`), or whole ids. Names of classes that the data set does not
    have are passed over, so ImageNet's lists serve its subsets; any other missing name is an error.
    """
    by_id = {id_: index for index, id_ in enumerate(ids)}
    by_name: dict[str, int] = {}
    repeated: set[str] = set()
    for index, id_ in enumerate(ids):
        name = id_.rpartition("/")[2]
        if by_name.setdefault(name, index) != index:
            repeated.add(name)
    indices, missing = set(), []
    known = set(classes)
    for line in read_lines(path):
        if line in repeated and line not in by_id:
            raise DataError(f"list {path}: several images are called {line}; write whole ids")
        index = by_id.get(line, by_name.get(line, -1))
        if index >= 0:
            indices.add(index)
        elif "_" not in line or line.rpartition("_")[0] in known:
            missing.append(line)
    if missing or not indices:
        raise DataError(
            f"list {path}: {len(missing) or 'all'} of its images are not in this split "
            f"({_some(missing or read_lines(path))}); ids here look like {_some(ids[:1])}. "
            "Complete the data set, or use a list written for it"
        )
    return np.array(sorted(indices), dtype=np.int64)


def read_lines(path: Path) -> list[str]:
    """The lines that are neither empty nor a `#` comment."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read list {path} ({error}): give a plain text file") from error
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("#")]
    if not kept:
        raise DataError(f"list {path} is empty: one name a line is expected")
    return kept


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")

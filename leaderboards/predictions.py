"""The outcome of a cell as a table for other programs: one row a sample."""

import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np

from bench.records import Array, Outcome

FIRST = ("id", "target", "prediction", "value")


def table(outcome: Outcome) -> bytes:
    """CSV with a header: id, target, prediction, their class names, value, then all else.

    Every column of the outcome with one value a sample is there; numbers are unrounded, truths are
    `true` and `false`. A number that is no class (-1: no label) has an empty name, and so have all
    classes of outcomes that were stored without names.
    """
    columns = {name: list(_texts(array)) for name, array in _ordered(outcome)}
    names = class_names(outcome)
    shown: dict[str, Sequence[str]] = {}
    for name, texts in columns.items():
        shown[name] = texts
        if name in ("target", "prediction") and is_class(outcome.columns[name]):
            shown[f"{name}_class"] = [_named(int(text), names) for text in texts]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(shown)
    writer.writerows(zip(*shown.values(), strict=True))
    # Ids are file names, which need not be UTF-8: they come back as the bytes that they were.
    return stream.getvalue().encode("utf-8", "surrogateescape")


def class_names(outcome: Outcome) -> tuple[str, ...]:
    """The names of the classes, in the order that targets and predictions count; () if unknown."""
    return tuple(str(name) for name in outcome.extras.get("class_names", ()))


def is_class(column: Array) -> bool:
    """Whether a column holds one class number a sample."""
    return column.ndim == 1 and column.dtype.kind in "iu"


def _ordered(outcome: Outcome) -> Iterator[tuple[str, Array]]:
    names = [name for name in FIRST if name in outcome.columns]
    for name in [*names, *(name for name in outcome.columns if name not in FIRST)]:
        if outcome.columns[name].ndim == 1:
            yield name, outcome.columns[name]


def _texts(column: Array) -> Iterator[str]:
    if column.dtype.kind == "b":
        return (str(value).lower() for value in column.tolist())
    if column.dtype.kind == "S":
        return (value.decode("utf-8", "surrogateescape") for value in column.tolist())
    if column.dtype.kind == "f":
        return (str(np.format_float_positional(value, trim="-")) for value in column)
    return (str(value) for value in column.tolist())


def _named(number: int, names: Sequence[str]) -> str:
    return names[number] if 0 <= number < len(names) else ""

"""Annotation files in JSON: read whole, with every failure named after its file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import DataError


@contextmanager
def reading(path: Path, what: str, drop: Collection[str] = ()) -> Iterator[Any]:
    """The JSON file's content; whatever is amiss with it in the block becomes a `DataError`.

    Args:
        path: the file.
        what: what the file holds, for the error ("COCO annotations").
        drop: fields that are left out while reading; without outlines, a tenth of the memory.
    """

    def without(record: dict[str, Any]) -> dict[str, Any]:
        for name in drop:
            record.pop(name, None)
        return record

    try:
        yield json.loads(path.read_bytes(), object_hook=without if drop else None)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(
            f"cannot read {what} {path} ({type(error).__name__}: {error}): unpack the official "
            "archive again"
        ) from error

"""Parts of a stored result as the JSON text that its file holds, without reading the rest of it.

A site shows every result whole, and of a hundred thousand it cannot parse and write each anew: most
of what made a result also made the others of its model, so equal texts are kept once.
"""

import json
import os
from functools import lru_cache
from typing import NamedTuple

from bench.store import RESULT_FILE
from bench.summary import Summary

# What differs between results even when all else that made them is alike.
_OWN = ("command_line", "started")
_BLOCK = 1 << 14  # bytes: most results are smaller


class Origin(NamedTuple):
    """JSON of what a result was measured on, of what made it, and of what only it has of that."""

    dataset: str
    made: str
    own: str


def origin(summary: Summary) -> Origin:
    """Data and provenance of a result; `own` is when it was started and by which command."""
    text = _read(summary.folder)
    own = []
    try:
        dataset, made = _part(text, "dataset"), _part(text, "provenance")
        for name in _OWN:
            start = made.find(f'\n  "{name}": "')
            if start >= 0:
                end = made.index("\n", start + 1)
                own.append(made[start:end].rstrip(","))
                made = made[:start] + made[end:]
        own_text = f"{{{','.join(own)}}}"
        json.loads(own_text)
        made = made.replace(",\n }", "\n }")
        return Origin(_compact(dataset), _compact(made), own_text)
    except ValueError:  # written by other hands
        whole = summary.full
        return Origin(json.dumps(whole.dataset), json.dumps(whole.provenance), "{}")


@lru_cache(maxsize=1024)
def _compact(text: str) -> str:
    return json.dumps(json.loads(text), separators=(",", ":"))


def _part(text: str, name: str) -> str:
    """A part of a result, which `Result.to_json` indents by one blank: no text holds a new line."""
    head = f'\n "{name}": '
    start = text.index(head) + len(head)
    return "{}" if text.startswith("{}", start) else text[start : text.index("\n }", start) + 3]


def _read(folder: str) -> str:
    """The file of a result; empty where there is none that can be read."""
    if not folder:
        return ""
    try:
        file = os.open(f"{folder}/{RESULT_FILE}", os.O_RDONLY)  # three times as fast as open()
        try:
            parts = [os.read(file, _BLOCK)]
            while len(parts[-1]) == _BLOCK:
                parts.append(os.read(file, _BLOCK))
        finally:
            os.close(file)
        return b"".join(parts).decode()
    except (OSError, ValueError):
        return ""

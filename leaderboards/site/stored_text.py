"""Parts of a stored result as the JSON text that its file holds, without reading the rest of it.

A site shows every result whole, and of a hundred thousand it cannot parse and write each anew: most
of what made a result also made the others of its model, so equal texts are kept once.
"""

import json
from functools import lru_cache
from typing import NamedTuple

from bench.store import RESULT_FILE
from bench.summary import Summary

# What differs between results even when all else that made them is alike.
_OWN = ("command_line", "started")


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
        made = made.replace(",\n }", "\n }")
        return Origin(_compact(dataset), _compact(made), _compact(f"{{{','.join(own)}}}"))
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
    """The file of a result; empty where there is none, or where `Summary.full` tells what is wrong."""
    if not folder:
        return ""
    try:
        with open(f"{folder}/{RESULT_FILE}", "rb", buffering=0) as file:
            return file.readall().decode()
    except (OSError, ValueError):
        return ""

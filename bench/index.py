"""The results of a store in brief, from an index that saves reading every folder every time.

    results/.index.npz

The folders stay the only truth. The index says what they held when they were read and how they
looked to the file system then; what looks otherwise now is read again. Whatever is wrong with the
file, it is left aside and written anew; where it cannot be written, the folders are read. It comes
to its name whole (temporary folder, rename), so any number of processes may bring it up to date at
once: the last one stays, and what it lacks is read again.

A task's folder changes for the file system whenever a result is added, taken away or replaced.
What is *not* noticed is a file edited inside the folder of a result: `verify` reads everything
again. A folder is kept in the index only if

- it had been quiet for two seconds when it was read, since two changes within one tick of the file
  system's clock look the same (git calls such an entry racy);
- nothing in it was damaged: what is damaged is looked at, and told, every time.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from bench import index_file
from bench.index_file import Entry, Folder, Look
from bench.records import Result
from bench.store import TMP, Store
from bench.summary import Setting, Summary

T = TypeVar("T")

_QUIET_NS = 2_000_000_000


def summaries(store: Store, verify: bool = False) -> list[Summary]:
    """A summary of each whole result, in the order of `Store.results`.

    `store.problems` tells what could not be used. `verify` reads every folder, whatever the index
    says of it.
    """
    store.problems = []
    began = time.monotonic_ns()
    known = index_file.load(store.root)
    interned: _Interned | None = None
    found: list[Summary] = []
    kept: dict[Folder, Entry] = {}
    fresh: dict[Folder, Entry] = {}
    for folder in store.task_folders():
        place = f"{store.root}/{folder[0]}/{folder[1]}"
        if (look := _look(place)) is None:
            continue
        entry = known.get(folder)
        if entry is not None and entry[0] == look and not verify:
            kept[folder] = entry
        else:
            interned = interned or _Interned(known)
            problems = len(store.problems)
            entry = look, [interned.summary(r, place) for r in store.results_in(*folder)]
            if len(store.problems) == problems:
                fresh[folder] = entry
        found += entry[1]
    gone = len(kept) < len(known)
    if gone or (fresh and found):  # nothing is left in a folder that is no store
        _keep(store.root, kept, fresh, began, gone)
    return found


def _look(place: str) -> Look | None:
    """How a folder looks to the file system; None for what is no folder, or gone."""
    try:
        found = os.stat(place)
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino % 2**63


def _keep(
    root: Path, kept: dict[Folder, Entry], fresh: dict[Folder, Entry], began: int, gone: bool
) -> None:
    """Writes the index anew, less the folders that were not quiet when the reading began."""
    tmp = root / TMP / f"index-{secrets.token_hex(8)}"
    try:
        tmp.mkdir(parents=True)
        # The clock that counts is the file system's, which may be another machine's.
        start = tmp.stat().st_mtime_ns - (time.monotonic_ns() - began)
        quiet = {f: e for f, e in fresh.items() if max(e[0][:2]) < start - _QUIET_NS}
        if quiet or gone:
            index_file.save(tmp / "index", dict(sorted((kept | quiet).items())))
            os.replace(tmp / "index", root / index_file.NAME)
    except OSError:
        pass  # a store that is read only, or full: its folders can be read
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


class _Interned:
    """Equal settings, models and digests of weights, each as one object."""

    def __init__(self, known: Mapping[Folder, Entry]) -> None:
        self._settings: dict[object, list[Setting]] = {}
        self._models: dict[object, list[dict[str, Any]]] = {}
        self._weights: dict[str, str] = {}
        results = [summary for _, found in known.values() for summary in found]
        for summary in {id(one.setting): one for one in results}.values():
            self._intern(summary)
        for summary in {id(one.model): one for one in results}.values():
            self._intern(summary)

    def summary(self, result: Result, place: str) -> Summary:
        """The summary of a result that lies in a task's folder."""
        return self._intern(Summary.of(result, place))

    def _intern(self, new: Summary) -> Summary:
        of, weights = new.setting, new.weights
        own = (of.measurement, of.seed, of.version, of.task_spec, *of.warnings)
        settings = self._settings.setdefault(own, [])
        new.setting = _first(settings, lambda other: other.fields == of.fields, of)
        models = self._models.setdefault((new.model["name"], weights), [])
        new.model = _first(models, lambda other: other == new.model, new.model)
        new.weights = self._weights.setdefault(weights, weights)
        return new


def _first(known: list[T], fits: Callable[[T], bool], new: T) -> T:
    """The first that fits; where none does, the new one, which is then known."""
    for one in known:
        if fits(one):
            return one
    known.append(new)
    return new

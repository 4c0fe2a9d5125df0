"""The store of results: one folder per cell, whole or not there at all.

    results/<model>/<task>/<identity digest>/{result.json, outcome.npz}

A result is written to a temporary folder, flushed to the disk and renamed, so a killed process
leaves nothing that can be taken for a result, and any number of processes may write into one store
at once, also over a shared file system. The folders are the only truth: there is nothing beside
them to keep in step, and copying folders between stores is a merge.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from bench.disk import flush
from bench.errors import NewerSchema, StoreError
from bench.records import Identity, Outcome, Result

RESULT_FILE, OUTCOME_FILE = "result.json", "outcome.npz"
#: What is being written, and what killed processes left of it.
TMP = ".tmp"

_STALE_SECONDS = 24 * 3600  # no write takes a day: what is older belongs to a killed process
_LONGEST_NAME = 120  # file systems end at 255 bytes


class Store:
    """Results below one folder, which need not exist yet.

    `problems` lists, after `results()` ran to its end, what was found but could not be used:
    damaged folders, and results of a newer version.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.problems: list[str] = []
        self._swept = False

    def path(self, identity: Identity, model: str) -> Path:
        """The folder of a cell, whether it is there or not."""
        return self.root / slug(model) / slug(identity.task) / identity.digest

    def has(self, identity: Identity) -> bool:
        """Whether a whole result of this identity is stored, under any model name."""
        return self.get(identity) is not None

    def get(self, identity: Identity) -> Result | None:
        """The stored result of this identity, or None when there is none or it is broken.

        Raises `NewerSchema` when a newer version wrote it: it must not be computed over.
        """
        tail = os.path.join(slug(identity.task), identity.digest)
        # a plan asks for thousands of cells: strings, for they are ten times faster than paths
        for model in _names(self.root):
            folder = os.path.join(self.root, model, tail)
            if os.path.isdir(folder):
                try:
                    return read_result(folder)
                except NewerSchema as error:
                    raise NewerSchema(f"{os.path.join(model, tail)}: {error}") from error
                except StoreError as error:
                    if (problem := _problem(os.path.join(model, tail), error)) not in self.problems:
                        self.problems.append(problem)
        return None

    def write(self, result: Result, outcome: Outcome) -> Path:
        """Stores one cell atomically; returns its folder.

        Where the identity is already stored under this model, that one stays and this one is
        dropped; a broken folder in its place is replaced. `StoreError` when the disk refuses, with
        nothing left behind.
        """
        final = self.path(result.identity, str(result.model["name"]))
        text = result.to_json()
        tmp = self.root / TMP / f"{final.name}-{secrets.token_hex(8)}"
        try:
            self._sweep()
            tmp.mkdir(parents=True)
            outcome.save(tmp / OUTCOME_FILE)
            (tmp / RESULT_FILE).write_text(text, encoding="utf-8")
            for written in (tmp / OUTCOME_FILE, tmp / RESULT_FILE, tmp):
                flush(written)
            final.parent.mkdir(parents=True, exist_ok=True)
            _publish(tmp, final)
            for folder in (final.parent, final.parent.parent, self.root):
                flush(folder)
        except OSError as error:
            raise StoreError(self._advice(error)) from error
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
        return final

    def results(self) -> Iterator[Result]:
        """All whole results, sorted by folder; what cannot be used is told in `problems`."""
        self.problems = []
        for model, task in self.task_folders():
            yield from self.results_in(model, task)

    def task_folders(self) -> Iterator[tuple[str, str]]:
        """(model, task), the names of all folders that may hold results, sorted."""
        for model in _names(self.root):
            try:
                tasks = _names(os.path.join(self.root, model))
            except OSError as error:
                self.problems.append(_problem(model, error))
            else:
                for task in tasks:
                    yield model, task

    def results_in(self, model: str, task: str) -> Iterator[Result]:
        """The whole results of one such folder, sorted; adds what cannot be used to `problems`."""
        place = os.path.join(model, task)
        try:
            folders = [os.path.join(place, name) for name in _names(os.path.join(self.root, place))]
        except OSError as error:
            self.problems.append(_problem(place, error))
            return
        for folder in folders:
            path = os.path.join(self.root, folder)
            if os.path.isdir(path):
                try:
                    yield read_result(path)
                except StoreError as error:
                    self.problems.append(_problem(folder, error))

    def outcome(self, result: Result) -> Outcome:
        """The per-sample outcome stored with a result; `StoreError` when it is broken."""
        folder = self.path(result.identity, str(result.model["name"]))
        return Outcome.load(folder / OUTCOME_FILE)

    def _sweep(self) -> None:
        """Removes what processes killed long ago left in the temporary folder."""
        if self._swept:
            return
        self._swept = True
        oldest = time.time() - _STALE_SECONDS
        for left in _subfolders(self.root / TMP):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                if left.stat().st_mtime < oldest:
                    shutil.rmtree(left, ignore_errors=True)

    def _advice(self, error: OSError) -> str:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"result not stored in {self.root}: {reason}; free some space and run the same "
                "command again: it continues with this cell"
            )
        return f"result not stored in {self.root}: {reason}; give --results a writable folder"


def slug(name: str) -> str:
    """A name as a folder name: other letters than `A-Za-z0-9.+=@-` become `_`."""
    folder = re.sub(r"[^A-Za-z0-9.+=@-]+", "_", name).lstrip(".")[:_LONGEST_NAME]
    return folder or "_"


def read_result(folder: Path | str) -> Result:
    """The result of a folder; `StoreError` says what is broken, `NewerSchema` who wrote it."""
    try:
        with open(os.path.join(folder, RESULT_FILE), encoding="utf-8") as stream:
            result = Result.from_json(stream.read())
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{RESULT_FILE} cannot be read ({error})") from error
    if not os.path.isfile(os.path.join(folder, OUTCOME_FILE)):
        raise StoreError(f"{OUTCOME_FILE} is missing")
    if result.identity.digest != os.path.basename(folder):
        raise StoreError(f"holds the result of another identity, {result.identity.digest}")
    return result


def _problem(folder: str, error: OSError | StoreError) -> str:
    """What is wrong with a folder below the root, in a line."""
    reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else error
    return " ".join(f"{folder}: {reason}".split())


def _publish(tmp: Path, final: Path) -> None:
    """Moves a whole folder into its place, unless a whole one is there already."""
    if _rename(tmp, final):
        return
    try:
        read_result(final)
    except NewerSchema:
        raise
    except StoreError:
        # Two processes may both find it broken; then the second moves the first one's whole result
        # aside and puts its own there, which is as good.
        aside = tmp.with_name(f"{tmp.name}-replaced")
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, aside)
        _rename(tmp, final)
        shutil.rmtree(aside, ignore_errors=True)


def _rename(source: Path, target: Path) -> bool:
    """Renames a folder; False when a folder with content is in the way."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    return True


def _names(folder: Path | str) -> list[str]:
    """The visible names inside a folder, sorted; none when it is not there."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _subfolders(folder: Path) -> list[Path]:
    """The visible folders inside a folder, sorted."""
    return [folder / name for name in _names(folder) if os.path.isdir(folder / name)]

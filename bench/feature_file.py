"""A feature matrix on disk while it is filled: rows land in place, a list says which.

    KEY.part/feat.npy       (n, d) float16, all rows from the start, zeros where nothing was written
    KEY.part/done-R.jsonl   what process R has written and fsynced, one line a shard
    KEY/                    the same folder with ids, labels and card, renamed once all is there

A killed process loses the shard it was in, and nothing else.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.disk import flush
from bench.errors import StoreError

Rows = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float16]
FEATURES, CARD = "feat.npy", "card.json"


def runs(rows: Rows) -> list[tuple[int, int]]:
    """[(start, stop), ...] of ascending rows: [3, 4, 5, 9] -> [(3, 6), (9, 10)]."""
    if len(rows) == 0:
        return []
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(rows, cuts)]


class PartialFeatures:
    """The `.part` folder of one feature matrix of shape `shape`; any number of processes may write.

    Only the main process calls `create` (before the others) and `finish` (after them).
    """

    def __init__(self, folder: Path, shape: tuple[int, int], rank: int = 0) -> None:
        self.final = folder
        self.folder = folder.with_name(f"{folder.name}.part")
        self.shape = shape
        self._log = self.folder / f"done-{rank}.jsonl"

    def create(self) -> None:
        """Makes the folder and the matrix unless a process that was killed left them."""
        path = self.folder / FEATURES
        if path.exists():
            return
        need = 2 * self.shape[0] * self.shape[1]
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise StoreError(
                f"features need {need / 1e9:.1f} GB, {self.folder.parent} has {free / 1e9:.1f} GB "
                "free: make room or choose another folder for the cache"
            )
        header = {"descr": "<f2", "fortran_order": False, "shape": self.shape}
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            stream.truncate(stream.tell() + need)
        os.replace(temporary, path)

    def missing(self) -> Rows:
        """Rows that no process has written yet; those of unreadable images are tried again."""
        todo = np.ones(self.shape[0], dtype=bool)
        for record in self._records():
            for start, stop in record["runs"]:
                todo[start:stop] = False
        todo[list(self.bad())] = True
        return np.flatnonzero(todo)

    def bad(self) -> dict[int, str]:
        """Row -> reason of the images that could not be read and were not written since."""
        found: dict[int, str] = {}
        for record in self._records():
            for start, stop in record["runs"]:
                for row in [row for row in found if start <= row < stop]:
                    del found[row]
            found |= {int(row): reason for row, reason in record["bad"].items()}
        return found

    def write(self, rows: Rows, values: Matrix, bad: Mapping[int, str]) -> None:
        """Writes one shard: ascending `rows` (m,), `values` (m, d) and the rows that are bad.

        The matrix reaches the disk before the list says so.
        """
        width = 2 * self.shape[1]
        try:
            with open(self.folder / FEATURES, "r+b") as stream:
                np.lib.format.read_magic(stream)
                np.lib.format.read_array_header_1_0(stream)
                origin, taken = stream.tell(), 0
                # Written, not mapped: a full disk is then an error, through a map it is a SIGBUS.
                for start, stop in runs(rows):
                    stream.seek(origin + start * width)
                    stream.write(np.ascontiguousarray(values[taken : taken + stop - start]).data)
                    taken += stop - start
                stream.flush()
                os.fsync(stream.fileno())
            record = {"runs": runs(rows), "bad": {str(row): why for row, why in bad.items()}}
            with open(self._log, "a") as stream_log:
                # The newline comes first: a line that a kill cut short stays a line of its own.
                stream_log.write("\n" + json.dumps(record))
                stream_log.flush()
                os.fsync(stream_log.fileno())
        except OSError as error:
            raise self._full(error) from error

    def finish(self, card: Mapping[str, Any], ids: Sequence[str], targets: Rows) -> None:
        """Adds ids, labels and the card, then gives the folder its final name.

        StoreError when a row was never written.
        """
        bad = self.bad()
        left = set(self.missing().tolist()) - set(bad)
        if left:
            raise StoreError(f"{self.folder}: {len(left)} rows were not written; run it again")
        reasons = {str(row): reason for row, reason in sorted(bad.items())}
        try:
            np.save(self.folder / "targets.npy", targets.astype(np.int32))
            (self.folder / "ids.json").write_text(json.dumps(ids))
            (self.folder / CARD).write_text(json.dumps({**card, "bad": reasons}) + "\n")
            for path in (*self.folder.iterdir(), self.folder):
                flush(path)
            os.rename(self.folder, self.final)
            flush(self.final.parent)
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write {self.folder} ({error.strerror}): make room and run the same command, "
            "which continues here"
        )

    def _records(self) -> Iterator[dict[str, Any]]:
        for log in sorted(self.folder.glob("done-*.jsonl")):
            for line in log.read_text().splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # empty, or cut short by a kill

"""Tasks that measure something on every image by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from bench import dist
from bench.disk import whole_file
from bench.errors import DataError
from bench.feature_table import too_many_bad
from bench.progress import Progress, say

if TYPE_CHECKING:
    from bench.split import Split
    from bench.task import TaskData

Array = npt.NDArray[Any]
Measured = Mapping[str, Any]  # one value or array of fixed shape for each name


class Batch(Protocol):
    """What is asked of a batch here."""

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """(b,) places of its images in the split."""


B = TypeVar("B", bound=Batch)


@dataclass
class Kept:
    """What a cell has found so far, in its workspace: a killed cell continues behind it.

    Without a folder nothing is kept on the disk, and a killed cell starts anew. A piece that the
    disk does not take or give back is only said, and made again after a kill.
    """

    folder: Path | None
    pieces: dict[str, dict[str, Array]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.folder is not None:
            for path in sorted(self.folder.glob("*.npz")):
                try:
                    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                        self.pieces[path.stem] = dict(stored)
                except Exception as error:  # whatever is wrong with the file, it can be made anew
                    say(f"{path} cannot be read ({type(error).__name__}): made anew")

    def keep(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Adds a piece, on the disk whole or not at all."""
        self.pieces[name] = dict(arrays)
        if self.folder is not None:
            try:
                with whole_file(self.folder / f"{name}.npz") as file:
                    np.savez(file, **dict(arrays))
            except OSError as error:
                say(f"{name} is not kept ({error}): make room for a resume")


def each_image(
    data: TaskData,
    split: Split,
    batches: Callable[[npt.NDArray[np.int64]], Iterator[B]],
    measure: Callable[[int, B, int], Measured],
    label: str,
    seconds: float = 10.0,
) -> tuple[npt.NDArray[np.int64], dict[str, Array]]:
    """What `measure` finds on every readable image: (rows (n,), columns (n, ...)), rows rising.

    Under a process group each process measures its share and all get everything. DataError when
    more images are unreadable than are allowed, those of all processes together.

    Args:
        data: whose workspace keeps what was measured.
        split: the images.
        batches: the asked rows in any order, with what is measured (`bench.maps.map_batches`).
        measure: (row, batch, place in the batch) -> values; the same names and shapes every time.
        label: for the progress line.
        seconds: after which what was measured goes to the disk.
    """
    folder = data.workspace / f"rank{dist.rank()}" if data.workspace is not None else None
    if folder is not None:
        folder.mkdir(exist_ok=True)
    kept = Kept(folder)
    share = np.asarray(dist.shard(len(split)), dtype=np.int64)
    done = [piece["row"] for piece in kept.pieces.values()]
    open_rows = np.setdiff1d(share, np.concatenate(done) if done else share[:0])
    waiting: list[dict[str, Any]] = []
    clock = time.monotonic()

    def flush() -> None:
        if waiting:
            names = waiting[0]
            columns = {name: np.stack([entry[name] for entry in waiting]) for name in names}
            kept.keep(f"rows-{waiting[0]['row']:09d}", columns)
            waiting.clear()

    with Progress(label, len(share), len(share) - len(open_rows)) as progress:
        for batch in batches(open_rows) if len(open_rows) else ():
            for place, row in enumerate(batch.rows.tolist()):
                values = measure(row, batch, place)
                waiting.append({"row": np.int64(row)} | {k: np.asarray(values[k]) for k in values})
            progress.advance(len(batch.rows))
            if time.monotonic() - clock > seconds:
                flush()
                clock = time.monotonic()
    flush()
    rows, columns = _gathered(kept, split)
    if dist.world_size() > 1:  # each process has counted its own unreadable images
        for reasons in dist.all_gather_object(list(data.skipped)):
            data.skipped.update(dict.fromkeys(reasons))
        if (bad := len(split) - len(rows)) > data.skip_bad:
            raise too_many_bad(next(reversed(data.skipped)), bad, data.skip_bad)
    return rows, columns


def _gathered(kept: Kept, split: Split) -> tuple[npt.NDArray[np.int64], dict[str, Array]]:
    parts = [part for parts in dist.all_gather_object(list(kept.pieces.values())) for part in parts]
    if not parts:
        raise DataError(f"{split.name} {split.split}: none of its {len(split)} images is readable")
    rows = np.concatenate([part["row"] for part in parts])
    rows, order = np.unique(rows, return_index=True)
    names = [name for name in parts[0] if name != "row"]
    return rows, {name: np.concatenate([p[name] for p in parts])[order] for name in names}

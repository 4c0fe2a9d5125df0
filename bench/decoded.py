"""Small image sets decoded once: later epochs copy pixels instead of decoding files again.

Pixels are exactly those of `Split.image`, so no number depends on whether this is used. They lie
one after the other in one file that all loader processes map, or in memory where there is no folder
for it; sets that exceed the budget are read as before.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.disk import locked, whole_file
from bench.errors import DataError
from bench.progress import Progress, say
from bench.split import Split

BUDGET_BYTES = 2 * 2**30
ABI = 1  # raised when decoding gives other pixels
_PROBED = 32  # images that tell how large the whole set is
_AHEAD = 8  # images that each thread decodes before they are asked for

Pixels = npt.NDArray[np.uint8]
_NONE: Pixels = np.empty(0, dtype=np.uint8)


class Images(Protocol):
    """What a loader asks of a split."""

    def image(self, index: int) -> Image.Image:
        """The image at this index, RGB."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A split whose images are copied from decoded pixels; unreadable ones fail as in the split.

    Picklable: another process maps the file again.

    Attributes:
        split: what was decoded.
        places: (n, 3) offset of an image's first byte, its height and width; offset -1 where it
            could not be read.
        path: the file of pixels, or None when they are in memory.
    """

    split: Split
    places: npt.NDArray[np.int64]
    path: Path | None = None
    _held: dict[str, Pixels] = field(default_factory=dict, repr=False)

    def image(self, index: int) -> Image.Image:
        """A copy of the decoded image, RGB."""
        offset, height, width = (int(number) for number in self.places[index])
        if offset < 0:
            return self.split.image(index)
        flat = self._pixels()[offset : offset + 3 * height * width]
        return Image.fromarray(flat.reshape(height, width, 3))

    def _pixels(self) -> Pixels:
        if "pixels" not in self._held:
            assert self.path is not None
            # An empty file, of a set without a readable image, cannot be mapped: never asked for.
            self._held["pixels"] = np.memmap(self.path, dtype=np.uint8, mode="r")
        return self._held["pixels"]

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self.path is not None:
            state["_held"] = {}  # pickled, a map would become a copy
        return state


def decode_once(
    split: Split,
    folder: Path | None = None,
    budget_bytes: int = BUDGET_BYTES,
    workers: int = 0,
) -> Images:
    """The split with its images decoded, or the split itself where they exceed the budget.

    Args:
        split: what is read many times.
        folder: where decoded sets are kept, each under the hash of its content; None is memory.
        budget_bytes: the most that one set may take; 0 turns it off.
        workers: threads that decode.
    """
    if not len(split) or _estimate(split) > budget_bytes:
        return split
    if folder is None:
        rows: list[Pixels] = []
        places = _decode(split, workers, rows.append)
        return Decoded(split, places, None, {"pixels": np.concatenate([_NONE, *rows])})
    text = "\n".join([str(ABI), split.manifest, *split.ids])
    name = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    path, index = folder / f"{name}.rgb", folder / f"{name}.npy"
    if not (index.exists() and path.exists()):
        try:
            with locked(folder / name, f"decodes {split.name}"):
                if not (index.exists() and path.exists()):
                    _write(split, path, index, workers)
        except OSError as error:
            say(f"decoded images of {split.name} cannot be kept ({error}): decoding every epoch")
            return split
    return Decoded(split, np.load(index, allow_pickle=False), path)


def _write(split: Split, path: Path, index: Path, workers: int) -> None:
    """Both files, the pixels first: where there is an index, all is there."""
    with whole_file(path) as file:
        places = _decode(split, workers, lambda flat: file.write(flat.data))
    with whole_file(index) as file:
        np.save(file, places)


def _decode(split: Split, workers: int, keep: Callable[[Pixels], object]) -> npt.NDArray[np.int64]:
    """Hands all images to `keep`, flat and in their order; (n, 3) where each lies."""
    places = np.full((len(split), 3), -1, dtype=np.int64)
    end = 0
    with Progress(f"decode {split.name}", len(split)) as progress:
        for row, pixels in enumerate(_in_order(split, max(workers, 1))):
            if pixels is not None:
                places[row] = (end, *pixels.shape[:2])
                keep(pixels.reshape(-1))
                end += pixels.size
            progress.advance()
    return places


def _in_order(split: Split, threads: int) -> Iterator[Pixels | None]:
    """(h, w, 3) of each image, None where it cannot be read; a few are decoded ahead."""
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        waiting: deque[Future[Pixels | None]] = deque()
        for row in range(len(split)):
            waiting.append(pool.submit(_read, split, row))
            if len(waiting) > _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(split: Split, row: int) -> Pixels | None:
    try:
        return np.asarray(split.image(row))
    except DataError:
        return None


def _estimate(split: Split) -> float:
    """Bytes of all images decoded, from a few of them that lie evenly in the split."""
    rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), _PROBED)).astype(np.int64))
    sizes = [pixels.size for row in rows if (pixels := _read(split, int(row))) is not None]
    return len(split) * float(np.mean(sizes)) if sizes else 0.0

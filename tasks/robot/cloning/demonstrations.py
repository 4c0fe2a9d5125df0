"""The demonstrations of one task: made once, kept beside the features, read frame by frame."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import count as counted
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.disk import locked, whole_file
from bench.errors import DataError
from bench.progress import say
from bench.split import Split, Table
from tasks.robot.cloning.demonstration import Demonstration
from tasks.robot.cloning.recordings import READER_VERSION, digest, recorded
from tasks.robot.simulators.rules import Rules
from tasks.robot.simulators.simulator import Frame, versions_of

#: Raised when a scripted expert, or how a demonstration is made, changes.
EXPERT_VERSION = 2
_NOTES = "notes.txt"  # beside the episodes, where there is something to say of them
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Origin:
    """What the demonstrations of a task are made from: all that can change them.

    Attributes:
        rules: of the task.
        noise: standard deviation of what is added to an expert's action before it is executed.
        file: of others' demonstrations, which are read instead.
    """

    rules: Rules
    noise: float
    file: Path | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """For the key of the cache, and for the identity of results."""
        if self.file is not None:
            return {"file": digest(self.file), "reader": READER_VERSION}
        return {"expert": EXPERT_VERSION, "noise": self.noise}

    def folder(self, root: Path) -> Path:
        """Where they are kept below the cache."""
        facts = [self.facts, asdict(self.rules), versions_of(self.rules.suite)]
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        return root / "demonstrations" / f"{self.rules.suite}-{self.rules.name}-{key}"


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """The first so many demonstrations of a folder; frames stay on the disk.

    Attributes:
        folder: holds a file for each.
        name: of the task.
        seeds: (m,) of each episode.
        lengths: (m,) decisions of each.
        actions: (n, a) float32 labels, all episodes one behind the other.
        states: (n, s) float64.
        digest: of all that a policy learns from them, pixels included.
        notes: what is to be said of how they were made.
    """

    folder: Path
    name: str
    seeds: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    actions: npt.NDArray[np.float32]
    states: npt.NDArray[np.float64]
    digest: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Path, name: str, count: int) -> Demonstrations:
        """Those that are there; DataError names a file that cannot be read."""
        learned = ("checksums", "actions", "states")
        parts = [_read(path, "seed", *learned) for path in files(folder)[:count]]
        whole = hashlib.sha256()
        for part in parts:
            for key in learned:
                whole.update(f"{key}{part[key].shape}".encode())
                whole.update(np.ascontiguousarray(part[key]).tobytes())
        return cls(
            folder,
            name,
            np.array([int(part["seed"]) for part in parts], dtype=np.int64),
            np.array([len(part["actions"]) for part in parts], dtype=np.int64),
            np.concatenate([part["actions"] for part in parts]),
            np.concatenate([part["states"] for part in parts]),
            whole.hexdigest(),
            _notes(folder),
        )

    def split(self) -> Split:
        """Every frame as an image, in the order of `actions`."""
        source = Frames(self.folder, len(self.lengths))
        return Split.open(source, "train", f"{self.name} demonstrations")

    def frames(self) -> npt.NDArray[np.uint8]:
        """(n, frame_px, frame_px, 3) all of them, in memory."""
        paths = files(self.folder)[: len(self.lengths)]
        return np.concatenate([_read(path, "frames")["frames"] for path in paths])

    def first_frame(self) -> Frame:
        """What was seen at the start of the first episode."""
        return np.array(_frames(files(self.folder)[0])[0])


class Frames:
    """The frames of demonstrations as the source of a split (`bench.split.Source`).

    A frame's size in the manifest is the checksum of its pixels: features of frames that another
    driver drew are never taken for those of these.
    """

    split_id = "seeds"

    def __init__(self, root: Path, count: int) -> None:
        self.root, self.count = root, count

    def scan(self, split: str) -> Table:
        """`<episode>/<decision>` for every frame."""
        paths = files(self.root)[: self.count]
        sums = [_read(path, "checksums")["checksums"] for path in paths]
        ids = tuple(
            f"{path.stem}/{step:04d}"
            for path, sizes in zip(paths, sums, strict=True)
            for step in range(len(sizes))
        )
        sizes = np.concatenate(sums).astype(np.int64)
        return Table(ids, ids, np.full(len(ids), -1), (), sizes)

    def image(self, split: str, key: str) -> Image.Image:
        """One frame."""
        episode, _, step = key.partition("/")
        return Image.fromarray(_frames(self.root / f"{episode}.npz")[int(step)])


def _notes(folder: Path) -> tuple[str, ...]:
    try:
        return tuple((folder / _NOTES).read_text().splitlines())
    except FileNotFoundError:
        return ()


def files(folder: Path) -> list[Path]:
    """The episodes that are there, whole, in their order, up to the first that is missing."""
    return list(takewhile(Path.exists, (folder / f"{number:05d}.npz" for number in counted())))


def demonstrations(origin: Origin, count: int, root: Path, workers: int) -> Demonstrations:
    """The first `count` demonstrations; those that are not there yet are made now.

    An interrupted collection goes on behind the last episode that was finished.

    Raises:
        DataError: the expert fails too often, or a file of others' does not fit.
    """
    folder = origin.folder(root)
    if len(files(folder)) < count:
        with locked(folder, f"collects demonstrations of {origin.rules.name}"):
            folder.mkdir(parents=True, exist_ok=True)
            for number, episode in _missing(origin, folder, count, workers):
                _write(folder / f"{number:05d}.npz", episode)
    return Demonstrations.of(folder, origin.rules.name, count)


def _missing(
    origin: Origin, folder: Path, count: int, workers: int
) -> Iterator[tuple[int, Demonstration]]:
    """(place, demonstration) of those that are not there, in their order."""
    from tasks.robot.cloning.crew import Crew
    from tasks.robot.cloning.rollouts import collect

    there = files(folder)
    if len(there) >= count:  # another process was quicker
        return
    if origin.file is not None:
        found = enumerate(recorded(origin.file, origin.rules, count))
        yield from islice(found, len(there), None)
        return
    if there:
        say(f"{origin.rules.name}: continuing behind {len(there)} of {count} demonstrations")
    first = int(_read(there[-1], "seed")["seed"]) + 1 if there else 0
    label = f"demonstrations {origin.rules.name}"
    lacking = count - len(there)
    with Crew(origin.rules, "frame", min(workers, lacking)) as crew:
        before = (first, len(there))
        new = collect(crew, counted(first), lacking, origin.noise, label, before)
        for number, episode in enumerate(new, len(there)):
            if told := dict.fromkeys([*_notes(folder), *crew.notes]):
                with whole_file(folder / _NOTES) as file:
                    file.write("\n".join(told).encode())
            yield number, episode


def _write(path: Path, episode: Demonstration) -> None:
    with whole_file(path) as file:
        np.savez_compressed(
            file,
            seed=np.int64(episode.seed),
            frames=episode.frames,
            checksums=np.array([zlib.crc32(f.tobytes()) for f in episode.frames], dtype=np.uint32),
            states=np.asarray(episode.states, dtype=np.float64),
            actions=np.asarray(episode.actions, dtype=np.float32),
        )


def _read(path: Path, *names: str) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except _BROKEN as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}): delete it, and it is made again"
        ) from error


def _frames(path: Path) -> npt.NDArray[np.uint8]:
    """All frames of one episode; a pass over the frames reads each file once."""
    try:
        written = path.stat().st_mtime_ns
    except OSError:  # told when it is read
        written = 0
    return _frames_of(path, written)


@lru_cache(maxsize=2)
def _frames_of(path: Path, written: int) -> npt.NDArray[np.uint8]:
    return _read(path, "frames")["frames"]

"""Demonstrations of others: which file is a task's, and what is taken from it.

Pickles of R3M, VC-1 and Hu et al. are read by `tasks.robot.cloning.pickles`, Minari's HDF5 by
`tasks.robot.cloning.minari`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.errors import DataError
from bench.progress import say
from tasks.robot.cloning import minari, pickles
from tasks.robot.cloning.demonstration import Demonstration
from tasks.robot.simulators.rules import Rules

#: Raised when the same file is read in another way.
READER_VERSION = 2
PICKLES, HDF5 = (".pkl", ".pickle"), (".hdf5", ".h5")
#: Of an action's largest: a kitchen's joint moves 0.1 rad in an episode of it, a hand 1.3 cm.
_STILL = 0.01


def recording_of(folder: Path, rules: Rules) -> Path:
    """The file of a task below a folder: that which it, or its own folder, is named after.

    `kitchen_light_on-v3.pickle` and `light_on/expert_demos.pkl` are of `light_on`,
    `hammer-v2-goal-observable.pickle` is of `hammer`; Minari's `main_data.hdf5` is of all tasks.
    Of several, that in a folder named after the camera, as R3M keeps them.

    Raises:
        DataError: there is none, or more than one.
    """
    if not folder.exists():
        raise DataError(f"demonstrations={folder} is not there: correct the path, or leave it out")
    below = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    files = [path for path in below if path.suffix in (*PICKLES, *HDF5) and path.is_file()]
    named = [path for path in files if rules.name in (_task(path.stem), _task(path.parent.name))]
    found = named or [path for path in files if path.name == "main_data.hdf5"]
    if len(found) > 1:
        found = [path for path in found if path.parent.name == rules.camera] or found
    if len(found) == 1:
        return found[0]
    what = f"{len(files)} of other names: call it so, or choose others by [tasks=...]"
    if found:
        what = f"{len(found)}, {found[0]} and {found[1]} among them: give the folder of one"
    raise DataError(
        f"demonstrations={folder}: expected one file for {rules.name}, such as {rules.name}.pickle "
        f"or {rules.name}/expert_demos.pkl, found {what}"
    )


def _task(name: str) -> str:
    """`kitchen_light_on-v3` and `hammer-v2-goal-observable`, without what the suites add."""
    return re.sub(r"^kitchen_|-v\d.*$", "", name)


def digest(path: Path) -> str:
    """sha256 of a file, read again only when it was written to."""
    found = path.stat()
    return _digest(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=64)
def _digest(path: Path, written: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tells_states(path: Path) -> bool:
    """Whether a file's states are those of this simulator: Minari's, which are played again."""
    return path.suffix in HDF5


def recorded(path: Path, rules: Rules, count: int) -> Iterator[Demonstration]:
    """The first `count` successful demonstrations of a file, frames at `rules.frame_px`.

    Where a file does not tell which succeed, all do. Kitchen actions of pickles are brought to this
    simulator's scale and cut off at its fastest; Meta-World's are cut off at 1, as the environment
    does with what its experts ask for.

    Raises:
        DataError: the file is none of the known ones, of another simulator or scale, or holds too
            few.
        MissingPackage: it is HDF5, and h5py is not installed.
    """
    camera = path.parent.name
    if re.fullmatch(r"(left|right|top)_cap2?|corner\d?", camera) and camera != rules.camera:
        say(f"{path}: seen by {camera}, and rollouts by {rules.camera}: choose it by camera=")
    found = (minari if path.suffix in HDF5 else pickles).pieces(path, rules)
    given = 0
    for given, episode in enumerate(found, 1):
        _check_moves(path, episode)
        yield episode
        if given == count:
            return
    raise DataError(
        f"{path} holds {given} successful demonstrations of {rules.name}, {count} were asked for: "
        + (f"ask for [demos={given}]" if given else "leave the task out")
    )


def _check_moves(path: Path, episode: Demonstration) -> None:
    """Refuses actions so small that nothing could have been solved by them."""
    most = float(np.abs(episode.actions).max())
    if most < _STILL:
        raise DataError(
            f"{path}, demonstration {episode.seed}: no action is above {most:.2g} of the "
            "simulator's fastest, and nothing moves by that: take the file again from its source, "
            "or bring its actions to units of -1 to 1"
        )

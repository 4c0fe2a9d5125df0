"""Demonstrations of others, from the files that they are published in.

Pickles of R3M and VC-1 (a list of dicts with `images` and `actions`), those of Hu et al. (a tuple
of pixels, features, actions and rewards), and Minari's HDF5 (`tasks.robot.cloning.minari`).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.errors import DataError
from bench.progress import say
from bench.safe_pickle import load_plain_pickle
from tasks.robot.cloning.demonstration import Demonstration
from tasks.robot.simulators.rules import Rules
from tasks.robot.simulators.simulator import simulator_class

Array = npt.NDArray[Any]

PICKLES, HDF5 = (".pkl", ".pickle"), (".hdf5", ".h5")
#: What one unit of a kitchen action is in the pickles, in units of gymnasium-robotics' 2 rad/s.
KITCHEN_SCALE = math.pi
_SECONDS = 0.08  # of a kitchen action
_SLOWEST = 2.5  # rad/s that a unit must at least move: 2 pi, but for what a servo lags behind
_LAYOUTS = (
    "a list of dicts with images and actions (R3M, VC-1), or a tuple of pixels, features, actions "
    "and rewards (Hu et al.)"
)


def recording_of(folder: Path, rules: Rules) -> Path:
    """The file of a task below a folder: that which it, or its own folder, is named after.

    `kitchen_light_on-v3.pickle` and `light_on/expert_demos.pkl` are of `light_on`,
    `hammer-v2-goal-observable.pickle` is of `hammer`; Minari's `main_data.hdf5` is of all tasks.

    Raises:
        DataError: there is none, or more than one.
    """
    if not folder.exists():
        raise DataError(f"demonstrations={folder} is not there: correct the path, or leave it out")
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    files = [path for path in files if path.suffix in (*PICKLES, *HDF5)]
    named = [path for path in files if rules.name in (_task(path.stem), _task(path.parent.name))]
    found = named or [path for path in files if path.name == "main_data.hdf5"]
    if len(found) == 1:
        return found[0]
    what = ", ".join(str(path) for path in found) or f"{len(files)} files of other names"
    raise DataError(
        f"demonstrations={folder}: expected one file for {rules.name}, such as {rules.name}.pickle "
        f"or {rules.name}/expert_demos.pkl, found {what}"
    )


def _task(name: str) -> str:
    """`kitchen_light_on-v3` and `hammer-v2-goal-observable`, without what the suites add."""
    return re.sub(r"^kitchen_|-v\d.*$", "", name)


@lru_cache(maxsize=64)
def digest(path: Path) -> str:
    """sha256 of a file, read once a process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded(path: Path, rules: Rules, count: int) -> Iterator[Demonstration]:
    """The first `count` successful demonstrations of a file, frames at `rules.frame_px`.

    Where a file does not tell which succeed, all do. Kitchen actions of pickles are brought to this
    simulator's scale and cut off at its fastest.

    Raises:
        DataError: the file is none of the known ones, of another simulator, or holds too few.
        MissingPackage: it is HDF5, and h5py is not installed.
    """
    if path.suffix in HDF5:
        from tasks.robot.cloning.minari import pieces

        found = pieces(path, rules)
    else:
        found = _unpickled(path, rules)
    given = 0
    for given, episode in enumerate(found, 1):
        yield episode
        if given == count:
            return
    raise DataError(
        f"{path} holds {given} successful demonstrations of {rules.name}, {count} were asked for: "
        + (f"ask for [demos={given}]" if given else "leave the task out")
    )


def _unpickled(path: Path, rules: Rules) -> Iterator[Demonstration]:
    episodes = _episodes(path, load_plain_pickle(path))
    actions = [_checked(path, number, rules, e[1]) for number, e in enumerate(episodes)]
    if rules.suite == "franka_kitchen":
        _check_scale(path, actions, [states for _, _, states, _ in episodes])
        actions = [np.clip(KITCHEN_SCALE * action, -1.0, 1.0) for action in actions]
    for number, (frames, _, _, success) in enumerate(episodes):
        if success:
            shown = _frames(path, number, frames, rules.frame_px)
            nothing = np.zeros((len(shown), 0))
            yield Demonstration(number, shown, nothing, actions[number].astype(np.float32))


def _episodes(path: Path, value: Any) -> list[tuple[Array, Array, Array | None, bool]]:
    """(frames, actions, states where they are known, success) of every episode."""
    if isinstance(value, list) and value and all(isinstance(e, dict) for e in value):
        if all({"images", "actions"} <= e.keys() for e in value):
            return [
                (np.asarray(e["images"]), np.asarray(e["actions"]), _states(e), _success(e))
                for e in value
            ]
        what = f"dicts with {', '.join(map(str, list(value[0])[:6]))}"
    elif isinstance(value, tuple) and len(value) == 4 and len(value[0]) == len(value[2]):
        return [
            # Three frames lie one behind the other; a policy sees the newest.
            (np.moveaxis(np.asarray(pixels)[:, -3:], 1, -1), np.asarray(actions), None, True)
            for pixels, actions in zip(value[0], value[2], strict=True)
        ]
    else:
        what = f"a {type(value).__name__}"
        what += f" of {len(value)}" if isinstance(value, Sequence) else ""
    raise DataError(f"{path} holds {what}: expected {_LAYOUTS}")


def _states(episode: dict[str, Any]) -> Array | None:
    found = np.asarray(episode.get("observations", ()))
    return found.astype(np.float64) if found.ndim == 2 else None


def _success(episode: dict[str, Any]) -> bool:
    """Whether R3M's notes on an episode say that it was solved; True where they say nothing."""
    notes = episode.get("env_infos")
    for name in ("solved", "success"):
        if isinstance(notes, dict) and name in notes:
            return bool(np.asarray(notes[name]).any())
    return True


def _checked(path: Path, number: int, rules: Rules, actions: Array) -> npt.NDArray[np.float64]:
    """(T, a) actions that the simulator takes."""
    width = simulator_class(rules.suite).action_size
    told = f"{path}, demonstration {number}"
    if actions.ndim != 2 or actions.shape[1] != width:
        raise DataError(
            f"{told}: actions of shape {actions.shape}, expected (T, {width}): this file is not of "
            f"{rules.suite}"
        )
    most = float(np.abs(actions).max(initial=0.0))
    if not most <= 1.0 + 1e-6:  # what is not finite as well
        raise DataError(
            f"{told}: actions up to {most:g}, expected -1 to 1: divide them by the simulator's "
            "fastest (2 pi rad/s in the kitchen)"
        )
    return actions.astype(np.float64)


def _check_scale(path: Path, actions: list[Array], states: list[Array | None]) -> None:
    """Refuses kitchen actions whose unit is not 2 pi rad/s.

    Where joint positions are there, how far the arm moves for an action tells; where not, actions
    most of which this simulator cannot take.
    """
    advice = (
        "expected a unit of 2 pi rad/s, as in R3M's files: multiply the file's actions by their "
        "own unit in rad/s and divide them by 2 pi"
    )
    arms = [a[:-1, :7] for a in actions]
    seen = [s for s in states if s is not None and s.shape[1] >= 7]
    if len(seen) == len(actions) and (asked := np.concatenate(arms)).any():
        moved = np.concatenate(
            [np.diff(s[:, :7], axis=0)[: len(a)] for s, a in zip(seen, arms, strict=True)]
        )
        unit = float((moved * asked).sum() / (asked**2).sum()) / _SECONDS
        if unit < _SLOWEST:
            raise DataError(
                f"{path}: a unit of its actions moves joints by {unit:.2g} rad/s, {advice}"
            )
        return
    beyond = float((np.abs(np.concatenate(arms)) * KITCHEN_SCALE > 1).mean())
    if beyond > 0.5:
        raise DataError(
            f"{path}: {100 * beyond:.0f} % of its actions are faster than this simulator, {advice}"
        )


def _frames(path: Path, number: int, frames: Array, side: int) -> npt.NDArray[np.uint8]:
    """(T, side, side, 3); frames of another size are resized, and squeezed where not square."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise DataError(
            f"{path}, demonstration {number}: frames of shape {frames.shape} and type "
            f"{frames.dtype}, expected (T, height, width, 3) of uint8"
        )
    frames = np.asarray(frames)
    if frames.shape[1:3] == (side, side):
        return frames
    if number == 0:
        say(f"{path}: frames of {frames.shape[2]} x {frames.shape[1]} px, resized to {side} px")
    resized = [Image.fromarray(f).resize((side, side), Image.Resampling.BICUBIC) for f in frames]
    return np.stack([np.asarray(image) for image in resized])

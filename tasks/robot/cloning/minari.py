"""Single tasks cut from Minari's sequences of Franka-Kitchen, with frames that are drawn anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import gl
from bench.errors import DataError, require
from tasks.robot.cloning.demonstration import Demonstration
from tasks.robot.simulators.rules import Rules

Array = npt.NDArray[np.float64]

ENVIRONMENT = "FrankaKitchen-v1"
#: Those of our tasks that people did in them.
TASKS = ("light_on", "sdoor_open", "micro_open")
_OBSERVED, _ACTION = 59, 9  # joints, their velocities, and actions


def pieces(path: Path, rules: Rules) -> Iterator[Demonstration]:
    """The stretch of each sequence in which a task, and nothing else, is done.

    Sequences are teleoperated and hold no pictures: frames are drawn from the joints. A stretch
    begins where the rest of the kitchen has come to rest, at most a horizon before its end, and
    ends `rules.stay` decisions after the task is solved by its rule here (which wants the microwave
    wider open than Minari's own).

    Raises:
        MissingPackage: h5py is not installed.
        DataError: of another environment, or without this task.
    """
    if rules.suite != "franka_kitchen" or rules.name not in TASKS:
        raise DataError(
            f"{path}: Minari's kitchen sequences hold {', '.join(TASKS)}, not {rules.name}: choose "
            f"with [tasks={':'.join(TASKS)}]"
        )
    h5py = require("h5py", extra="robot")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is no HDF5 file ({error}): download it again") from error
    with file:
        _check_environment(path, file)
        numbers = sorted(int(n[8:]) for n in file if re.fullmatch(r"episode_\d+", n))
        if not numbers:
            raise DataError(f"{path}: no group episode_0, expected the main_data.hdf5 of Minari")
        yield from _cut(path, rules, [(number, file[f"episode_{number}"]) for number in numbers])


def _check_environment(path: Path, file: Any) -> None:
    """Refuses what another environment, or another version of this one, recorded."""
    beside = path.with_name("metadata.json")
    try:
        notes = json.loads(beside.read_text()) if beside.exists() else dict(file.attrs)
        spec = notes.get("env_spec", "{}")
        name = (json.loads(spec) if isinstance(spec, str | bytes) else spec).get("id", ENVIRONMENT)
    except (ValueError, AttributeError) as error:
        raise DataError(f"{beside} cannot be read ({error}): download it again") from error
    if name != ENVIRONMENT:
        raise DataError(
            f"{path} is of {name}, expected {ENVIRONMENT}: take D4RL/kitchen/complete-v2 or newer"
        )


def _cut(path: Path, rules: Rules, groups: list[tuple[int, Any]]) -> Iterator[Demonstration]:
    from tasks.robot.simulators.kitchen import Kitchen

    gl.choose()
    kitchen = Kitchen(rules)
    with kitchen:
        for number, group in groups:
            joints, actions = _sequence(path, number, group)
            span = _stretch(kitchen, joints, rules)
            if span is None:
                continue
            rows, frames = range(*span), []
            for row in rows:
                kitchen.put(joints[row], begin=row == rows[0])
                frames.append(kitchen.frame())
            yield Demonstration(
                number,
                np.stack(frames),
                joints[rows[0] : rows[-1] + 1],
                np.clip(actions[rows[0] : rows[-1] + 1], -1, 1).astype(np.float32),
            )


def _sequence(path: Path, number: int, group: Any) -> tuple[Array, Array]:
    """(T, 30) joints and (T, 9) actions of an episode."""
    try:
        seen, actions = group["observations/observation"][:], group["actions"][:]
    except (KeyError, ValueError) as error:  # not there, or itself a table
        raise DataError(
            f"{path}, episode {number}: {error}; expected observations/observation and actions"
        ) from error
    if seen.ndim != 2 or seen.shape[1] != _OBSERVED or actions.shape[1:] != (_ACTION,):
        raise DataError(
            f"{path}, episode {number}: observations {seen.shape} and actions {actions.shape}, "
            f"expected (T + 1, {_OBSERVED}) and (T, {_ACTION})"
        )
    finite = np.isfinite(seen).all() and np.isfinite(actions).all()
    if len(seen) != len(actions) + 1 or not finite:
        raise DataError(
            f"{path}, episode {number}: {len(seen)} observations of {len(actions)} actions, "
            f"{'all' if finite else 'not all'} finite, expected one more, all finite: download it "
            "again"
        )
    most = float(np.abs(actions).max(initial=0.0))
    if most > 1.0 + 1e-6:
        raise DataError(
            f"{path}, episode {number}: actions up to {most:g}, expected -1 to 1: divide them by "
            "the simulator's fastest, 2 rad/s"
        )
    seen = seen.astype(np.float64)[:-1]
    return np.concatenate([seen[:, :9], seen[:, 18:39]], axis=1), actions.astype(np.float64)


def _stretch(kitchen: Any, joints: Array, rules: Rules) -> tuple[int, int] | None:
    """First row and the one behind the last, of the stretch that solves the task; None without."""
    for end in range(len(joints)):
        kitchen.put(joints[end], begin=True)
        if not kitchen.solved():  # against itself: the task's joint alone
            continue
        begin = end
        while begin > 0 and end - begin < rules.horizon - rules.stay:
            kitchen.put(joints[begin - 1], begin=True)
            kitchen.put(joints[end])
            if not kitchen.solved():  # something else was moved since
                break
            begin -= 1
        return (begin, min(end + rules.stay, len(joints))) if end > begin else None
    return None

"""Demonstrations from the pickles of R3M, VC-1 and Hu et al.; nothing in them is run.

R3M and VC-1 keep a list of dicts with `images` and `actions`; Hu et al. pixels, features, actions
and rewards, each of all episodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any, NamedTuple

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

#: What one unit of a kitchen action is in the pickles, in units of gymnasium-robotics' 2 rad/s.
KITCHEN_SCALE = math.pi
_SECONDS = 0.08  # of a kitchen action
#: rad/s that joints move by for a unit of 2 pi: a servo lags behind, so that the experts here move
#: by 2.6 to 2.9. For the unit of 2 that a file may have by mistake they move by 0.8 to 0.9.
_SLOWEST, _FASTEST = 1.6, 7.0
_STATE = 39  # numbers of a state in Meta-World v2 and v3
_LAYOUTS = (
    "a list of dicts with images and actions (R3M, VC-1), or pixels, features, actions and rewards "
    "of all episodes (Hu et al.)"
)


class _Episode(NamedTuple):
    """What a pickle tells of an episode; `states` (T, s) where it does."""

    frames: Array
    actions: Array
    states: Array | None
    success: bool


def pieces(path: Path, rules: Rules) -> Iterator[Demonstration]:
    """The successful episodes of a pickle, in its order; all where it does not tell which succeed.

    Raises:
        DataError: it is in none of the known layouts, or of another simulator.
    """
    episodes = _episodes(path, load_plain_pickle(path), rules.needed)
    for number, episode in enumerate(episodes):
        _check(f"{path}, demonstration {number}", episode, rules)
    scale = 1.0
    if rules.suite == "franka_kitchen":
        _check_scale(path, episodes)
        scale = KITCHEN_SCALE
    longest = max((len(episode.actions) for episode in episodes), default=0)
    if longest > rules.decisions:  # as R3M's and VC-1's of Meta-World, 500 of one step each
        say(
            f"{path}: up to {longest} actions in a demonstration, and {rules.decisions} in a "
            "rollout: choose it by repeat= and horizon="
        )
    good = [number for number, episode in enumerate(episodes) if episode.success]
    for number in good:
        frames = episodes[number].frames
        if number == good[0] and frames.shape[1:3] != (rules.frame_px, rules.frame_px):
            size = f"{frames.shape[2]} x {frames.shape[1]}"
            say(f"{path}: frames of {size} px, resized to {rules.frame_px} px")
        shown = _resized(frames, rules.frame_px)
        actions = np.clip(scale * episodes[number].actions, -1.0, 1.0).astype(np.float32)
        yield Demonstration(number, shown, np.zeros((len(shown), 0)), actions)


def _episodes(path: Path, value: Any, needed: int) -> list[_Episode]:
    """The episodes of a pickle in one of the known layouts; `needed` solved steps are a success."""
    why = ""
    try:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [
                _Episode(
                    np.asarray(episode["images"]),
                    np.asarray(episode["actions"]),
                    _states(episode.get("observations")),
                    _success(episode.get("env_infos"), needed),
                )
                for episode in value
            ]
        if isinstance(value, list | tuple) and len(value) == 4:
            pixels, features, actions, _ = value
            told = features if len(features) == len(pixels) else [None] * len(pixels)
            return [
                _Episode(_newest(np.asarray(seen)), np.asarray(done), _states(known), True)
                for seen, known, done in zip(pixels, told, actions, strict=True)
            ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f" that cannot be read ({type(error).__name__}: {error})"
    what = f"a {type(value).__name__}"
    what += f" of {len(value)}" if isinstance(value, Sized) else ""
    raise DataError(f"{path} holds {what}{why}: expected {_LAYOUTS}")


def _newest(pixels: Array) -> Array:
    """(T, height, width, 3) of frames that lie one behind the other; a policy sees the newest."""
    if pixels.ndim != 4 or pixels.shape[1] not in (3, 6, 9):
        raise ValueError(f"pixels of shape {pixels.shape}, expected (T, 9, height, width)")
    return np.moveaxis(pixels[:, -3:], 1, -1)


def _states(told: Any) -> Array | None:
    found = np.asarray(told)
    return found.astype(np.float64) if found.ndim == 2 else None


def _success(notes: Any, needed: int) -> bool:
    """Whether R3M's notes tell of a success, of every step or at once; True where of none."""
    for name in ("solved", "success"):
        if isinstance(notes, dict) and name in notes:
            told = np.asarray(notes[name])
            return bool(told.any()) if told.size == 1 else int((told > 0).sum()) >= needed
    return True


def _check(told: str, episode: _Episode, rules: Rules) -> None:
    """Refuses an episode of another simulator, or one that is damaged."""
    frames, actions, states, _ = episode
    width = simulator_class(rules.suite).action_size
    if actions.ndim != 2 or actions.shape[1] != width:
        raise DataError(
            f"{told}: actions of shape {actions.shape}, expected (T, {width}): this file is not of "
            f"{rules.suite}"
        )
    if rules.suite == "metaworld" and states is not None and states.shape[1] != _STATE:
        raise DataError(
            f"{told}: observations of {states.shape[1]} numbers, expected the {_STATE} of "
            "Meta-World v2 and v3: take a file of one of these"
        )
    most = float(np.abs(actions).max(initial=0.0))
    if not np.isfinite(most):
        raise DataError(f"{told}: actions up to {most:g}: take the file again from its source")
    if rules.suite == "franka_kitchen" and most > 1.0 + 1e-6:
        raise DataError(
            f"{told}: actions up to {most:g}, expected -1 to 1: divide them by the simulator's "
            "fastest, 2 pi rad/s"
        )
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise DataError(
            f"{told}: frames of shape {frames.shape} and type {frames.dtype}, expected (T, height, "
            "width, 3) of uint8"
        )
    if len(frames) != len(actions) or not len(actions):
        raise DataError(
            f"{told}: {len(frames)} frames of {len(actions)} actions, expected as many, and one "
            "at least: take the file again from its source"
        )


def _check_scale(path: Path, episodes: list[_Episode]) -> None:
    """Refuses kitchen actions whose unit is not 2 pi rad/s, where the joints' positions tell it.

    Says how many are cut off: faster than this simulator.
    """
    arms = [episode.actions[:, :7] for episode in episodes]
    told = [
        (episode.states[:, :7], arm)
        for episode, arm in zip(episodes, arms, strict=True)
        if episode.states is not None and episode.states.shape[1] >= 9
    ]
    if told and any(arm.any() for _, arm in told):
        moved = np.concatenate([np.diff(seen, axis=0)[: len(arm)] for seen, arm in told])
        asked = np.concatenate([arm[: len(seen) - 1] for seen, arm in told])
        unit = float((moved * asked).sum() / (asked**2).sum()) / _SECONDS
        if not _SLOWEST <= unit <= _FASTEST:  # what is not finite as well
            raise DataError(
                f"{path}: a unit of its actions moves joints by {unit:.2g} rad/s, expected a unit "
                "of 2 pi rad/s, as in R3M's files: multiply the file's actions by their own unit "
                "in rad/s and divide them by 2 pi"
            )
    cut = float((KITCHEN_SCALE * np.abs(np.concatenate(arms)) > 1).mean()) if arms else 0.0
    if cut:
        say(f"{path}: {100 * cut:.0f} % of its actions are faster than this simulator, cut off")


def _resized(frames: Array, side: int) -> npt.NDArray[np.uint8]:
    """(T, side, side, 3); frames that are not square are squeezed."""
    if frames.shape[1:3] == (side, side):
        return np.asarray(frames)
    resized = [Image.fromarray(f).resize((side, side), Image.Resampling.BICUBIC) for f in frames]
    return np.stack([np.asarray(image) for image in resized])

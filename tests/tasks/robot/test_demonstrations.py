"""Demonstrations are made once: from what they are named by, whole, and the same after a kill."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.disk import locked
from bench.errors import DataError
from tasks.robot.cloning import demonstrations as module
from tasks.robot.cloning import rollouts
from tasks.robot.cloning.demonstration import Demonstration
from tasks.robot.cloning.demonstrations import Demonstrations, Origin, demonstrations, files
from tasks.robot.simulators.rules import Rules
from tasks.robot.simulators.simulator import rules_of

#: Nine decisions, in which the expert solves the task from the goals 0, 1, 2, 5 and 6, not 3, 4.
RULES = replace(
    rules_of("metaworld", "button-press-topdown"),
    frame_px=32,
    repeat=8,
    horizon=72,
    needed=1,
    stay=1,
)
ORIGIN = Origin(RULES, noise=0.05)
COUNT = 5


@pytest.fixture(scope="module")
def whole(drawing: str, tmp_path_factory: pytest.TempPathFactory) -> Demonstrations:
    """Made at one go, in this process."""
    return demonstrations(ORIGIN, COUNT, tmp_path_factory.mktemp("whole"), 0)


@pytest.fixture
def copy(whole: Demonstrations, tmp_path: Path) -> Path:
    """A cache with the same files."""
    shutil.copytree(whole.folder, ORIGIN.folder(tmp_path))
    return tmp_path


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever simulates fails."""

    def crew(*_: object) -> None:
        raise AssertionError("nothing is to be made")

    monkeypatch.setattr("tasks.robot.cloning.crew.Crew", crew)


def equal(one: Demonstrations, other: Demonstrations) -> bool:
    """Whether all that two hold is equal to the bit, the pixels too."""
    names = ("seeds", "lengths", "actions", "states")
    return np.array_equal(one.frames(), other.frames()) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


# ---------------------------------------------------------------- the name of the folder

OTHERS: dict[str, Any] = {
    "suite": "franka_kitchen",
    "name": "hammer",
    "camera": "corner3",
    "horizon": 80,
    "needed": 2,
    "upright": False,
    "repeat": 4,
    "stay": 2,
    "reset_noise": 0.1,
    "frame_px": 33,
    "profile": "full",
}


def test_every_rule_the_noise_and_the_versions_are_in_the_name(
    simulation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(OTHERS) == {field.name for field in fields(Rules)}
    origins = [Origin(replace(RULES, **{name: value}), 0.05) for name, value in OTHERS.items()]
    found = [origin.folder(Path()) for origin in (ORIGIN, Origin(RULES, 0.06), *origins)]
    monkeypatch.setattr(module, "EXPERT_VERSION", module.EXPERT_VERSION + 1)
    found.append(ORIGIN.folder(Path()))
    monkeypatch.undo()
    version = importlib.metadata.version
    for package in ("mujoco", "metaworld", "gymnasium"):
        with monkeypatch.context() as patch:
            patch.setattr(
                importlib.metadata,
                "version",
                lambda name, newer=package: version(name) + ".1" * (name == newer),
            )
            found.append(ORIGIN.folder(Path()))
    assert len(set(found)) == len(found) == 17


def test_nothing_else_is_in_the_name(simulation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ORIGIN.folder(Path("cache")).name
    assert expected.startswith("metaworld-button-press-topdown-")
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: "9" if name in ("numpy", "torch", "gymnasium-robotics") else version(name),
    )
    again = Origin(
        Rules(**{field.name: getattr(RULES, field.name) for field in fields(Rules)}), 0.05
    )
    assert again.folder(Path("elsewhere")) == Path("elsewhere/demonstrations") / expected


# ---------------------------------------------------------------- made once


def test_they_are_the_first_successes_one_behind_the_other(whole: Demonstrations) -> None:
    assert whole.seeds.tolist() == [0, 1, 2, 5, 6], "the expert fails from 3 and 4"
    assert whole.lengths.tolist() == [9, 9, 8, 8, 8]
    assert whole.frames().shape == (42, 32, 32, 3)
    assert whole.states.shape == (42, 39)
    assert whole.actions.shape == (42, 4)
    assert whole.actions.dtype == np.float32
    assert np.abs(whole.actions).max() <= 1
    assert np.array_equal(whole.first_frame(), whole.frames()[0])
    # With mujoco 3.3.0 and metaworld 3.1.1 the hand is here before the last decision of the first.
    hand = [-0.002944, 0.854699, 0.352384]
    np.testing.assert_allclose(whole.states[8, :3], hand, atol=1e-4)


def collect(folder: str) -> None:
    """Makes more than there is time for."""
    demonstrations(ORIGIN, 40, Path(folder), 1)


def test_a_collection_that_was_killed_goes_on_and_ends_with_the_same(
    whole: Demonstrations,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['collect'](sys.argv[2])"
    killed = subprocess.Popen([sys.executable, "-c", code, __file__, str(tmp_path)])
    folder = ORIGIN.folder(tmp_path)
    with killed:
        while len(files(folder)) < 2 and killed.poll() is None:
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    there = len(files(folder))
    assert 2 <= there < COUNT
    (folder / f"{there:05d}.npz.part").write_bytes(b"half")  # as a kill in a write leaves it
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    found = demonstrations(ORIGIN, COUNT, tmp_path, 0)
    assert f"continuing behind {there} of {COUNT} demonstrations" in capsys.readouterr().err
    assert equal(found, whole)


@pytest.mark.usefixtures("idle")
def test_fewer_are_the_first_of_those_that_are_there(whole: Demonstrations, copy: Path) -> None:
    found = demonstrations(ORIGIN, 2, copy, 2)
    assert found.seeds.tolist() == [0, 1]
    assert np.array_equal(found.actions, whole.actions[:18])
    assert np.array_equal(found.frames(), whole.frames()[:18])
    assert found.split().ids == whole.split().ids[:18]


@pytest.mark.usefixtures("idle")
def test_who_comes_second_waits_and_makes_nothing(
    whole: Demonstrations,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    folder = ORIGIN.folder(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        with locked(folder, "is first"):
            second = pool.submit(demonstrations, ORIGIN, COUNT, tmp_path, 1)
            told = ""
            while not told.endswith("\n") and not second.done():
                told += capsys.readouterr().err
                time.sleep(0.01)
            assert told == (
                "waiting for another process that collects demonstrations of button-press-topdown\n"
            )
            shutil.copytree(whole.folder, folder)
        assert equal(second.result(60), whole)


def test_what_is_to_be_said_of_how_they_were_made_stays_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawing: str
) -> None:
    real, said = rollouts.collect, iter(["drawn by two", "and by a third"])

    def noted(crew: Any, *rest: Any) -> Iterator[Any]:
        crew.notes += [next(said)] * 2
        yield from real(crew, *rest)

    monkeypatch.setattr(rollouts, "collect", noted)
    for _ in range(2):
        assert demonstrations(ORIGIN, 1, tmp_path, 0).notes == ("drawn by two",)
    for _ in range(2):
        assert demonstrations(ORIGIN, 2, tmp_path, 0).notes == ("drawn by two", "and by a third")


# ---------------------------------------------------------------- damage


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other(path: Path) -> None:
    np.savez(path, seed=np.int64(1), actions=np.zeros((1, 4)))


def flipped(path: Path) -> None:
    """One bit of the frames, by far the largest part of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, empty, other, flipped])
def test_a_damaged_file_is_named_with_what_mends_it(
    damage: Callable[[Path], None], copy: Path
) -> None:
    path = files(ORIGIN.folder(copy))[1]
    damage(path)
    with pytest.raises(DataError) as raised:
        demonstrations(ORIGIN, COUNT, copy, 0).frames()
    message = str(raised.value)
    assert message.startswith(f"{path} cannot be read (")
    assert message.endswith("): delete it, and it is made again")
    assert "\n" not in message


@pytest.mark.parametrize("place", [2, 4])  # before and behind the seeds that are left out
def test_a_file_that_was_deleted_is_made_again(
    place: int, whole: Demonstrations, copy: Path
) -> None:
    files(ORIGIN.folder(copy))[place].unlink()
    assert equal(demonstrations(ORIGIN, COUNT, copy, 0), whole)


@pytest.mark.parametrize("lengths", [(2, 3, 3), (3, 3, 2), (0, 0, 0)])
def test_a_demonstration_has_a_frame_and_a_state_for_each_action(
    lengths: tuple[int, int, int],
) -> None:
    frames, states, actions = lengths
    with pytest.raises(DataError, match=f"{frames} frames, {states} states and {actions} actions"):
        Demonstration(
            0,
            np.zeros((frames, 16, 16, 3), np.uint8),
            np.zeros((states, 5)),
            np.zeros((actions, 4), np.float32),
        )


# ---------------------------------------------------------------- frames as images


def test_images_of_the_split_are_the_frames(whole: Demonstrations) -> None:
    split = whole.split()
    assert len(split) == 42
    assert split.ids[:10] == (*(f"00000/{step:04d}" for step in range(9)), "00001/0000")
    images = np.stack([np.asarray(split.image(place)) for place in (0, 41, 8, 9)])
    assert np.array_equal(images, whole.frames()[[0, 41, 8, 9]])


def test_one_other_pixel_gives_another_manifest(whole: Demonstrations, copy: Path) -> None:
    folder = ORIGIN.folder(copy)

    def manifest() -> str:
        return Demonstrations.of(folder, RULES.name, COUNT).split().manifest

    assert manifest() == whole.split().manifest, "the place of the cache does not count"
    path = files(folder)[1]
    with np.load(path) as stored:
        parts = {name: stored[name] for name in ("frames", "states", "actions")}
    parts["frames"][3, 4, 5, 0] ^= 1
    module._write(path, Demonstration(1, **parts))
    assert manifest() != whole.split().manifest

"""Demonstrations of others are read as our own would be, or refused in a line."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.checkpoint import load_model
from bench.engine import Settings, task_data
from bench.errors import DataError, SpecError
from bench.features import FeatureCache
from bench.plan import requests
from bench.task import warnings_of
from tasks.robot.cloning.demonstration import Demonstration
from tasks.robot.cloning.demonstrations import Demonstrations, Origin, demonstrations
from tasks.robot.cloning.recordings import READER_VERSION, recorded, recording_of
from tasks.robot.simulators.simulator import rules_of

LIGHT = replace(rules_of("franka_kitchen", "light_on"), frame_px=32)
DRAWER = replace(rules_of("metaworld", "drawer-close"), frame_px=32)


@pytest.fixture(scope="module")
def light(drawing: str, tmp_path_factory: pytest.TempPathFactory) -> Demonstrations:
    """Two of our own expert, without noise."""
    return demonstrations(Origin(LIGHT, 0.0), 2, tmp_path_factory.mktemp("light"), 0)


def parts(shown: Demonstrations) -> list[Demonstration]:
    """Each demonstration by itself."""
    ends, frames = np.cumsum(shown.lengths), shown.frames()
    return [
        Demonstration(
            int(seed), frames[e - n : e], shown.states[e - n : e], shown.actions[e - n : e]
        )
        for seed, n, e in zip(shown.seeds, shown.lengths, ends, strict=True)
    ]


def r3m(shown: Demonstrations, scale: float = 1 / math.pi) -> list[dict[str, Any]]:
    """What R3M's files hold; actions of the kitchen are on their scale."""
    return [
        {
            "images": part.frames,
            "observations": part.states,
            "actions": part.actions * np.float32(scale),
            "rewards": np.zeros(len(part.frames)),
            "env_infos": {"solved": np.arange(len(part.frames)) > len(part.frames) - 8},
        }
        for part in parts(shown)
    ]


def stacked(shown: Demonstrations, scale: float = 1 / math.pi) -> list[Any]:
    """What Hu et al.'s files hold: three frames on each other, channels first."""
    pixels = []
    for part in parts(shown):
        planes = np.moveaxis(part.frames, -1, 1)
        rows = np.arange(len(planes))
        pixels.append(np.concatenate([planes[np.maximum(rows - k, 0)] for k in (2, 1, 0)], axis=1))
    actions = [part.actions * np.float32(scale) for part in parts(shown)]
    return [pixels, [part.states for part in parts(shown)], actions, [[] for _ in pixels]]


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value))
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("kitchen_light_on-v3.pickle", r3m),
        ("light_on.pkl", r3m),
        ("kitchen_light_on-v3/expert_demos.pkl", stacked),
        ("light_on/expert_demos.pkl", lambda light: tuple(stacked(light))),
        ("right_cap2/kitchen_light_on-v3.pickle", r3m),
    ],
)
def test_files_are_found_by_their_names_and_read_as_they_were_made(
    name: str, content: Callable[..., Any], light: Demonstrations, tmp_path: Path
) -> None:
    write(tmp_path / name, content(light))
    write(tmp_path / "kitchen_knob1_on-v3.pickle", [])
    if name.startswith(LIGHT.camera):
        write(tmp_path / "left_cap2/kitchen_light_on-v3.pickle", [])
    file = recording_of(tmp_path, LIGHT)
    assert file == tmp_path / name
    found = list(recorded(file, LIGHT, 2))
    assert [part.seed for part in found] == [0, 1]
    for part, own in zip(found, parts(light), strict=True):
        np.testing.assert_array_equal(part.frames, own.frames)
        np.testing.assert_allclose(part.actions, own.actions, atol=1e-6)
        assert part.states.shape == (len(own.states), 0)


def test_frames_of_another_size_are_resized_and_what_is_changed_is_said(
    light: Demonstrations,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    episodes = r3m(light)
    episodes.insert(0, episodes[0] | {"env_infos": {"solved": np.zeros(3)}})
    file = write(tmp_path / "left_cap2" / "light_on.pkl", episodes)
    (first,) = recorded(file, replace(LIGHT, frame_px=16), 1)
    assert first.frames.shape[1:] == (16, 16, 3)
    own = parts(light)[0].frames.astype(float)
    halved = own.reshape(len(own), 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(first.frames - halved).mean() < 8
    assert capsys.readouterr().err.splitlines() == [
        f"{file}: seen by left_cap2, and rollouts by right_cap2: choose it by camera=",
        f"{file}: frames of 32 x 32 px, resized to 16 px",
    ]


def test_episodes_that_failed_are_left_out(light: Demonstrations, tmp_path: Path) -> None:
    episodes = r3m(light)
    solved = episodes[0]["env_infos"]["solved"]
    solved[:] = False
    solved[: LIGHT.needed - 1] = True
    file = write(tmp_path / "light_on.pkl", episodes)
    assert [part.seed for part in recorded(file, LIGHT, 1)] == [1]
    with pytest.raises(
        DataError, match=r"holds 1 successful .* 25 were asked for: ask for \[demos=1"
    ):
        list(recorded(file, LIGHT, 25))


def metaworld_episode(length: int = 6, width: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 255, (length, 32, 32, 3), np.uint8),
        "actions": rng.uniform(-1, 1, (length, width)).astype(np.float32),
    }


def test_actions_of_metaworld_are_cut_off_as_its_environments_do(tmp_path: Path) -> None:
    episode = metaworld_episode()
    episode["actions"][2] = (-9.0, 1.5, 0.5, 1.0)  # as its experts ask
    write(tmp_path / "drawer-close-v2-goal-observable.pickle", [episode])
    (part,) = recorded(recording_of(tmp_path, DRAWER), DRAWER, 1)
    np.testing.assert_array_equal(part.actions, np.clip(episode["actions"], -1, 1))
    assert part.actions[2].tolist() == [-1.0, 1.0, 0.5, 1.0]
    np.testing.assert_array_equal(part.frames, episode["images"])


def test_demonstrations_that_are_longer_than_rollouts_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    file = write(tmp_path / "drawer-close.pkl", [metaworld_episode(), metaworld_episode(125)])
    list(recorded(file, DRAWER, 1))
    told = "up to 125 actions in a demonstration, and 63 in a rollout: choose it by repeat= and"
    assert capsys.readouterr().err == f"{file}: {told} horizon=\n"
    list(recorded(file, replace(DRAWER, repeat=1), 1))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            [{"pictures": 1}],
            r"list of 1 that cannot be read \(KeyError: 'images'\): expected a list",
        ),
        ((1, 2, 3), r"holds a tuple of 3: expected"),
        ([1, 2, 3, 4], r"holds a list of 4 that cannot be read \(TypeError: .*: expected a list"),
        (
            [metaworld_episode(), {"images": 1}],
            r"holds a list of 2 that cannot be read \(KeyError: 'actions'\): expected a list of",
        ),
        (
            [np.zeros((1, 6, 32, 32, 9), np.uint8), [[]], np.zeros((1, 6, 4)), [[]]],
            r"pixels of shape \(6, 32, 32, 9\), expected \(T, 9, height, width\)",
        ),
        ({"a": 1}, r"holds a dict of 1: expected"),
        (
            [metaworld_episode(width=9)],
            r"actions of shape \(6, 9\), expected \(T, 4\): .* metaworld",
        ),
        ([metaworld_episode() | {"actions": np.full((6, 4), np.nan)}], r"actions up to nan"),
        (
            [metaworld_episode() | {"actions": np.zeros((5, 4))}],
            r"demonstration 0: 6 frames of 5 actions, expected as many, .*: take the file again",
        ),
        (
            [metaworld_episode(length=0)],
            r"demonstration 0: 0 frames of 0 actions, expected .*one at least: take the file again",
        ),
        (
            [metaworld_episode() | {"actions": np.full((6, 4), -0.005)}],
            r"demonstration 0: no action is above 0.005 of .* nothing moves .*: take the",
        ),
        (
            [metaworld_episode() | {"observations": np.zeros((6, 9))}],
            r"observations of 9 numbers, expected the 39 of Meta-World v2 and v3",
        ),
        ([metaworld_episode() | {"images": np.zeros((6, 32, 32, 3))}], r"type float64, expected"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(content: Any, message: str, tmp_path: Path) -> None:
    file = write(tmp_path / "drawer-close.pkl", content)
    with pytest.raises(DataError, match=message) as refused:
        list(recorded(file, DRAWER, 1))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [r3m, stacked])
@pytest.mark.parametrize(("scale", "unit"), [(1.0, "0.9"), (1 / math.pi**2, "9")])
def test_kitchen_actions_on_another_scale_are_refused(
    content: Callable[..., Any], scale: float, unit: str, light: Demonstrations, tmp_path: Path
) -> None:
    file = write(tmp_path / "light_on.pkl", content(light, scale))
    with pytest.raises(
        DataError, match=rf"moves joints by {unit}\S* rad/s, expected .* 2 pi rad/s.* multiply"
    ):
        list(recorded(file, LIGHT, 1))


def test_kitchen_actions_beyond_their_unit_are_refused(
    light: Demonstrations, tmp_path: Path
) -> None:
    file = write(tmp_path / "light_on.pkl", r3m(light, 6.28))
    with pytest.raises(DataError, match=r"actions up to [\d.]+, expected -1 to 1: divide them by"):
        list(recorded(file, LIGHT, 1))


def test_kitchen_actions_faster_than_the_simulator_are_cut_off_and_counted(
    light: Demonstrations,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    episodes = r3m(light)
    for episode in episodes:
        del episode["observations"]  # without which the scale cannot be told
        episode["actions"] = np.where(np.arange(9) < 4, -1.0, 0.1) * np.ones(
            (len(light.actions), 1)
        )
        episode["actions"] = episode["actions"][: len(episode["images"])]
    file = write(tmp_path / "light_on.pkl", episodes)
    (first,) = recorded(file, LIGHT, 1)
    np.testing.assert_allclose(first.actions[0], [-1] * 4 + [math.pi / 10] * 5, rtol=1e-6)
    told = "57 % of its actions are faster than this simulator, cut off"
    assert capsys.readouterr().err == f"{file}: {told}\n"


def test_no_file_and_several_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not there: correct the path"):
        recording_of(tmp_path / "nowhere", LIGHT)
    with pytest.raises(
        DataError, match=r"expected one file for light_on.*found 0 of .* choose others by"
    ):
        recording_of(tmp_path, LIGHT)
    for name in ("light_on.pkl", "kitchen_light_on-v3.pickle"):
        write(tmp_path / name, [])
    with pytest.raises(
        DataError, match=r"found 2, .*on-v3.pickle and .*light_on.pkl among them: give"
    ):
        recording_of(tmp_path, LIGHT)


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def test_a_pickle_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "light_on.pkl", [Malicious()])
    with pytest.raises(DataError, match="refused to unpickle"):
        list(recorded(file, LIGHT, 1))
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------- Minari


def minari(path: Path, light: Demonstrations, env: str = "FrankaKitchen-v1") -> Path:
    """Our own expert's episodes as Minari keeps them."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for number, part in enumerate(parts(light)):
            joints = np.concatenate([part.states, part.states[-1:]])
            zeros = np.zeros((len(joints), 9))
            seen = np.concatenate(
                [joints[:, :9], zeros, joints[:, 9:], zeros, zeros, zeros[:, :2]], 1
            )
            group = file.create_group(f"episode_{number}")
            group["observations/observation"] = seen
            group["actions"] = part.actions
    path.with_name("metadata.json").write_text(json.dumps({"env_spec": json.dumps({"id": env})}))
    return path


def test_frames_of_the_first_solved_minari_sequence_are_drawn_from_its_joints(
    light: Demonstrations, tmp_path: Path
) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(minari(tmp_path / "main_data.hdf5", light), "a") as file:
        file.move("episode_0", "episode_10")
        file.move("episode_1", "episode_9")
        file.copy("episode_9", "episode_2")
        seen = file["episode_2/observations/observation"]
        seen[:] = seen[0]
    (part,) = recorded(recording_of(tmp_path, LIGHT), LIGHT, 1)
    assert part.seed == 9  # nothing moves in 2, and 10 comes behind
    own = parts(light)[1]
    first = len(own.states) - len(part.states)
    assert 0 <= first < 8  # it begins with the arm's way to the switch, not at its end
    np.testing.assert_allclose(part.states, own.states[first:], atol=1e-9)
    np.testing.assert_array_equal(part.actions, own.actions[first:])
    assert np.abs(part.frames.astype(int) - own.frames[first:]).mean() < 1


def test_minari_without_the_task_or_of_another_kitchen_is_refused(
    light: Demonstrations, tmp_path: Path
) -> None:
    file = minari(tmp_path / "main_data.hdf5", light, "FrankaKitchen-v0")
    with pytest.raises(DataError, match=r"is of FrankaKitchen-v0, expected FrankaKitchen-v1"):
        list(recorded(file, LIGHT, 1))
    knob = rules_of("franka_kitchen", "knob1_on")
    with pytest.raises(DataError, match=r"hold light_on, sdoor_open, micro_open, not knob1_on"):
        list(recorded(file, knob, 1))
    h5py = pytest.importorskip("h5py")
    with h5py.File(minari(file, light), "a") as stored:
        stored["episode_0/actions"][3, 2] = -3.5
    with pytest.raises(DataError, match=r"episode 0: actions up to 3.5, .*: divide them by .* 2 r"):
        list(recorded(file, LIGHT, 2))
    with h5py.File(file, "a") as stored:
        stored["episode_0/actions"][3, 2] = np.nan
    with pytest.raises(DataError, match=r"episode 0: \d+ observations .* not all finite, expected"):
        list(recorded(file, LIGHT, 2))
    with h5py.File(file, "w") as stored:
        stored["episode_0"] = np.zeros(3)
    file.with_name("metadata.json").unlink()
    with pytest.raises(DataError, match=r"episode 0: .*; expected observations/observation and"):
        list(recorded(file, LIGHT, 1))
    file.write_bytes(b"no")
    with pytest.raises(DataError, match="is no HDF5 file"):
        list(recorded(file, LIGHT, 1))


# ---------------------------------------------------------------- in a cell


def cell(tmp_path: Path, options: str, data: str) -> Any:
    spec = f"franka_kitchen@franka_kitchen[{data}]?{options}"
    (request,) = requests([spec])
    settings = Settings(workers=0, device="cpu")
    found = task_data(request, 0, settings, FeatureCache(tmp_path / "cache"))
    return request.task, found


def test_a_cell_learns_from_a_file_and_is_named_by_its_content(
    light: Demonstrations, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    write(folder / "light_on.pkl", r3m(light))
    small = "policies=1&steps=20&horizon=10&frame_px=32&batch=16"
    data = f"demonstrations={folder},demos=2,rollouts=1,tasks=light_on"
    task, found = cell(tmp_path, small, data)
    outcome = task.run(load_model("random:vit_mini_patch4_32?seed=0"), found)
    assert outcome.columns["id"].tolist() == ["light_on/0"]
    assert any("others'" in text for text in warnings_of(outcome))
    facts = task.facts(found)["demonstrations"]
    assert json.loads(facts)["light_on"]["reader"] == READER_VERSION
    write(folder / "light_on.pkl", r3m(light)[::-1])
    other = folder.rename(tmp_path / "other")
    task, found = cell(tmp_path, small, data.replace(str(folder), str(other)))
    assert task.facts(found)["demonstrations"] != facts
    task, found = cell(tmp_path, f"{small}&policy=state", data.replace(str(folder), str(other)))
    with pytest.raises(
        SpecError, match=r"light_on.pkl tells no states of light_on .* choose policy=frozen"
    ):
        task.run(load_model("random:vit_mini_patch4_32?seed=0"), found)

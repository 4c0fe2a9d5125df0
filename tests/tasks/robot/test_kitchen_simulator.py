"""Franka-Kitchen: episodes follow from the seed alone, and are judged and seen as in R3M."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench import gl
from bench.errors import DataError, SpecError
from tasks.robot.simulators.kitchen_tasks import GOALS, KETTLE, RANGES
from tasks.robot.simulators.kitchen_tasks import RULES as TASKS
from tasks.robot.simulators.rendering import FrameRenderer, difference
from tasks.robot.simulators.simulator import simulate

#: Between which a task's joint must be, from the goals and ranges of mj_envs v0.0.5.
SOLVED = {
    "knob1_on": (-1.8055, -1.3345),
    "light_on": (-0.805, -0.595),
    "sdoor_open": (0.374, 0.506),
    "ldoor_open": (-1.4855, -1.0145),
    "micro_open": (-1.5641, -0.9359),
}
#: mj_envs' cameras: where each is, the body that it looks at, and where that body is.
CAMERAS = {
    "left_cap2": ((-1.4, -1.0, 1.8), "knob 1", (-0.133, 0.6779, 2.2264)),
    "right_cap2": ((1.3, -0.7, 3.4), "microwave", (-0.85, 0.725, 1.6)),
}
BYSTANDERS = [(joint, 0, span) for joint, span in RANGES.items()]
BYSTANDERS += [("kettle", axis, span) for axis, span in enumerate(KETTLE)]


#: One for each camera.
DRAWN = ("light_on", "knob1_on")

pytestmark = pytest.mark.usefixtures("drawing")


@pytest.fixture(scope="module")
def simulators(drawing: str) -> Iterator[Callable[[str], Any]]:
    """Task -> its simulator, which other tests have used before."""
    with contextlib.ExitStack() as stack:
        yield cache(lambda task: stack.enter_context(simulate(TASKS[task])))


@pytest.fixture
def light(simulators: Callable[[str], Any]) -> Any:
    """The simulator of a task that does not matter."""
    return simulators("light_on")


def play(simulator: Any, seed: int, decisions: int, drawn: bool = True) -> list[npt.NDArray[Any]]:
    """States, frames, actions and solved decisions of the expert's first decisions.

    The last two are what is known and seen at the end, in any case.
    """
    simulator.reset(seed)
    expert = simulator.expert()
    seen = []
    for number in range(decisions):
        action = expert.act()
        seen += [simulator.state(), action]
        if drawn and number in (0, decisions // 2):
            seen.append(simulator.frame())
        seen.append(np.array(simulator.step(action)))
    return [*seen, simulator.state(), simulator.frame()]


def same(one: list[npt.NDArray[Any]], other: list[npt.NDArray[Any]]) -> bool:
    """Whether two plays are equal to the bit."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def digest(task: str, seed: int) -> str:
    """Of an episode of a simulator of its own, which draws only when it is over."""
    with simulate(TASKS[task]) as simulator:
        return digest_of(play(simulator, seed, 45, drawn=False)[-2:])


def digest_of(seen: list[npt.NDArray[Any]]) -> str:
    """One line that tells plays apart."""
    return hashlib.sha256(b"".join(part.tobytes() for part in seen)).hexdigest()


def spoken(code: str, *arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints, in which each warning is an error, and stderr is empty."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


def move(simulator: Any, joint: str, by: float, axis: int = 0) -> None:
    """Moves one joint of the kitchen; the kettle along axes 0 to 2, or about them, as 3 to 5."""
    import mujoco

    change = np.zeros(simulator.model.nv)
    change[simulator.model.joint(joint).dofadr[0] + axis] = by
    mujoco.mj_integratePos(simulator.model, simulator.data.qpos, change, 1.0)


# ---------------------------------------------------------------- seeds


def test_rules_are_those_of_the_literature() -> None:
    found = [(r.name, r.camera, r.horizon, r.needed, r.stay, r.reset_noise) for r in TASKS.values()]
    assert found == [
        ("knob1_on", "left_cap2", 60, 6, 8, 0.05),
        ("light_on", "right_cap2", 60, 6, 8, 0.05),
        ("sdoor_open", "right_cap2", 60, 6, 8, 0.05),
        ("ldoor_open", "left_cap2", 120, 6, 8, 0.05),
        ("micro_open", "left_cap2", 80, 6, 8, 0.05),
    ]


@pytest.mark.parametrize("task", DRAWN)
def test_the_order_of_resets_changes_nothing(task: str, simulators: Callable[[str], Any]) -> None:
    simulator = simulators(task)
    play(simulator, 3, 45, drawn=False)  # leaves the task solved
    once, other, again = (play(simulator, seed, 12) for seed in (7, 8, 7))
    assert same(once, again)
    assert not np.array_equal(once[2], other[2]), "another seed's first frame is the same"


@pytest.mark.parametrize("task", ["knob1_on", pytest.param("light_on", marks=pytest.mark.slow)])
def test_another_process_that_never_looked_sees_the_same_and_says_nothing(
    task: str, simulators: Callable[[str], Any]
) -> None:
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['digest'](sys.argv[2], 7))"
    watched = play(simulators(task), 7, 45)
    assert watched[-3], "what was compared is a task that is solved"
    assert spoken(code, __file__, task) == digest_of(watched[-2:]) + "\n"


def test_the_arm_starts_within_the_noise_and_the_kitchen_as_ever(
    light: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []
    for seed in range(200):
        light.reset(seed)
        starts.append(light.state())
    monkeypatch.setattr(light, "rules", replace(light.rules, reset_noise=0.0))
    light.reset(0)
    usual = light.state()
    low, high = light.model.jnt_range[:9].T
    moved = (np.array(starts) - usual)[:, :9] / (high - low)
    inside = (usual[:9] > low + 0.026 * (high - low)) & (usual[:9] < high - 0.026 * (high - low))
    assert np.array_equal(np.array(starts)[:, 9:], np.tile(usual[9:], (200, 1)))
    assert np.abs(moved).max() <= 0.025 + 1e-9
    assert inside.sum() == 7, "joint 2 and a finger start at a limit"
    assert moved[:, inside].max(axis=0) == pytest.approx(0.025, abs=0.002)
    assert moved[:, inside].min(axis=0) == pytest.approx(-0.025, abs=0.002)
    assert np.abs(np.corrcoef(moved[:, inside].T) - np.eye(7)).max() < 0.3


def test_the_noise_of_what_the_arm_reads_follows_from_the_seed(
    light: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(light, "rules", replace(light.rules, reset_noise=0.0))
    after = []
    for seed in (1, 2, 1):
        light.reset(seed)
        light.step(np.zeros(9))
        after.append(light.state())
    assert np.array_equal(after[0], after[2])
    assert not np.array_equal(after[0], after[1])


# ---------------------------------------------------------------- actions and success


def test_an_action_of_one_commands_two_radians_a_second(light: Any) -> None:
    light.reset(0)
    before = light.state()
    light.step(np.array([1.0, 0, -1, 0, 0, 1, 0, 0, 0]))
    asked = light.data.ctrl[:7] - before[:7]
    assert asked == pytest.approx(0.08 * 2.0 * np.array([1, 0, -1, 0, 0, 1, 0]), abs=0.03)


def test_the_last_decision_is_held_no_longer_than_the_horizon(
    light: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(light, "rules", replace(light.rules, horizon=5, repeat=2, needed=1))
    light.reset(0)
    times = []
    for _ in range(3):
        light.step(np.zeros(9))
        times.append(light.data.time)
    assert times == pytest.approx([0.16, 0.32, 0.40])


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_solved_where_its_joint_is_near_the_goal(
    task: str, simulators: Callable[[str], Any]
) -> None:
    simulator = simulators(task)
    simulator.reset(0)
    assert not simulator.solved()
    for inwards, bound in zip((1e-4, -1e-4), SOLVED[task], strict=True):
        move(simulator, GOALS[task].joint, bound + inwards - simulator.opening())
        assert simulator.solved()
        move(simulator, GOALS[task].joint, -2 * inwards)
        assert not simulator.solved()


@pytest.mark.parametrize("task", ["light_on", "micro_open"])
def test_a_bystander_that_is_moved_spoils_it(task: str, simulators: Callable[[str], Any]) -> None:
    goal, simulator = GOALS[task], simulators(task)
    for joint, axis, span in BYSTANDERS:
        if joint == goal.joint:
            continue
        simulator.reset(0)
        move(simulator, goal.joint, goal.value - simulator.opening())
        move(simulator, joint, 0.1499 * span, axis)
        assert simulator.solved(), joint
        move(simulator, joint, 0.0002 * span, axis)
        assert not simulator.solved(), joint


def test_ranges_are_those_of_the_model(light: Any) -> None:
    for joint, span in RANGES.items():
        low, high = light.model.joint(joint).range
        assert high - low == pytest.approx(span)


def test_the_state_is_all_joints_and_a_copy(light: Any) -> None:
    light.reset(0)
    state = light.state()
    assert state.shape == (30,)
    assert light.action_size == 9
    move(light, "microwave", -1.0)
    assert light.state()[22] == pytest.approx(state[22] - 1.0)


# ---------------------------------------------------------------- frames


def seen_at(camera: str, point: npt.NDArray[np.float64]) -> tuple[int, int]:
    """(row, column) of a point in a frame of 224 pixels: a pinhole with 45 degrees, z being up."""
    eye, target = np.array(CAMERAS[camera][0]), np.array(CAMERAS[camera][2])
    ahead = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(ahead, [0, 0, 1])
    right /= np.linalg.norm(right)
    ray = point - eye
    tall = ray @ ahead * np.tan(np.radians(22.5))
    row = 112 * (1 - ray @ np.cross(right, ahead) / tall)
    return int(row), int(112 * (1 + ray @ right / tall))


@pytest.mark.parametrize("task", DRAWN)
def test_cameras_show_the_kettle_where_geometry_says(
    task: str, simulators: Callable[[str], Any]
) -> None:
    simulator = simulators(task)
    simulator.reset(0)
    frame = simulator.frame().astype(int)
    row, column = seen_at(TASKS[task].camera, simulator.data.site("kettle_site").xpos)
    assert frame.shape == (224, 224, 3)
    assert frame.std() > 40
    wood = (frame[..., 0] > 90) & (frame[..., 0] - frame[..., 2] > 50)
    rows, columns = np.nonzero(wood)
    assert wood.sum() < 0.02 * wood.size, "only the kettle's handle is of wood"
    assert wood[row, column]
    assert [rows.mean(), columns.mean()] == pytest.approx([row, column], abs=10)


def test_free_cameras_are_the_cameras_that_mj_envs_declares(
    simulators: Callable[[str], Any],
) -> None:
    import mujoco

    spec = mujoco.MjSpec.from_file(simulators("light_on")._robot.fullpath)
    for name, (eye, target, _) in CAMERAS.items():
        mode = mujoco.mjtCamLight.mjCAMLIGHT_TARGETBODY
        spec.worldbody.add_camera(name=name, pos=eye, mode=mode, targetbody=target)
    model = spec.compile()
    data, renderer = mujoco.MjData(model), FrameRenderer(model, 224, "fast")
    for simulator in map(simulators, DRAWN):
        simulator.reset(0)
        data.qpos[:] = simulator.state()
        mujoco.mj_forward(model, data)
        declared = renderer.frame(data, simulator.rules.camera)
        gap = np.abs(simulator.frame().astype(int) - declared.astype(int))
        assert (gap > 8).any(axis=-1).mean() < 0.01  # edges, by rounding of the angles
    renderer.close()


def test_the_full_profile_draws_shadows(light: Any) -> None:
    light.reset(0)
    fast = light.frame()
    with simulate(replace(TASKS["light_on"], profile="full")) as simulator:
        simulator.reset(0)
        full = simulator.frame()
    simulator.close()  # twice does no harm
    assert difference(fast, full).other
    assert full.mean() < fast.mean()


def test_nothing_needs_opengl_before_the_first_frame() -> None:
    code = """
from tasks.robot.simulators.kitchen_tasks import RULES
from tasks.robot.simulators.simulator import simulate
simulator = simulate(RULES["light_on"])
simulator.reset(0)
simulator.step(simulator.expert().act())
simulator.state()
simulator.close()
import mujoco
print(hasattr(mujoco, "GLContext"))
"""
    assert spoken(code, **{gl.VARIABLE: "disabled"}) == "False\n"


# ---------------------------------------------------------------- the edges


def test_what_says_the_rules_imports_no_simulator() -> None:
    code = """
import sys
import tasks.robot.simulators.kitchen
import tasks.robot.simulators.kitchen_recipes
print({"mujoco", "gymnasium", "gymnasium_robotics", "torch"} & set(sys.modules))
"""
    assert spoken(code) == "set()\n"


def test_what_is_unknown_is_said_with_what_is_known() -> None:
    with pytest.raises(SpecError, match="no task 'light_onn'; did you mean 'light_on'"):
        simulate(replace(TASKS["light_on"], name="light_onn"))
    with pytest.raises(SpecError, match="no camera 'left_cap'; did you mean 'left_cap2'"):
        simulate(replace(TASKS["light_on"], camera="left_cap"))


def test_a_mujoco_that_the_kitchen_does_not_run_on_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mujoco

    class Joints:
        """Types that equal no number of a model, as the environment finds them from 3.12 on."""

        mjJNT_FREE = mjJNT_BALL = mjJNT_HINGE = mjJNT_SLIDE = object()

    monkeypatch.setattr(mujoco, "mjtJoint", Joints)
    advice = rf"mujoco {mujoco.__version__} .*pip install 'mujoco==3\.3\.0'"
    with pytest.raises(DataError, match=advice) as raised:
        simulate(TASKS["light_on"])
    assert "\n" not in str(raised.value)

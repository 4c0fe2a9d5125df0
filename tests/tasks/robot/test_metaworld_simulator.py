"""Meta-World: episodes follow from the seed alone, frames show them, the shipped experts solve."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.errors import DataError, SpecError
from tasks.robot.simulators.metaworld import GOALS, _goals
from tasks.robot.simulators.metaworld_tasks import CAMERAS, RULES
from tasks.robot.simulators.simulator import simulate

TASKS = tuple(RULES)
#: Shares of 50 goals that the experts reached when the suite was designed, at the literature's
#: horizons: with more than ten solved decisions, and with any.
EXPECTED = {
    "hammer": (1.00, 1.00),
    "drawer-close": (1.00, 1.00),
    "door-open": (0.92, 0.94),
    "bin-picking": (0.98, 1.00),
    "button-press-topdown": (1.00, 1.00),
    "window-close": (1.00, 1.00),
    "lever-pull": (0.24, 0.98),
    "coffee-pull": (1.00, 1.00),
}
HELD_OUT = 10_000  # the first seed of a block that no demonstration has
#: Tasks whose experts must solve 98 % of the goals, and 90 % under the noise of demonstrations.
#: door-open reaches 0.91 with and without noise; bin-picking 0.93, and 0.90 with noise (400 goals
#: each, seeds 0 to 399): the 0.98 above was a lucky 50 for it.
SURE = tuple(task for task in TASKS if task not in ("door-open", "bin-picking"))


#: One for each camera.
DRAWN = ("hammer", "coffee-pull")

pytestmark = pytest.mark.usefixtures("drawing")


@pytest.fixture(scope="module")
def simulators(drawing: str) -> Iterator[Callable[[str], Any]]:
    """Task -> its simulator, which other tests have used before."""
    with contextlib.ExitStack() as stack:
        yield cache(lambda task: stack.enter_context(simulate(RULES[task])))


def play(simulator: Any, seed: int, decisions: int, drawn: bool = True) -> list[npt.NDArray[Any]]:
    """States, frames, actions and solved decisions of the expert's first decisions."""
    simulator.reset(seed)
    expert = simulator.expert()
    seen = []
    for number in range(decisions):
        action = expert.act()
        seen += [simulator.state(), action]
        if drawn and number in (0, decisions // 2):
            seen.append(simulator.frame())
        seen.append(np.array(simulator.step(action)))
    return [*seen, simulator.state(), *([simulator.frame()] if drawn else [])]


def digest(simulator: Any, seed: int) -> str:
    """Of all that a simulator shows in an episode."""
    seen = play(simulator, seed, 20)
    return hashlib.sha256(b"".join(part.tobytes() for part in seen)).hexdigest()


def same(one: list[npt.NDArray[Any]], other: list[npt.NDArray[Any]]) -> bool:
    """Whether two plays are equal to the bit."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def reference(task: str, goal: int) -> Any:
    """Meta-World's own environment of MT1(seed=0), as its documentation says, already reset."""
    import metaworld

    benchmark = metaworld.MT1(f"{task}-v3", seed=0)
    environment = benchmark.train_classes[f"{task}-v3"]()
    environment.set_task(benchmark.train_tasks[goal])
    return environment, environment.reset()[0]


@pytest.mark.parametrize(
    ("task", "drawn"),
    [(task, False) for task in ("bin-picking", "window-close")]
    + [pytest.param(task, True, marks=pytest.mark.slow) for task in TASKS],
)
def test_the_order_of_resets_changes_nothing(
    task: str, drawn: bool, simulators: Callable[[str], Any]
) -> None:
    first = simulators(task)
    play(first, 41, RULES[task].decisions, drawn=False)
    play(first, 3, 5, drawn)
    once = play(first, 7, 20, drawn)
    other = play(first, 8, 20, drawn)
    again = play(first, 7, 20, drawn)
    with simulate(RULES[task]) as second:
        fresh = play(second, 7, 20, drawn)
    assert same(once, fresh)
    assert same(once, again)
    if drawn:
        assert not np.array_equal(once[2], other[2]), "another seed's first frame is the same"
    else:
        assert not np.array_equal(once[0], other[0]), "another seed's first state is the same"


@pytest.mark.parametrize("task", ["hammer", pytest.param("coffee-pull", marks=pytest.mark.slow)])
def test_another_process_sees_the_same_and_says_nothing(
    task: str, simulators: Callable[[str], Any]
) -> None:
    code = """
import runpy, sys
here = runpy.run_path(sys.argv[1])
with here["simulate"](here["RULES"][sys.argv[2]]) as simulator:
    print(here["digest"](simulator, 7))
"""
    command = [sys.executable, "-W", "error", "-c", code, __file__, task]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == digest(simulators(task), 7) + "\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "task", ["window-close", pytest.param("bin-picking", marks=pytest.mark.slow)]
)
def test_decisions_are_those_of_metaworlds_own_environment(
    task: str, simulators: Callable[[str], Any]
) -> None:
    rules, simulator = RULES[task], simulators(task)
    environment, observed = reference(task, 4)
    simulator.reset(4)
    expert = simulator.expert()
    assert np.array_equal(simulator.state(), observed)
    for number in range(rules.decisions):
        action = expert.act()
        solved = simulator.step(action)
        for _ in range(min(rules.repeat, rules.horizon - number * rules.repeat)):
            observed, *_, info = environment.step(action)
        assert np.array_equal(simulator.state(), observed)
        assert solved == (info["success"] == 1.0)
    environment.close()


def test_the_goal_can_be_seen_in_the_state(simulators: Callable[[str], Any]) -> None:
    simulator = simulators("hammer")
    simulator.reset(0)
    at_reset = simulator.state()
    simulator.step(np.zeros(4))
    assert at_reset.shape == (39,)
    assert at_reset[-3:] == pytest.approx(simulator._env._target_pos)
    assert np.array_equal(at_reset[-3:], simulator.state()[-3:])


@pytest.mark.parametrize(("task", "steps"), [("drawer-close", 125), ("lever-pull", 175)])
def test_the_last_decision_is_cut_at_the_horizon(
    task: str, steps: int, simulators: Callable[[str], Any]
) -> None:
    rules, simulator = RULES[task], simulators(task)
    simulator.reset(0)
    for number in range(rules.decisions):
        simulator.step(np.zeros(4))
        assert simulator._env.curr_path_length == min(2 * (number + 1), steps)
    assert rules.decisions == (steps + 1) // 2
    assert not simulator.step(np.zeros(4)), "there is nothing after the horizon"
    assert simulator._env.curr_path_length == steps


def test_an_episode_may_be_as_long_as_metaworlds_and_no_longer() -> None:
    with simulate(replace(RULES["drawer-close"], horizon=500)) as simulator:
        simulator.reset(0)
        for _ in range(251):
            simulator.step(np.zeros(4))
    with pytest.raises(SpecError, match="horizon=501: expected at most 500"):
        simulate(replace(RULES["drawer-close"], horizon=501))


@pytest.mark.parametrize("task", DRAWN)
def test_up_is_up_in_the_frames(task: str, simulators: Callable[[str], Any]) -> None:
    simulator = simulators(task)
    simulator.reset(0)
    rows = []
    for _ in range(2):
        red, green, blue = np.moveaxis(simulator.frame().astype(int), -1, 0)
        rows.append(np.nonzero((green > 140) & (blue > 140) & (red < 90))[0].mean())
        for _ in range(15):
            simulator.step(np.array([0.0, 0.0, 1.0, 0.0]))
    assert rows[1] < rows[0] - 5, "the blue finger must rise with the hand"


def test_frames_that_are_not_turned_are_the_same_upside_down(
    simulators: Callable[[str], Any],
) -> None:
    upright = simulators("hammer")
    upright.reset(0)
    with simulate(replace(RULES["hammer"], upright=False)) as raw:
        raw.reset(0)
        assert np.array_equal(upright.frame(), raw.frame()[::-1])
    assert upright.frame().shape == (224, 224, 3)
    raw.close()  # twice does no harm


def test_the_first_frame_shows_the_window_open(simulators: Callable[[str], Any]) -> None:
    import mujoco

    simulator = simulators("window-close")
    simulator.reset(0)
    first = simulator.frame()
    mujoco.mj_forward(simulator._env.model, simulator._env.data)
    assert np.array_equal(first, simulator.frame())
    simulator._env.reset()  # what Meta-World would show instead
    assert not np.array_equal(first, simulator.frame())


def test_the_models_have_the_cameras_that_may_be_asked_for(
    simulators: Callable[[str], Any],
) -> None:
    for task in TASKS:
        model = simulators(task)._env.model
        assert {model.camera(n).name for n in range(model.ncam)} == set(CAMERAS)


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_the_task(task: str, simulators: Callable[[str], Any]) -> None:
    solved, asked = solve(simulators(task), 1, noise=0.0)
    assert solved >= RULES[task].needed
    assert np.abs(asked).max() == 1.0, "actions are clipped to what can be executed"


def test_what_is_unknown_is_said_with_what_is_known() -> None:
    with pytest.raises(SpecError, match="no task 'hamer'; did you mean 'hammer'"):
        simulate(replace(RULES["hammer"], name="hamer"))
    with pytest.raises(SpecError, match="no camera 'corner9'; did you mean 'corner"):
        simulate(replace(RULES["hammer"], camera="corner9"))


def test_a_mujoco_that_metaworld_does_not_run_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from metaworld.sawyer_xyz_env import SawyerMocapBase

    def wider(self: Any) -> None:
        """What its weld constraints meet from MuJoCo 3.17 on."""
        np.zeros((1, 12))[0] = np.zeros(11)

    monkeypatch.setattr(SawyerMocapBase, "reset_mocap_welds", wider)
    with pytest.raises(DataError, match=r"mujoco 3\..*pip install 'mujoco==3\.3\.0'") as raised:
        simulate(RULES["hammer"])
    assert "\n" not in str(raised.value)


def test_the_first_fifty_seeds_are_the_goals_that_the_literature_shares(
    simulators: Callable[[str], Any],
) -> None:
    import metaworld

    simulator = simulators("drawer-close")
    environment = simulator._env
    _goals.cache_clear()
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    starts = {}
    for seed in range(0, 2 * GOALS, 11):
        simulator.reset(seed)
        starts[seed] = tuple(environment._last_rand_vec)
    assert np.array_equal(before, np.random.get_state()[1]), "numpy's global state was used"
    assert len(set(starts.values())) == len(starts)
    np.random.seed(2)
    goals = metaworld.MT1("drawer-close-v3", seed=0).train_tasks
    for seed in range(0, GOALS, 11):
        environment.set_task(goals[seed])
        assert starts[seed] == tuple(environment._last_rand_vec)


def solve(simulator: Any, seed: int, noise: float) -> tuple[int, npt.NDArray[np.float64]]:
    """Solved decisions of the expert's episode, and (T, 4) what it asked for; labels stay clean."""
    rng = np.random.default_rng(seed)
    shaken = np.isin(np.arange(simulator.action_size), simulator.noisy)
    simulator.reset(seed)
    expert = simulator.expert()
    solved, asked = 0, []
    for _ in range(simulator.rules.decisions):
        asked.append(expert.act())
        moved = asked[-1] + noise * shaken * rng.standard_normal(simulator.action_size)
        solved += simulator.step(np.clip(moved, -1.0, 1.0))
    return solved, np.array(asked)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, HELD_OUT])
@pytest.mark.parametrize("task", TASKS)
def test_experts_succeed_as_often_as_they_did_and_stand_noise(task: str, first: int) -> None:
    from scipy.stats import binom

    counts: dict[float, tuple[int, int]] = {}
    with simulate(RULES[task]) as simulator:
        for noise in (0.0, 0.05):
            solved = [solve(simulator, first + goal, noise)[0] for goal in range(GOALS)]
            counts[noise] = (sum(s > 10 for s in solved), sum(s >= 1 for s in solved))
            print(f"{task} from {first}, noise {noise}: >10 and any of {GOALS}", counts[noise])
    for found, rate in zip(counts[0.0], EXPECTED[task], strict=True):
        shrunk = (rate * GOALS + 1) / (GOALS + 2)  # a rate of 1 from 50 goals is not certainty
        low, high = binom.interval(0.99, GOALS, shrunk)
        assert low <= found <= high
    judged = 0 if RULES[task].needed > 1 else 1
    if task in SURE:
        assert counts[0.0][judged] >= 0.98 * GOALS
        assert counts[0.05][judged] >= 0.9 * GOALS

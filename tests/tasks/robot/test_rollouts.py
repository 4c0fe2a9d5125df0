"""Episodes: the same whatever the workers; policies in batches, and experts that may fail."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.errors import DataError
from tasks.robot.cloning.crew import Crew
from tasks.robot.cloning.demonstration import Demonstration
from tasks.robot.cloning.operator import Act, Begin, demonstrate
from tasks.robot.cloning.rollouts import Rollout, collect, replays, roll_out
from tasks.robot.simulators.simulator import rules_of, simulate

pytestmark = pytest.mark.xdist_group("crew")  # one process has the workers of all tests

#: Nine decisions, in which the expert solves the task from the goals 0, 1, 2, 5 and 6, not 3 and 4.
RULES = replace(
    rules_of("metaworld", "button-press-topdown"),
    frame_px=32,
    repeat=8,
    horizon=72,
    needed=1,
    stay=1,
)
DECISIONS, NOISE = 9, 0.05
SEEDS = (44, 4, 17)
BATCH = 3
Frames = npt.NDArray[np.uint8]


def act(frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(n, 4) of (n, 32, 32, 3), exactly the same for a row in any batch; every pixel changes it."""
    flat = frames.reshape(len(frames), -1).astype(np.int64)
    weights = np.arange(flat.shape[1] * 4).reshape(-1, 4) % 1009
    return (flat @ weights % 997) / 498.5 - 1


class Noted:
    """An actor that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Frames] = []

    def __call__(self, frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self.shown.append(frames.copy())
        return act(frames)


def rolled(crew: Crew, actor: Any = act, batch: int = BATCH) -> dict[int, Rollout]:
    """Seed -> its rollout."""
    return {rollout.seed: rollout for rollout in roll_out(crew, SEEDS, actor, batch)}


@pytest.fixture(scope="module")
def here(drawing: str) -> Iterator[Crew]:
    """No process: one simulator in this one."""
    with Crew(RULES, "frame", 0) as crew:
        yield crew


@pytest.fixture(scope="module")
def two(drawing: str) -> Iterator[Crew]:
    """Two processes that draw."""
    with Crew(RULES, "frame", 2) as crew:
        yield crew


@pytest.fixture(scope="module")
def seen(here: Crew) -> tuple[dict[int, Rollout], list[Frames]]:
    """The rollouts without a process, and every batch that the policy was shown."""
    actor = Noted()
    return rolled(here, actor), actor.shown


# ---------------------------------------------------------------- rollouts


@pytest.mark.parametrize("batch", [1, BATCH])
def test_episodes_do_not_depend_on_the_number_of_workers(
    batch: int, two: Crew, seen: tuple[dict[int, Rollout], list[Frames]]
) -> None:
    expected, found = seen[0], rolled(two, batch=batch)
    assert set(found) == set(expected) == set(SEEDS)
    for seed in SEEDS:
        assert found[seed].actions.shape == (DECISIONS, 4)
        assert found[seed].actions.dtype == np.float32
        assert np.array_equal(found[seed].actions, expected[seed].actions)
        assert np.array_equal(found[seed].solved, expected[seed].solved)
    assert len({found[seed].actions.tobytes() for seed in SEEDS}) == len(SEEDS)


def test_a_policy_is_asked_in_rows_of_one_number_filled_up_with_zeros(
    two: Crew, seen: tuple[dict[int, Rollout], list[Frames]]
) -> None:
    actor = Noted()
    rolled(two, actor)
    rows = {}
    for name, shown in (("one", seen[1]), ("two", actor.shown)):
        assert {batch.shape for batch in shown} == {(BATCH, 32, 32, 3)}
        drawn = np.stack([batch.any(axis=(1, 2, 3)) for batch in shown])
        assert drawn[:, 0].all()
        assert (drawn[:, 1:] <= drawn[:, :-1]).all(), "rows of zeros come last"
        rows[name] = drawn.sum(axis=1)
        assert rows[name].sum() == len(SEEDS) * DECISIONS
    assert set(rows["one"]) == {1}
    assert set(rows["two"]) <= {1, 2}


def test_what_a_policy_does_is_clipped_to_what_can_be_done(here: Crew) -> None:
    def wild(frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.tile([5.0, -5.0, 0.5, -1.0], (len(frames), 1))

    (rollout,) = roll_out(here, [0], wild)
    assert np.array_equal(rollout.actions, np.tile(np.float32([1, -1, 0.5, -1]), (DECISIONS, 1)))


def test_replays_come_in_order_and_are_what_was_seen_and_done(
    two: Crew, seen: tuple[dict[int, Rollout], list[Frames]]
) -> None:
    rollouts, shown = seen
    order = (SEEDS[2], SEEDS[0], SEEDS[1])
    found = list(replays(two, [(seed, rollouts[seed].actions) for seed in order]))
    frames = np.stack([batch[0] for batch in shown]).reshape(len(SEEDS), DECISIONS, 32, 32, 3)
    for seed, (film, solved) in zip(order, found, strict=True):
        assert film.shape == (DECISIONS + 1, 32, 32, 3)
        assert np.array_equal(film[:-1], frames[SEEDS.index(seed)])
        assert np.array_equal(solved, rollouts[seed].solved)


def test_who_begins_with_actions_is_where_who_took_them_is(here: Crew) -> None:
    operator = here.workers[0].operator
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
    taken, late = [], []
    operator.obey(Begin(5))
    for action in actions:
        taken.append((operator.obey(Act(action)), operator.canvas.copy()))
    late.append((operator.obey(Begin(5, tuple(actions[:5]))), operator.canvas.copy()))
    assert late[0][0].solved == tuple(one.solved[0] for one, _ in taken[:5])
    late.append((operator.obey(Act(actions[5])), operator.canvas.copy()))
    for (_, frame), (_, expected) in zip(late, taken[4:], strict=True):
        assert np.array_equal(frame, expected)


# ---------------------------------------------------------------- demonstrations


def equal(one: Demonstration, other: Demonstration) -> bool:
    """Whether two demonstrations are equal to the bit."""
    pairs = ((getattr(one, name), getattr(other, name)) for name in ("frames", "states", "actions"))
    return one.seed == other.seed and all(np.array_equal(a, b) for a, b in pairs)


def test_demonstrations_are_those_of_the_first_seeds_that_succeed(here: Crew, two: Crew) -> None:
    alone = list(collect(here, count(), 4, NOISE, ""))
    assert [episode.seed for episode in alone] == [0, 1, 2, 5]
    assert demonstrate(here.workers[0].operator.simulator, 3, NOISE) is None
    list(collect(two, count(), 2, NOISE, ""))  # so that both are there
    pids = [worker.process.pid for worker in two.workers]
    os.kill(pids[0], signal.SIGSTOP)  # the other one overtakes it
    late = threading.Timer(1.0, os.kill, (pids[0], signal.SIGCONT))
    late.start()
    pairs = zip(alone, collect(two, count(), 4, NOISE, ""), strict=True)
    assert all(equal(one, other) for one, other in pairs)
    (later,) = collect(two, count(4), 1, NOISE, "")
    assert [worker.process.pid for worker in two.workers] == pids, "none was begun in vain"
    assert equal(later, alone[3])


def test_the_noise_is_executed_and_the_label_is_clean(
    here: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = here.workers[0].operator.simulator
    step, executed = simulator.step, []

    def stepping(action: npt.NDArray[Any]) -> bool:
        executed.append(action)
        return step(action)

    with monkeypatch.context() as patch:
        patch.setattr(simulator, "step", stepping)
        episodes = [demonstrate(simulator, seed, NOISE) for seed in (0, 1, 2, 5)]
    taken, noise = iter(executed), []
    for episode in episodes:
        assert episode is not None
        simulator.reset(episode.seed)
        expert = simulator.expert()
        for state, frame, label in zip(
            episode.states, episode.frames, episode.actions, strict=True
        ):
            assert np.array_equal(simulator.state(), state)
            assert np.array_equal(simulator.frame(), frame)
            assert np.array_equal(expert.act().astype(np.float32), label)
            action = next(taken)
            assert action[3] == label[3], "the gripper is not shaken"
            assert np.abs(action).max() <= 1
            noise += (action - label)[:3][np.abs(label[:3]) < 0.8].tolist()  # none is clipped
            solved = simulator.step(action)
        assert solved, "it ends when the task has been solved for `stay` decisions"
    assert next(taken, None) is None
    assert len(noise) > 30
    assert np.std(noise) == pytest.approx(NOISE, rel=0.4)
    assert abs(np.mean(noise)) < 3 * NOISE / np.sqrt(len(noise))


def test_an_expert_that_fails_too_often_is_given_up_with_advice(drawing: str) -> None:
    with (
        Crew(RULES, "frame", 0) as crew,
        pytest.raises(
            DataError, match=r"succeeds in 0 of 20 episodes .*, or ask for fewer solved decisions$"
        ) as raised,
    ):
        list(collect(crew, count(18), 1, 3.0, "", before=(18, 0)))  # an interruption helps none
    assert "(horizon 72, needed 1, noise 3)" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_demonstration_goes_on_until_as_much_is_solved_as_a_success_needs(drawing: str) -> None:
    rules = replace(rules_of("franka_kitchen", "light_on"), frame_px=16)
    assert rules.needed < rules.stay
    lengths = []
    for needed in (rules.needed, rules.stay + 4):
        with simulate(replace(rules, needed=needed)) as simulator:
            found = demonstrate(simulator, 0, 0.0)
        assert found is not None
        lengths.append(len(found.actions))
    assert lengths[1] == lengths[0] + 4

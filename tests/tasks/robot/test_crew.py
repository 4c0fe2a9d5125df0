"""Workers: what hangs, dies or fails is named and mended, and no process is left behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench import gl
from bench.errors import DataError, SpecError
from tasks.robot.cloning.crew import Crew, Patience
from tasks.robot.cloning.operator import Act, Begin
from tasks.robot.cloning.rollouts import Rollout, roll_out
from tasks.robot.simulators.simulator import rules_of, simulate

pytestmark = pytest.mark.xdist_group("crew")  # one process has the workers of all tests

RULES = replace(rules_of("franka_kitchen", "light_on"), horizon=10, needed=1)
SEEDS = (3, 10_000, 7)
PATIENCE = Patience(start=120, answer=4, decision=12)
NAMED = "franka_kitchen light_on: the worker {} (rendering with {}) {} at the episode of seed "


def act(states: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(n, 9) of (n, 30), exactly the same for a row in any batch; a small change changes it."""
    return (states[:, :9] * 40) % 2 - 1


def rolled(crew: Crew, actor: Any = act) -> dict[int, Rollout]:
    """Seed -> its rollout."""
    return {rollout.seed: rollout for rollout in roll_out(crew, SEEDS, actor)}


def same(one: dict[int, Rollout], other: dict[int, Rollout]) -> bool:
    """Whether the same was done and solved in all episodes, to the bit."""
    assert set(one) == set(other) == set(SEEDS)
    return all(
        np.array_equal(one[seed].actions, other[seed].actions)
        and np.array_equal(one[seed].solved, other[seed].solved)
        for seed in SEEDS
    )


def gone(pid: int) -> bool:
    """Whether a process ends within a minute."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # and nobody has asked how
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def crew(simulation: str) -> Iterator[Crew]:
    """Two workers that draw nothing."""
    with Crew(RULES, "state", 2, PATIENCE) as crew:
        yield crew


@pytest.fixture(scope="module")
def expected(simulation: str) -> dict[int, Rollout]:
    """The episodes as they are without any process."""
    with Crew(RULES, "state", 0) as crew:
        found = rolled(crew)
    assert len({rollout.actions.tobytes() for rollout in found.values()}) == len(SEEDS)
    assert all(rollout.actions.shape == (10, 9) for rollout in found.values())
    return found


# ---------------------------------------------------------------- workers


def test_episodes_do_not_depend_on_the_number_of_workers(
    crew: Crew, expected: dict[int, Rollout]
) -> None:
    assert same(rolled(crew), expected)


def test_a_worker_that_draws_nothing_needs_no_opengl_and_ends_by_itself(
    expected: dict[int, Rollout], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gl.VARIABLE, "disabled")
    with pytest.raises(DataError, match="no OpenGL back-end draws an image"):
        Crew(RULES, "frame", 1)
    with Crew(RULES, "state", 1) as crew:
        assert same(rolled(crew), expected)
        process = crew.workers[0].process
    assert process.exitcode == 0, "who is not busy closes its simulator, and is not killed"


@pytest.mark.parametrize(
    ("strike", "what"), [(signal.SIGSTOP, "gave no answer in time"), (signal.SIGKILL, "died")]
)
def test_a_worker_that_hangs_or_dies_is_named_and_replaced_and_its_episode_is_the_same(
    strike: signal.Signals,
    what: str,
    crew: Crew,
    expected: dict[int, Rollout],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    rolled(crew)  # so that both are there
    victim, calls = crew.workers[0].process, itertools.count()

    def struck(states: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if next(calls) == 9:
            os.kill(victim.pid, strike)
        return act(states)

    capsys.readouterr()
    assert same(rolled(crew, struck), expected)
    (told,) = [line for line in capsys.readouterr().err.splitlines() if f" {victim.pid} " in line]
    start, seed, end = told.partition("seed ")[0] + "seed ", *told.partition("seed ")[2].split("; ")
    assert start == NAMED.format(victim.pid, crew.backend, what)
    assert int(seed) in SEEDS
    assert end == "a new one takes its place"
    assert victim.exitcode == -signal.SIGKILL
    assert crew.workers[0].process.is_alive()


def test_a_worker_that_is_sent_ctrl_c_leaves_it_to_its_parent(
    crew: Crew, expected: dict[int, Rollout]
) -> None:
    rolled(crew)
    pids = [worker.process.pid for worker in crew.workers]
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    assert same(rolled(crew), expected)
    assert [worker.process.pid for worker in crew.workers] == pids


def test_a_worker_that_never_answers_is_given_up_with_advice(
    simulation: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    monkeypatch.delenv(gl.VARIABLE)
    nobody = Patience(start=0.05, answer=0.05, decision=0)
    with Crew(RULES, "state", 1, nobody) as crew:
        with pytest.raises(DataError, match="gave no answer in time at the episode of") as raised:
            rolled(crew)
        assert crew.workers == []
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert f"with {crew.backend})" in first
    assert f"with {crew.backend})" in second
    message = str(raised.value)
    assert "\n" not in message
    others = [name for name in gl.BACKENDS if name != crew.backend and not gl.failure(name)]
    last = [*others, crew.backend][0]
    assert f"with {last})" in message, "the last try is with another back-end"
    assert message.endswith("for the 3rd time: try fewer --workers, or --workers 0"), "no driver"
    assert crew.notes == [], "nobody saw a frame"


def test_a_whole_episode_may_take_longer_the_more_decisions_it_has(simulation: str) -> None:
    for horizon in (10, 500):
        patience = Patience(start=1000, answer=60, decision=5)
        with Crew(replace(RULES, horizon=horizon), "state", 1, patience) as crew:
            (worker,) = crew.workers
            assert worker.allowed([Begin(0)]) == 1060
            assert worker.allowed([Begin(0), Act(np.zeros(9))]) == 1060 + 5 * horizon
            worker.ask([Begin(0)])
            assert worker.allowed([Begin(0)]) == 60


# ---------------------------------------------------------------- errors


def test_an_error_in_a_worker_comes_with_its_traceback_and_the_worker_goes_on(crew: Crew) -> None:
    worker = crew.workers[0]
    worker.ask([Begin(0)])
    next(crew.answers())
    worker.ask([Begin(0), Act(np.zeros(3))])
    with pytest.raises(RuntimeError, match="in a worker process:\nTraceback") as raised:
        next(crew.answers())
    assert "operator.py" in str(raised.value)
    pid = worker.process.pid
    worker.ask([Begin(0)])
    ((answered, seen),) = crew.answers()
    assert answered is worker
    assert seen.state.shape == (30,)
    assert worker.process.pid == pid


def test_advice_of_a_worker_is_what_the_parent_would_have_said(simulation: str) -> None:
    nowhere = replace(RULES, camera="nowhere")
    with pytest.raises(SpecError) as here:
        simulate(nowhere)
    with Crew(nowhere, "state", 1) as crew:
        with pytest.raises(SpecError) as there:
            rolled(crew)
        assert crew.workers == [], "what is left of the work is dropped at once"
    assert str(there.value) == str(here.value)


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_process_is_left_after_an_error(error: type[BaseException], simulation: str) -> None:
    processes = []

    def work() -> None:
        with Crew(RULES, "state", 2) as crew:
            for worker in crew.workers:
                worker.ask([Begin(0)])
                processes.append(worker.process)
            raise error

    with pytest.raises(error):
        work()
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 2


@pytest.mark.parametrize("strike", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_the_parent_is_ended(strike: signal.Signals) -> None:
    code = """
import time
from tasks.robot.cloning.crew import Crew
from tasks.robot.cloning.operator import Begin
from tasks.robot.simulators.simulator import rules_of
with Crew(rules_of("franka_kitchen", "light_on"), "state", 1) as crew:
    crew.workers[0].ask([Begin(0)])
    print(crew.workers[0].process.pid, flush=True)
    time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        if strike == signal.SIGINT:
            os.killpg(parent.pid, strike)  # as a terminal sends Ctrl-C: to the worker too
        else:
            parent.kill()
        _, told = parent.communicate(timeout=60)
    assert parent.returncode == -strike
    assert gone(worker)
    assert told.count("Traceback") == (strike == signal.SIGINT), told


def test_frames_of_another_back_end_are_noted(
    drawing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gl, "candidates", lambda: gl.BACKENDS)
    monkeypatch.setattr(gl, "failure", lambda name: "")
    nobody = Patience(start=0.05, answer=0.05, decision=0)
    with Crew(RULES, "frame", 1, nobody) as crew, pytest.raises(DataError) as raised:
        rolled(crew)
    assert gl.VARIABLE not in str(raised.value), "both were tried"
    first, other = crew.backend, gl.BACKENDS[crew.backend == gl.BACKENDS[0]]
    assert crew.notes == [
        f"light_on: some frames were drawn with {other}, the others with {first}, which did not "
        "answer"
    ]


def test_a_back_end_that_was_not_tried_is_advised_with_what_it_needs(
    drawing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gl, "candidates", lambda: gl.BACKENDS)
    monkeypatch.setattr(gl, "failure", lambda name: "" if name == drawing else "not there")
    other = gl.BACKENDS[drawing == gl.BACKENDS[0]]
    nobody = Patience(start=0.05, answer=0.05, decision=0)
    advice = f"try {gl.VARIABLE}={other} (after {gl.PACKAGES[other]}), fewer --workers"
    with Crew(RULES, "frame", 1, nobody) as crew, pytest.raises(DataError) as raised:
        rolled(crew)
    assert advice in str(raised.value)
    assert crew.notes == []

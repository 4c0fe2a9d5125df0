"""Training of policies: what batches hold, what is learned, and what a kill changes: nothing."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.errors import TrainingError
from bench.snapshot import Snapshot
from tasks.robot.cloning import training
from tasks.robot.cloning.policy import PIXELS, frozen_policy, pixel_policy, state_policy
from tasks.robot.cloning.training import Plan, Samples, batches, train

LENGTHS = np.array([30, 10, 60])
NOWHERE = Snapshot(None, "")
Make = Callable[[int], nn.Module]


def drawn(plan: Plan, lengths: np.ndarray, start: int = 0) -> np.ndarray:
    return np.stack(list(batches(plan, lengths, start)))


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("start", [0, 1, 499, 500, 501, 999, 1000, 1233])
def test_the_rows_of_a_step_do_not_depend_on_where_training_starts(start: int) -> None:
    plan = Plan(steps=1234, batch=5, seed=3)
    np.testing.assert_array_equal(drawn(plan, LENGTHS, start), drawn(plan, LENGTHS)[start:])


def test_the_rows_of_a_step_depend_on_the_seed_but_not_on_the_number_of_steps() -> None:
    short, long = Plan(steps=30, batch=8, seed=3), Plan(steps=700, batch=8, seed=3)
    np.testing.assert_array_equal(drawn(short, LENGTHS), drawn(long, LENGTHS)[:30])
    assert (drawn(short, LENGTHS) != drawn(Plan(30, 8, seed=4), LENGTHS)).mean() > 0.8
    rows = drawn(long, LENGTHS)
    assert (rows[1:] != rows[:-1]).any(axis=1).all()
    assert (rows[500:] != rows[:200]).any(axis=1).all()  # drawn together, but not alike


def test_every_demonstration_counts_alike_and_every_decision_of_it() -> None:
    lengths = np.array([1, 3, 40, 200])
    rows = drawn(Plan(steps=1000, batch=128), lengths).ravel()
    counts = np.bincount(rows, minlength=lengths.sum())
    assert len(counts) == lengths.sum()
    n = len(rows)
    for part, length in zip(np.split(counts, np.cumsum(lengths)[:-1]), lengths, strict=True):
        assert abs(part.sum() - n / 4) < 5 * np.sqrt(n * 3 / 16)
        expected = n / 4 / length
        assert np.abs(part - expected).max() < 5 * np.sqrt(expected) + 5 * np.sqrt(n * 3 / 16)
        chi2 = ((part - part.mean()) ** 2 / part.mean()).sum()
        assert chi2 <= length - 1 + 5 * np.sqrt(2 * max(length - 1, 0))


# ---------------------------------------------------------------- learning


def token_problem(n: int) -> tuple[torch.Tensor, torch.Tensor, Make]:
    """The action stands in one token among noise, at a place that the token itself tells."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.8, 0.8, (n, 2))
    tokens = 0.1 * rng.normal(size=(n, 6, 16))
    place = rng.integers(0, 6, n)
    tokens[np.arange(n), place, :2] += 2 * actions
    tokens[np.arange(n), place, 2] += 3
    make = partial(frozen_policy, "map", 16, 4, 2)
    return torch.from_numpy(tokens).half(), torch.from_numpy(actions).float(), make


def vector_problem(n: int) -> tuple[torch.Tensor, torch.Tensor, Make]:
    """The action is a linear map of the vector, which LayerNorm leaves as it is."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, 8))
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= vectors.std(axis=1, keepdims=True)
    actions = vectors @ rng.normal(size=(8, 2)) / 12
    make = partial(frozen_policy, "cls", 8, 4, 2)
    return torch.from_numpy(vectors).half(), torch.from_numpy(actions).float(), make


def state_problem(n: int) -> tuple[torch.Tensor, torch.Tensor, Make]:
    """The action is a linear map of states of very different size; one never moves."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(n, 6))
    actions = states @ rng.normal(size=(6, 2)) / 8
    states = states * [1e-3, 1, 100, 1, 5, 0] + [0, 50, 0, -3, 0, 1]
    actions = actions.clip(-0.9, 0.9)
    make = partial(state_policy, states, 2)
    return torch.from_numpy(states).float(), torch.from_numpy(actions).float(), make


def pixel_problem(n: int) -> tuple[torch.Tensor, torch.Tensor, Make]:
    """The action is the place of a bright square, seen from the corner of the frame."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.8, 0.8, (n, 2))
    frames = rng.integers(0, 40, (n, PIXELS, PIXELS, 3), dtype=np.uint8)
    for frame, (y, x) in zip(frames, ((actions + 1) * 45 + 11).astype(int), strict=True):
        frame[y - 10 : y + 10, x - 10 : x + 10] = (250, 60, 60)
    return torch.from_numpy(frames), torch.from_numpy(actions).float(), partial(pixel_policy, 2)


@dataclass(frozen=True)
class Problem:
    """What is to be learned, from how many moments, how, and what may be left of the variance."""

    made: Callable[[int], tuple[torch.Tensor, torch.Tensor, Make]]
    n: int
    plan: Plan
    left: float


PROBLEMS = {
    "tokens": Problem(token_problem, 1000, Plan(300, 32, 2e-3), 0.1),
    "vectors": Problem(vector_problem, 1000, Plan(500, 32, 1e-3), 0.1),
    "states": Problem(state_problem, 1000, Plan(500, 32, 1e-3), 0.15),
    "pixels": Problem(pixel_problem, 300, Plan(60, 16, 5e-4), 0.15),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_policies_learn_what_is_to_be_seen_and_nothing_of_shuffled_labels(name: str) -> None:
    problem = PROBLEMS[name]
    observations, actions, make = problem.made(problem.n)
    shown = 5 * problem.n // 6
    order = torch.randperm(problem.n, generator=torch.Generator().manual_seed(0))
    left = []
    for labels in (actions, actions[order]):
        policy = make(0)
        samples = Samples(observations[:shown], labels[:shown], np.array([100, shown - 100]))
        train(policy, samples, problem.plan, "cpu", NOWHERE, name)
        assert not policy.training
        asked = observations[shown:]
        with torch.inference_mode():
            found = policy(asked.float() if asked.dtype == torch.float16 else asked)
        left.append(float(F.mse_loss(found, labels[shown:]) / labels.var()))
    assert left[0] < problem.left
    assert left[1] > 0.8


def test_the_losses_are_those_of_the_stretches_of_training() -> None:
    observations, actions, make = vector_problem(300)
    samples, plan = Samples(observations, actions, np.array([100, 200])), Plan(96, 32)
    found = train(make(0), samples, plan, "cpu", NOWHERE, "")
    assert found.shape == (32,)
    assert found.dtype == np.float32
    policy, expected = make(0), []
    optimiser = torch.optim.Adam(policy.parameters(), lr=plan.lr)
    for rows in drawn(plan, samples.lengths):
        loss = ((policy(observations[rows].float()) - actions[rows]) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        expected.append(loss.item())
    np.testing.assert_allclose(found, np.reshape(expected, (32, 3)).mean(axis=1), rtol=1e-4)
    assert len(train(make(0), samples, Plan(7, 32), "cpu", NOWHERE, "")) == 7


# ---------------------------------------------------------------- the same bytes


def problem_of(name: str) -> tuple[Samples, Make]:
    observations, actions, make = PROBLEMS[name].made(40)
    return Samples(observations, actions, np.array([25, 15])), make


def trained(name: str, plan: Plan, snapshot: Snapshot = NOWHERE, start: int = 0) -> dict:
    samples, make = problem_of(name)
    policy = make(start)
    losses = train(policy, samples, plan, "cpu", snapshot, name)
    return {key: value.numpy() for key, value in policy.state_dict().items()} | {"losses": losses}


def same(one: dict, other: dict) -> bool:
    return all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("name", "steps"), [("tokens", 60), ("states", 60), ("pixels", 6)])
def test_the_same_seed_gives_the_same_bytes(name: str, steps: int) -> None:
    one = trained(name, Plan(steps, 8, seed=5))
    torch.manual_seed(99)
    np.random.seed(99)
    assert same(one, trained(name, Plan(steps, 8, seed=5)))
    assert not same(one, trained(name, Plan(steps, 8, seed=6)))
    assert not same(one, trained(name, Plan(steps, 8, seed=5), start=1))


def test_tokens_in_half_precision_are_learned_from_exactly() -> None:
    samples, make = problem_of("tokens")
    wide = Samples(samples.observations.float(), samples.actions, samples.lengths)
    one, other = make(0), make(0)
    train(one, samples, Plan(20, 8), "cpu", NOWHERE, "")
    train(other, wide, Plan(20, 8), "cpu", NOWHERE, "")
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def keep_every_chunk(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(training, "_CHUNK", chunk)
    monkeypatch.setattr("bench.snapshot._SECONDS", 0.0)
    monkeypatch.setattr("bench.snapshot._SHARE", 1e9)


class Killed(BaseException):
    """Stands for a kill in the middle of a training."""


def kill_at(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kills before these steps, counted over all runs; the list grows by each step done."""
    step, done, count = training._Learner.step, [], itertools.count(1)

    def stepping(self: training._Learner, rows: torch.Tensor) -> torch.Tensor:
        if next(count) in steps:
            raise Killed
        done.append(1)
        return step(self, rows)

    monkeypatch.setattr(training._Learner, "step", stepping)
    return done


@pytest.mark.parametrize("name", ["tokens", "vectors", "states"])
def test_a_training_that_was_killed_twice_ends_with_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_every_chunk(monkeypatch, 10)
    plan = Plan(55, 8, seed=2)
    whole = trained(name, plan)
    done = kill_at({24, 40}, monkeypatch)
    for _ in range(2):
        with pytest.raises(Killed):
            trained(name, plan, Snapshot(tmp_path, "state.pt"))
    found = trained(name, plan, Snapshot(tmp_path, "state.pt"))
    assert len(done) == 23 + 15 + 25  # to 23; from the state of 20 to 35; from that of 30 to 55
    assert same(whole, found)


def test_a_state_of_another_policy_is_told_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_every_chunk(monkeypatch, 10)
    kill_at({15}, monkeypatch)
    with pytest.raises(Killed):
        trained("vectors", Plan(30, 8), Snapshot(tmp_path, "state.pt"))
    with pytest.raises(TrainingError, match="run the same command again") as caught:
        trained("states", Plan(30, 8), Snapshot(tmp_path, "state.pt"))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    found = trained("states", Plan(30, 8), Snapshot(tmp_path, "state.pt"))
    assert same(found, trained("states", Plan(30, 8)))


def test_a_loss_that_is_not_finite_stops_training_with_advice() -> None:
    samples, make = problem_of("vectors")
    samples.actions[3, 0] = float("nan")
    with pytest.raises(TrainingError, match="loss is nan at step 100: lower lr") as caught:
        train(make(0), samples, Plan(300, 32), "cpu", NOWHERE, "")
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match="at step 5: "):  # the last step is looked at too
        train(make(0), samples, Plan(5, 32), "cpu", NOWHERE, "")


# ---------------------------------------------------------------- on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["tokens", "vectors", "states", "pixels"])
def test_a_step_recorded_as_a_graph_learns_as_a_processor_does(name: str) -> None:
    samples, make = problem_of(name)
    plan, found = Plan(60, 8, seed=2), {}
    for device in ("cpu", "cuda", "again"):
        policy = make(0)
        where = "cpu" if device == "cpu" else "cuda"
        losses = train(policy, samples, plan, where, NOWHERE, name)
        weights = {key: value.cpu() for key, value in policy.state_dict().items()}
        found[device] = weights | {"losses": torch.from_numpy(losses)}
    assert all(torch.equal(value, found["again"][key]) for key, value in found["cuda"].items())
    torch.testing.assert_close(
        found["cuda"]["losses"], found["cpu"]["losses"], rtol=0.02, atol=1e-4
    )

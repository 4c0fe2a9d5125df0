"""A cell of a robot suite: what it stores, what it needs, and what a kill changes: nothing."""

from __future__ import annotations

import importlib.metadata
import itertools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import cli, gl
from bench.backbone import Backbone
from bench.checkpoint import load_model
from bench.engine import Settings, task_data
from bench.errors import DataError
from bench.features import FeatureCache
from bench.plan import requests
from bench.records import Outcome
from bench.task import warnings_of
from tasks.robot.cloning import suite, training
from tasks.robot.cloning.demonstrations import demonstrations
from tasks.robot.cloning.policy import frozen_policy, pooled
from tasks.robot.cloning.scoring import outcome_of
from tasks.robot.cloning.suite import SuiteRun
from tasks.robot.simulators.simulator import simulate

VIT = "random:vit_mini_patch4_32?seed=0"
SWIN = "random:swin_mini_patch2_window4_32?seed=0"
TASK = "button-press-topdown"
#: The smallest at which its expert succeeds.
SMALL = "steps=20&batch=8&horizon=72&needed=1&frame_px=32"
DECISIONS = 36


pytestmark = pytest.mark.usefixtures("drawing")


def spec(options: str, rollouts: int = 2) -> str:
    """One task of Meta-World, whose simulator is the quicker one."""
    return f"metaworld@metaworld[demos=2,rollouts={rollouts},tasks={TASK}]?{SMALL}&{options}"


def protocol(options: str) -> Any:
    """The task with these options."""
    return requests([spec(options)])[0].task


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the demonstrations, which are made once."""
    folder = tmp_path_factory.mktemp("cache")
    demonstrations(protocol("policies=1").origin(TASK), 2, folder, 0)
    return folder


def run(
    cache: Path,
    options: str,
    model: str = VIT,
    folder: Path | None = None,
    seed: int = 0,
    rollouts: int = 2,
) -> Outcome:
    """The cell of a protocol, with a folder to go on in."""
    (request,) = requests([spec(options, rollouts)])
    settings = Settings(workers=0, device="cpu")
    data = task_data(request, seed, settings, FeatureCache(cache))
    data.workspace = folder
    outcome: Outcome = request.task.run(load_model(model), data)
    return outcome


def equal(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes have the same bytes."""
    return all(
        left.keys() == right.keys()
        and all(left[name].tobytes() == right[name].tobytes() for name in left)
        for left, right in ((one.columns, other.columns), (one.extras, other.extras))
    )


def weights_in(folder: Path, number: int) -> dict[str, torch.Tensor]:
    """The state of a policy that a cell has kept."""
    (path,) = folder.glob(f"policy-{TASK}-{number}-*.npz")
    with np.load(path) as stored:
        return {k: torch.from_numpy(v) for k, v in stored.items() if k != "losses"}


# ---------------------------------------------------------------- what is stored

STATE = "policy=state&policies=2"


@pytest.fixture(scope="module")
def whole(cache: Path) -> Outcome:
    """What comes out of two policies that are told the state, when nothing is killed."""
    return run(cache, STATE)


#: What policies look through in these tests: encoder, pooling, policies.
LOOKS = {"map": (VIT, "map", 2), "cls": (VIT, "cls", 1), "mean": (SWIN, "mean", 1)}


@pytest.fixture(scope="module")
def frozen(
    cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Outcome]]:
    """A cell of each pooling, with the policies that it kept."""
    found = {}
    for name, (model, pooling, policies) in LOOKS.items():
        folder = tmp_path_factory.mktemp(name)
        options = f"pooling={pooling}&policies={policies}"
        found[name] = folder, run(cache, options, model, folder, rollouts=1)
    return found


def test_a_cell_holds_all_that_its_policies_did(whole: Outcome) -> None:
    columns, extras = whole.columns, whole.extras
    assert columns["id"].tolist() == [f"{TASK}/0", f"{TASK}/1"]
    assert columns["seed"].tolist() == [10_000, 10_001]
    assert columns["needed"].tolist() == [1, 1]
    assert extras[f"actions:{TASK}"].shape == (2, 2, DECISIONS, 4)  # policies, starts
    assert extras[f"actions:{TASK}"].dtype == np.float32
    assert extras[f"solved:{TASK}"].shape == (2, 2, DECISIONS)
    assert extras[f"losses:{TASK}"].shape == (2, 20)
    for number in range(2):
        counts = extras[f"solved:{TASK}"][number].sum(axis=1)
        np.testing.assert_array_equal(columns[f"solved_{number}"], counts)
    assert "solved_2" not in columns


def test_queries_of_attentive_pooling_are_kept(frozen: dict[str, tuple[Path, Outcome]]) -> None:
    for name, (_, outcome) in frozen.items():
        assert (f"queries:{TASK}" in outcome.extras) == (name == "map")
    assert frozen["map"][1].extras[f"queries:{TASK}"].shape == (2, 6, 96)  # twice the heads


@pytest.mark.parametrize("name", LOOKS)
def test_each_action_is_what_the_policy_says_of_the_frame(
    name: str, frozen: dict[str, tuple[Path, Outcome]]
) -> None:
    """Tokens, pooling and number of the policy, from one end to the other."""
    folder, outcome = frozen[name]
    source, pooling, policies = LOOKS[name]
    model = load_model(source)
    dim, has_cls = model.backbone.token_shape(32)[1], model.backbone.has_cls
    with simulate(protocol("policies=1").rules(TASK)) as simulator:
        for number in range(policies):
            policy = frozen_policy(pooling, dim, 2 * model.backbone.num_heads, 4, 9)  # type: ignore[arg-type]
            policy.load_state_dict(weights_in(folder, number))
            simulator.reset(10_000)
            for action in outcome.extras[f"actions:{TASK}"][number, 0, :4]:
                pixels = torch.from_numpy(simulator.frame()).permute(2, 0, 1)[None]
                with torch.inference_mode():
                    images = model.backbone.input.normalise(pixels)
                    tokens = model.backbone.features(images, ["tokens"])["tokens"]
                    said = policy(pooled(pooling, tokens, has_cls))  # type: ignore[arg-type]
                np.testing.assert_allclose(said[0].numpy(), action, atol=2e-3)
                simulator.step(action.astype(np.float64))
    first = outcome.extras[f"actions:{TASK}"][:, :, 0]
    assert np.abs(first).max() > 0.02, "actions near zero would hide an error"


def test_all_encoders_meet_the_same_starts(frozen: dict[str, tuple[Path, Outcome]]) -> None:
    outcomes = [outcome for _, outcome in frozen.values()]
    for other in outcomes[1:]:
        for column in ("id", "task", "seed", "needed"):
            assert other.columns[column].tolist() == outcomes[0].columns[column].tolist()
        ours, theirs = (found.extras[f"actions:{TASK}"][0, 0] for found in (outcomes[0], other))
        assert (ours != theirs).any()


def test_solved_decisions_become_counts_firsts_and_shares() -> None:
    kitchen: Any = requests(["franka_kitchen@franka_kitchen?policies=2&needed=2"])[0].task
    solved = {
        ("light_on", 0): [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]],
        ("light_on", 1): [[0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]],
        ("micro_open", 0): [[0, 0, 0, 0, 0, 1]],
        ("micro_open", 1): [[0, 0, 0, 1, 1, 1]],
    }
    pieces = {
        key: {
            "solved": np.array(rows, dtype=bool),
            "seeds": np.arange(len(rows)) + 7,
            "actions": np.full((len(rows), len(rows[0]), 9), key[1], dtype=np.float32),
            "losses": np.array([0.5 + key[1]], dtype=np.float32),
        }
        for key, rows in solved.items()
    }
    outcome = outcome_of(kitchen, {"light_on": [0, 1, 2], "micro_open": [4]}, pieces)
    told = {name: column.tolist() for name, column in outcome.columns.items()}
    assert told == {
        "id": ["light_on/0", "light_on/1", "light_on/2", "micro_open/4"],
        "task": ["light_on", "light_on", "light_on", "micro_open"],
        "seed": [7, 8, 9, 7],
        "needed": [2, 2, 2, 2],
        "value": [0.5, 0, 1, 0.5],
        "solved_0": [2, 0, 4, 1],
        "solved_1": [1, 0, 2, 3],
        "first_0": [1, -1, 0, 5],
        "first_1": [3, -1, 0, 3],
    }
    assert outcome.extras["actions:micro_open"].shape == (2, 1, 6, 9)
    assert outcome.extras["actions:light_on"][1].min() == 1
    assert outcome.extras["losses:light_on"].tolist() == [[0.5], [1.5]]
    scores = kitchen.score(outcome)
    assert scores["light_on"].value == outcome.columns["value"][:3].mean()


# ---------------------------------------------------------------- what looks past the encoder


@pytest.fixture
def _blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No encoder gives anything."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the encoder was asked")

    for name in ("tokens", "features", "forward"):
        monkeypatch.setattr(Backbone, name, fail)


@pytest.mark.usefixtures("_blind")
def test_the_state_policy_does_not_ask_the_encoder_and_a_frozen_one_does(cache: Path) -> None:
    outcome = run(cache, "policy=state&policies=1", rollouts=1)
    assert len(outcome) == 1
    assert f"queries:{TASK}" not in outcome.extras
    with pytest.raises(AssertionError, match="the encoder was asked"):
        run(cache, "pooling=mean&policies=1&size_px=28")


@pytest.mark.usefixtures("_blind")
@pytest.mark.parametrize("change", [1, 40])
def test_frames_that_are_drawn_otherwise_are_told_and_other_pictures_refused(
    change: int, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cache / "demonstrations", tmp_path / "demonstrations")
    (first,) = tmp_path.glob("demonstrations/*/00000.npz")
    with np.load(first) as stored:
        arrays = dict(stored)
    arrays["frames"][0] = np.clip(arrays["frames"][0].astype(int) + change, 0, 255)
    np.savez(first, **arrays)
    options = "policy=end_to_end&policies=1"
    if change == 1:
        (told,) = warnings_of(run(tmp_path, options, rollouts=1))
        assert told.startswith(f"{TASK}: this machine draws a little otherwise (1.00 grey levels")
        assert str(first.parent) in told
        return
    trained = kill(suite, "train", -1, monkeypatch)
    with pytest.raises(DataError, match=r"shows another picture .* delete that folder, and they"):
        run(tmp_path, options, rollouts=1)
    assert not trained, "it was known before"


# ---------------------------------------------------------------- seeds


def test_another_evaluation_seed_trains_other_policies_for_the_same_starts(
    cache: Path, tmp_path: Path
) -> None:
    states, outcomes = [], []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        outcomes.append(run(cache, "policy=state&policies=2", folder=folder, seed=seed))
        states += [weights_in(folder, number)["head.0.weight"] for number in (0, 1)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(states, 2))
    one, other = outcomes
    np.testing.assert_array_equal(one.columns["seed"], other.columns["seed"])


# ---------------------------------------------------------------- kills


class Killed(BaseException):
    """Stands for a kill."""


def kill(owner: Any, name: str, after: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kills at the call behind `after` ones, once; the list grows with each that is done."""
    real, calls, done = getattr(owner, name), itertools.count(), []

    def called(*args: Any, **options: Any) -> Any:
        if next(calls) == after:
            raise Killed
        found = real(*args, **options)
        done.append(1)
        return found

    monkeypatch.setattr(owner, name, called)
    return done


def test_a_cell_that_was_killed_at_its_rollouts_does_not_train_again(
    cache: Path, whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = kill(suite, "train", -1, monkeypatch)
    kill(SuiteRun, "_rollouts", 0, monkeypatch)
    with pytest.raises(Killed):
        run(cache, STATE, folder=tmp_path)
    assert len(trained) == 2
    assert equal(run(cache, STATE, folder=tmp_path), whole)
    assert len(trained) == 2


def test_a_policy_whose_rollouts_are_there_is_not_rolled_out_again(
    cache: Path, whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled = kill(SuiteRun, "_rollouts", 1, monkeypatch)
    with pytest.raises(Killed):
        run(cache, STATE, folder=tmp_path)
    assert len(rolled) == 1
    assert equal(run(cache, STATE, folder=tmp_path), whole)
    assert len(rolled) == 2


def test_a_training_that_was_killed_goes_on_where_it_was(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_CHUNK", 5)  # which changes what batches hold
    monkeypatch.setattr("bench.snapshot._SECONDS", 0.0)
    monkeypatch.setattr("bench.snapshot._SHARE", 1e9)
    whole = run(cache, STATE)
    steps = kill(training._Learner, "step", 20 + 13, monkeypatch)
    with pytest.raises(Killed):
        run(cache, STATE, folder=tmp_path)
    assert equal(run(cache, STATE, folder=tmp_path), whole)
    assert len(steps) == 20 + 13 + 10  # the second policy goes on behind step 10
    assert not list(tmp_path.glob("*.pt"))


def test_policies_of_other_demonstrations_are_trained_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cache / "demonstrations", tmp_path / "demonstrations")
    trained = kill(suite, "train", -1, monkeypatch)
    workspace = tmp_path / "cell"
    workspace.mkdir()
    options = "policy=state&policies=1"
    before = run(tmp_path, options, folder=workspace, rollouts=1)
    assert equal(run(tmp_path, options, folder=workspace, rollouts=1), before)
    assert len(trained) == 1
    (first,) = tmp_path.glob("demonstrations/*/00000.npz")
    with np.load(first) as stored:
        arrays = dict(stored)
    arrays["actions"] = -arrays["actions"]
    np.savez(first, **arrays)
    assert not equal(run(tmp_path, options, folder=workspace, rollouts=1), before)
    assert len(trained) == 2


# ---------------------------------------------------------------- the command line


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Runs `sslbench eval`; its exit status, and all that it says."""

    def evaluated(task: str, *more: str, model: str = VIT) -> tuple[int, str]:
        words = ["eval", model, "--tasks", task, "--results", str(tmp_path), "--workers", "0"]
        monkeypatch.setattr("sys.argv", ["sslbench", *words, "--device", "cpu", *more])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out + err

    return evaluated


def test_what_was_trained_without_opengl_is_rolled_out_where_there_is_one(
    call: Callable[..., tuple[int, str]],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = spec("pooling=mean&policies=1", rollouts=1)
    trained = kill(suite, "train", -1, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setenv(gl.VARIABLE, "nonsense")
        code, said = call(asked, "--cache", str(cache))
    assert code == 1
    (line,) = [line for line in said.splitlines() if "OpenGL" in line]
    assert "no OpenGL back-end draws an image (nonsense: " in line
    assert "to egl or osmesa" in line
    assert "Traceback" not in said
    assert len(trained) == 1
    code, said = call(asked, "--cache", str(cache))
    assert code == 0, said
    assert len(trained) == 1


@pytest.mark.parametrize("hidden", ["distribution", "module"])
def test_without_the_extra_the_line_that_installs_it_is_given(
    hidden: str, call: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = ("mujoco", "metaworld", "gymnasium")
    version = importlib.metadata.version

    def hiding(name: str) -> str:
        if name in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    if hidden == "distribution":
        monkeypatch.setattr(importlib.metadata, "version", hiding)
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)
    code, said = call(spec("policy=state&policies=1"))
    assert code != 0
    (line,) = [line for line in said.splitlines() if "needed here" in line]
    assert line.endswith("is needed here but not installed; pip install 'sslbench[robot]'")
    assert "Traceback" not in said


#: What is asked for, of which encoder, and what is answered.
WRONG = {
    "another suite's data": (
        "franka_kitchen@metaworld",
        VIT,
        "this task is simulated, its data set is franka_kitchen, as in "
        "franka_kitchen@franka_kitchen[tasks=knob1_on]",
    ),
    "a mix": (
        "metaworld@metaworld[tasks=hammer]+metaworld[tasks=door-open]",
        VIT,
        "this task is simulated, its data set is metaworld",
    ),
    "an unknown task": (
        "metaworld@metaworld[tasks=hamer]",
        VIT,
        "no task 'hamer'; did you mean 'hammer'?",
    ),
    "more solved decisions than there are": (
        f"metaworld@metaworld[tasks={TASK}]?needed=37&horizon=72",
        VIT,
        "needed=37 solved decisions of the 36 that an episode has: expected at least 1 and at most",
    ),
    "a camera that there is not": (
        spec("camera=nowhere&policies=1"),
        VIT,
        "metaworld has no camera 'nowhere'; ",
    ),
    "more rollouts than shared goals": (
        f"metaworld@metaworld[demos=2,rollouts=51,tasks={TASK}]?goals=shared",
        VIT,
        f"{TASK}: 51 rollouts have 50 starts between them: ask for [rollouts=50]",
    ),
    "a side that no patch divides": (
        spec("size_px=30&policies=1"),
        VIT,
        "size_px=30: random-vit_mini_patch4_32-seed0 has patches of 4 px, choose 32",
    ),
    "a token that a Swin does not have": (
        spec("pooling=cls&policies=1"),
        SWIN,
        "pooling=cls: random-swin_mini_patch2_window4_32-seed0 has no CLS token, choose "
        "pooling=map or mean",
    ),
    "heads that do not divide the width": (
        spec("heads=5&policies=1"),
        VIT,
        "heads=5 do not divide the tokens' width 96: choose",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_answered_in_a_line(
    wrong: str,
    call: Callable[..., tuple[int, str]],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, model, words = WRONG[wrong]
    trained = kill(suite, "train", -1, monkeypatch)
    code, said = call(task, "--cache", str(cache), model=model)
    assert code != 0
    assert sum(words in line for line in said.splitlines()) == 1
    assert "Traceback" not in said
    assert not trained, "it was known before"

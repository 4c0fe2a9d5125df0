"""The figure of rollouts: stored actions come out as they were, and what else is to be said."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bench import gl
from bench.checkpoint import load_model
from bench.engine import Settings, evaluate
from bench.errors import DataError, SpecError
from bench.figure import Photos, draw
from bench.figures import _rollout_gif, rollout
from bench.figures._rollout_cells import Episode, Wanted, cells_of, chosen, episodes_of
from bench.figures._rollout_gif import animation, painted_page
from bench.figures._rollout_page import GREEN, heat_of, rollout_page
from bench.figures.rollout import Film, Found, Rollout
from bench.page import png, style
from bench.photos import sort_out
from bench.plan import requests
from bench.records import Outcome, Result
from bench.store import Store
from tests.bench.pages import clashes, texts, tile_pixels

pytestmark = pytest.mark.slow  # tests/conformance draws the figure at its smallest every time

RANDOM = "random:vit_mini_patch4_32?seed=0"
TASK = "light_on"
SPEC = (
    f"franka_kitchen@franka_kitchen[demos=1,rollouts=2,tasks={TASK}]"
    "?steps=10&batch=8&policies=2&horizon=34&needed=2&frame_px=48"
)
GREEN_8 = tuple(int(GREEN[place : place + 2], 16) for place in (1, 3, 5))


@pytest.fixture(scope="module", autouse=True)
def _here(drawing: str) -> Iterator[None]:
    """MuJoCo draws in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "WORKERS", 0)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real evaluation (seed 0), and the same where the expert acts from start 1 (seed 1)."""
    root = tmp_path_factory.mktemp("rollouts")
    store = Store(root)
    (cell,) = evaluate([RANDOM], [SPEC], store, Settings(cache=root / ".cache", workers=0)).ran
    outcome = store.outcome(cell)
    actions, solved = acted(cell, int(outcome.columns["seed"][1]))
    store.write(seeded(cell, 1), edited(outcome, 1, actions, solved))
    wrong = outcome.extras[f"solved:{TASK}"][0, 0].copy()
    wrong[[4, 9]] = True
    stored = outcome.extras[f"actions:{TASK}"][0, 0]
    store.write(seeded(cell, 2), edited(outcome, 0, stored, wrong))
    return root


def acted(cell: Result, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """What the expert does from a seed, to the horizon."""
    from tasks.robot.simulators.simulator import simulate

    rules = requests([cell.task_spec])[0].task.rules(TASK)  # type: ignore[attr-defined]
    actions, solved = [], []
    with simulate(rules) as simulator:
        simulator.reset(seed)
        expert = simulator.expert()
        for _ in range(rules.decisions):
            actions.append(expert.act().astype(np.float32))
            solved.append(simulator.step(actions[-1].astype(np.float64)))
    return np.stack(actions), np.array(solved)


def seeded(cell: Result, seed: int) -> Result:
    return replace(cell, identity=replace(cell.identity, seed=seed))


def edited(
    outcome: Outcome, start: int, actions: npt.NDArray[np.float32], solved: npt.NDArray[np.bool_]
) -> Outcome:
    """The outcome with another episode of policy 0."""
    extras = {name: array.copy() for name, array in outcome.extras.items()}
    extras[f"actions:{TASK}"][0, start] = actions
    extras[f"solved:{TASK}"][0, start] = solved
    return Outcome(outcome.columns, extras)


def photos(text: str = f"franka_kitchen[tasks={TASK}]") -> Photos:
    return Photos(sort_out([text], 2)[1])


def look(results: Path, **options: int | str | tuple[int, ...]) -> Found:
    figure = Rollout(results=str(results), **options)  # type: ignore[arg-type]
    return figure.look(load_model(RANDOM), photos(), "cpu")


@pytest.fixture(scope="module")
def found(results: Path) -> Found:
    """A success and a failure."""
    return look(results, seed=1, images=5)


def films_of(found: Found) -> list[Film]:
    return [film for scene in found.scenes for film in scene.films]


def test_stored_rollouts_come_out_as_they_were(results: Path, found: Found) -> None:
    from tasks.robot.simulators.simulator import simulate

    success, failure = films_of(found)
    assert (success.episode.start, failure.episode.start) == (1, 0)
    assert success.episode.solved.sum() >= success.episode.needed
    assert failure.episode.solved.sum() < failure.episode.needed
    for film in (success, failure):
        np.testing.assert_array_equal(film.replayed, film.episode.solved)
        assert film.changed == []
        assert len(film.frames) == len(film.episode.actions) + 1 == 35
    rules = found.scenes[0].cell.protocol.rules(TASK)
    with simulate(rules) as simulator:
        for film in (success, failure):
            simulator.reset(film.episode.seed)
            np.testing.assert_array_equal(film.frames[0], simulator.frame())
            for action in film.episode.actions[:3]:
                simulator.step(action.astype(np.float64))
            np.testing.assert_array_equal(film.frames[3], simulator.frame())


def test_the_numbers_are_those_of_the_store(results: Path, found: Found) -> None:
    (scene,) = json.loads(Rollout().numbers(found))["tasks"]
    stored = {result.identity.seed: result for result in Store(results).results()}
    outcome = Store(results).outcome(stored[1])
    assert scene["cell"] == stored[1].identity.digest
    assert scene["protocol"] == stored[1].task_spec
    assert (scene["successes"], scene["rollouts"]) == (1, 2)
    assert scene["simulator_stored"] == scene["simulator_now"]
    for episode in scene["episodes"]:
        row = outcome.columns["id"].tolist().index(f"{TASK}/{episode['start']}")
        assert episode["seed"] == outcome.columns["seed"][row]
        assert episode["needed"] == outcome.columns["needed"][row]
        solved = outcome.extras[f"solved:{TASK}"][0, row]
        assert episode["solved"] == [at + 1 for at in range(34) if solved[at]]
        assert episode["success"] == (len(episode["solved"]) >= episode["needed"])
        assert episode["reproduced"]
        assert [frame["decision"] for frame in episode["frames"]] == [0, 8, 17, 26, 34]
        for frame in episode["frames"]:
            assert np.sum(frame["attention"]) == pytest.approx(1, abs=1e-4)
            assert 0 < frame["attention_on_cls"] < 1


def test_where_the_policy_looks_is_the_attention_of_its_pooling(found: Found) -> None:
    import torch

    from bench.figures._rollout_attention import looks_of
    from bench.transforms import SquareTransform
    from tasks.robot.cloning.pooling import AttentivePooling

    model, film, cell = load_model(RANDOM), films_of(found)[0], found.scenes[0].cell
    dim = model.backbone.token_shape(32)[1]
    torch.manual_seed(0)
    pooling = AttentivePooling(dim, 4).double()
    with torch.no_grad():
        pooling.latent.mul_(1000)
    frames = film.frames[film.shown]
    queries = pooling.queries().detach().numpy()
    looks = looks_of(model, cell, queries, frames, "cpu")
    transform = SquareTransform(model.backbone.input)
    pixels = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
    with torch.inference_mode():
        images = model.backbone.input.normalise(pixels)
        tokens = model.backbone.features(images, ["tokens"])["tokens"].view(len(frames), -1, dim)
        heads = pooling.attention(tokens.half().double()).mean(1).numpy()  # (n, t)
    assert heads.max() > 1.5 / heads.shape[1], "even attention would hide an error"
    np.testing.assert_allclose(looks.on_cls, heads[:, 0], atol=1e-6)
    patches = heads[:, 1:] / heads[:, 1:].sum(1, keepdims=True)
    np.testing.assert_allclose(looks.maps.reshape(len(frames), -1), patches, atol=1e-6)
    assert film.looks is not None
    own = cell.outcome.extras[f"queries:{TASK}"][0]
    np.testing.assert_allclose(looks_of(model, cell, own, frames, "cpu").maps, film.looks.maps)


def test_even_attention_is_no_choice_and_the_most_is_one() -> None:
    even = np.full((2, 4, 4), 1 / 16)
    assert heat_of(even).max() == 0
    nearly = even.copy()
    nearly[0, 0, 0] *= 1.1
    assert heat_of(nearly).max() == pytest.approx(0.1)
    one = np.zeros((1, 4, 4))
    one[0, 1, 2] = 1
    np.testing.assert_array_equal(heat_of(one), one)


def test_a_replay_that_differs_is_told_with_the_versions(results: Path) -> None:
    found = look(results, seed=2, images=2, starts=(0,))
    (film,), (scene,) = films_of(found), found.scenes
    assert film.changed == [5, 10]
    (episode,) = json.loads(Rollout().numbers(found))["tasks"][0]["episodes"]
    assert not episode["reproduced"]
    assert episode["changed"] == [5, 10]
    assert episode["solved"] == [5, 10]
    with style():
        page = rollout_page(found)
        assert clashes(page) == []
        (told,) = [text for text in texts(page) if "NOT AS STORED" in text]
        assert "2 decisions, the first is 5 (another driver" in told
        newer = scene.simulator.replace("mujoco 3", "mujoco 9")
        assert newer != scene.simulator
        page = rollout_page(replace(found, scenes=[replace(scene, simulator=newer)]))
        (told,) = [text for text in texts(page) if "NOT AS STORED" in text]
        assert re.search(r"\(evaluated with mujoco 3[.\d]*, shown with mujoco 9[.\d]*\)$", told)
        assert clashes(page) == []


def test_strips_mark_what_is_solved(found: Found) -> None:
    with style():
        page = rollout_page(found)
        picture = png(page)
    written, panels = texts(page), iter(page.axes)
    assert "start 1: success" in written
    assert "start 0: failure" in written
    assert "Policy 0 succeeds from 1 of 2 starts." in written
    marked = 0
    for film in films_of(found):
        decisions = tile_pixels(next(panels), picture).reshape(-1, 3)
        share = (np.abs(decisions.astype(int) - GREEN_8).max(1) < 9).mean()
        assert share == pytest.approx(film.episode.solved.mean(), abs=0.01)
        for frame in film.shown:
            seen = tile_pixels(next(panels), picture).astype(int)
            corner = np.abs(seen[3, 3] - GREEN_8).max() < 9
            solved = frame > 0 and film.episode.solved[frame - 1]
            assert corner == solved
            marked += int(solved)
            assert next(panels) is not None  # the attention
    assert next(panels, None) is None
    assert marked > 0
    assert written.count("solved") == marked


@pytest.mark.parametrize("images", [1, 9])
def test_nothing_overlaps_whatever_is_drawn(images: int, found: Found) -> None:
    films = [
        replace(film, shown=list(range(images)), looks=None) if place else film
        for place, film in enumerate(films_of(found))
    ]
    scene = replace(found.scenes[0], films=films)
    with style():
        page = rollout_page(replace(found, scenes=[scene, scene]))
        assert clashes(page) == []
    assert len(page.axes) == 2 * (1 + 10 + 1 + images)


def test_the_animation_shows_every_decision(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    gif = animation(found)
    picture = Image.open(io.BytesIO(gif))
    assert picture.n_frames == 35  # type: ignore[attr-defined]
    assert picture.info["loop"] == 0
    assert picture.info["duration"] == _rollout_gif.MILLISECONDS
    scene, width = found.scenes[0], picture.width
    assert width == 2 * _rollout_gif.SIDE + _rollout_gif.GAP
    for frame in (0, 20, 34):
        picture.seek(frame)
        seen = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(seen - painted_page(scene, frame, width)).mean() < 6
        corner = np.abs(seen[_rollout_gif.HEAD + 2, 2] - GREEN_8).max() < 9
        assert corner == (frame > 0 and scene.films[0].episode.solved[frame - 1])
    assert corner, "the success ends solved"
    assert picture.info["duration"] == _rollout_gif.REST
    monkeypatch.setattr(_rollout_gif, "MOST", 7)
    alone = replace(scene, films=scene.films[1:])
    picture = Image.open(io.BytesIO(animation(replace(found, scenes=[scene, alone]))))
    assert picture.n_frames == 14  # type: ignore[attr-defined]
    picture.seek(13)
    assert np.asarray(picture.convert("RGB"))[:, _rollout_gif.SIDE + 1 :].max() == 0


def episode(start: int, solved: int) -> Episode:
    return Episode(start, start, 2, np.zeros((4, 1)), np.arange(4) < solved)


def test_the_first_of_each_kind_is_chosen_or_the_named_ones() -> None:
    rollouts = [episode(0, 1), episode(1, 0), episode(2, 2), episode(3, 4)]
    assert [found.start for found in chosen(rollouts, ())] == [2, 0]
    assert [found.start for found in chosen(rollouts[:2], ())] == [0]
    assert [found.start for found in chosen(rollouts[2:], ())] == [2]
    assert [found.start for found in chosen(rollouts, (3, 1, 3))] == [3, 1]
    with pytest.raises(SpecError, match="starts=4: those stored are 0 to 3"):
        chosen(rollouts, (1, 4))


def test_policies_are_told_apart(found: Found) -> None:
    cell = found.scenes[0].cell
    for policy in (0, 1):
        for row, rollout_ in enumerate(episodes_of(cell, TASK, policy)):
            stored = cell.outcome.extras[f"actions:{TASK}"][policy, row]
            np.testing.assert_array_equal(rollout_.actions, stored)
            assert rollout_.start == row
        np.testing.assert_array_equal(
            cell.queries(TASK, policy), cell.outcome.extras[f"queries:{TASK}"][policy]
        )
    assert cell.queries("micro_open", 0) is None


@pytest.mark.parametrize(("kept", "lacking"), [(1, "failure"), (0, "success")])
def test_what_there_is_none_of_is_told(kept: int, lacking: str, found: Found) -> None:
    films = [film for film in films_of(found) if film.episode.success == bool(kept)]
    scene = replace(found.scenes[0], films=films, successes=[bool(kept)] * 3)
    with style():
        written = texts(rollout_page(replace(found, scenes=[scene])))
    assert f"Policy 0 succeeds from {3 * kept} of 3 starts: there is no {lacking}." in written
    assert sum(text.startswith("start ") for text in written) == 1


REQUESTS = {
    "a file": (["{file}"], "", "rollout draws tasks of robots, and photo.png is of none"),
    "a union": (["{kitchen}+metaworld"], "", "is of none: name a data set such as 'franka_kitchen"),
    "policy": (["{kitchen}"], "policy=2", "has 2, counted from 0"),
    "a size": (["{kitchen}"], "size_px=32", "size_px=32: frames are those that the policy saw"),
    "below zero": (["{kitchen}"], "policy=-1", "policy=-1: expected at least 0"),
    "starts": (["{kitchen}"], "starts=0:7", "starts=7: those stored are 0 to 1"),
    "two models": ([RANDOM, "{kitchen}"], "", "rollout draws one model"),
    "no such cell": (["{kitchen}"], "cell=ff", "light_on in a cell ff...: run sslbench eval"),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_cannot_be_drawn_is_told_in_a_line(
    request_: str, results: Path, tmp_path: Path
) -> None:
    things, option, words = REQUESTS[request_]
    Image.new("RGB", (50, 40)).save(tmp_path / "photo.png")
    named = {"file": tmp_path / "photo.png", "kitchen": f"franka_kitchen[tasks={TASK}]"}
    things = [thing.format(**named) for thing in things]
    spec = f"rollout?results={results}" + (f"&{option}" if option else "")
    with pytest.raises(SpecError) as caught:
        draw(spec, [RANDOM, *things], tmp_path / "new" / "out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_where_nothing_is_stored_the_command_to_run_is_given(results: Path) -> None:
    two = photos("franka_kitchen[tasks=light_on:micro_open]")
    figure = Rollout(results=str(results))
    with pytest.raises(SpecError, match="no rollouts of this model on micro_open: run ") as caught:
        figure.look(load_model(RANDOM), two, "cpu")
    words = shlex.split(str(caught.value).partition("run ")[2])
    assert words[:3] == ["sslbench", "eval", RANDOM]
    (wanted,) = requests([words[words.index("--tasks") + 1]])
    assert str(wanted.spec.dataset[0]) == "franka_kitchen[tasks=micro_open]"
    assert words[words.index("--results") + 1] == str(results)
    other = load_model("random:vit_mini_patch4_32?seed=1")
    with pytest.raises(SpecError, match=r"on light_on: run .*seed=1.* --seed 3$"):
        Rollout(results=str(results / "none"), seed=3).look(other, photos(), "cpu")


def test_one_of_several_evaluations_is_to_be_chosen(results: Path, tmp_path: Path) -> None:
    stored, store = Store(results), Store(tmp_path)
    cells = [result for result in stored.results() if result.identity.seed != 1]
    fields = {**cells[0].identity.fields, "lr": 0.01}
    cells[1] = replace(cells[0], identity=replace(cells[0].identity, fields=fields))
    outcome = next(stored.outcome(r) for r in stored.results() if r.identity.seed == 0)
    for cell in cells:
        store.write(seeded(cell, 0), outcome)
    digests = [result.identity.digest for result in store.results()]
    model, wanted = load_model(RANDOM), Wanted({"franka_kitchen": [TASK]}, 0, "")
    with pytest.raises(SpecError, match=f"holds 2 evaluations of this model on {TASK}") as caught:
        cells_of(model, wanted, str(tmp_path))
    for digest in digests:
        assert f"cell={digest[:8]} is franka_kitchen@" in str(caught.value)
    ((name, cell),) = cells_of(model, replace(wanted, cell=digests[1][:8]), str(tmp_path))
    assert (name, cell.result.identity.digest) == (TASK, digests[1])


def test_a_machine_that_cannot_draw_is_told_what_to_install(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gl.VARIABLE, "nothing")
    with pytest.raises(DataError, match="no OpenGL back-end draws an image"):
        look(results)

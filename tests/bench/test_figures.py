"""Figures: their numbers against loops in float64, their files, and what they refuse."""

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bench import cli
from bench.checkpoint import load_model
from bench.checkpoints.native import write_checkpoint
from bench.errors import DataError, SpecError, SSLBenchError, StoreError
from bench.figure import Photos, draw, publish
from bench.figures._slots_page import borders, square
from bench.figures.similarity import Similarity, token_similarity
from bench.figures.slots import Slots
from bench.network import seeded_network
from bench.page import distinct_colours
from bench.photos import sort_out
from bench.transforms import InputSpec
from tests.bench.prototyped import write_prototyped

RANDOM = "random:vit_mini_patch4_32"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_prototyped(tmp_path_factory.mktemp("runs") / "prototyped")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six noise images of different shapes and formats, one folder deep."""
    rng = np.random.default_rng(0)
    place = tmp_path / "photos"
    (place / "deep").mkdir(parents=True)
    for i in range(6):
        image = Image.fromarray(rng.integers(0, 256, (40 + i, 52, 3), np.uint8))
        image.resize((200, 150)).save(
            place / ("deep" if i % 2 else "") / f"{i}.{'jpg' if i else 'png'}"
        )
    return place


def test_without_images_it_looks_at_those_of_the_training_data(
    mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arch = "vit_mini_patch4_32"
    card = {
        "arch": arch,
        "input": InputSpec(32).to_json(),
        "pretrain": {"dataset": "mini_scenes[n=50,seed=0]"},
    }
    write_checkpoint(tmp_path / "run" / "checkpoint", seeded_network(arch, 0), None, card)
    own = draw("similarity", [str(tmp_path / "run")], tmp_path / "own", data=mini)
    named = draw("similarity", [str(tmp_path / "run"), "mini_scenes"], tmp_path / "b", data=mini)
    assert own[-1].suffix == ".csv"
    assert own[-1].read_bytes() == named[-1].read_bytes()


def photos_of(*things: str, data: Path | None = None) -> Photos:
    return Photos(sort_out(things, 100, 0, data)[1])


# slots


def tokens64(source: str, photos: Photos, size_px: int) -> tuple[list[str], np.ndarray]:
    """Names and normed patch tokens (n, h, w, d) of the images' centre squares."""
    model = load_model(source)
    names, pixels = photos.pixels(Slots(size_px=size_px).transform(model.backbone))
    with torch.no_grad():
        tokens = model.backbone.tokens(model.backbone.input.normalise(pixels)).patches
    return names, tokens.double().numpy()


@pytest.mark.parametrize("size_px", [32, 64])
def test_maps_are_the_arg_max_of_cosines_computed_by_hand(
    size_px: int, run: str, folder: Path
) -> None:
    photos = photos_of(str(folder))
    names, tokens = tokens64(run, photos, size_px)
    state = load_file(Path(run) / "checkpoint" / "method.safetensors")
    weight = {name: tensor.double().numpy() for name, tensor in state.items()}
    numbers = json.loads(Slots(size_px=size_px).draw([run], photos, "cpu")[".json"])
    assert [shown["image"] for shown in numbers["maps"]] == names
    for i, shown in enumerate(numbers["maps"]):
        found = np.array(shown["prototype"])
        assert found.shape == (size_px // 4, size_px // 4)
        for row, column in np.ndindex(found.shape):
            x = weight["head.0.weight"] @ tokens[i, row, column] + weight["head.0.bias"]
            x = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])
            x = weight["head.2.weight"] @ x + weight["head.2.bias"]
            cosines = [c @ x / np.linalg.norm(c) for c in weight["prototypes.weight"]]
            assert found[row, column] == int(np.argmax(cosines))


def test_prototypes_are_ranked_by_use_and_their_images_by_patches_won(
    run: str, folder: Path
) -> None:
    found = Slots().look(load_model(run), photos_of(str(folder)), "cpu")
    numbers = json.loads(Slots(prototypes=3, segments=4).numbers(found))
    use = {k: sum(int((m == k).sum()) for m in found.maps) for k in range(12)}
    assert numbers["patches_won"] == {str(k): n for k, n in use.items() if n}
    ranked = sorted((k for k in use if use[k]), key=lambda k: (-use[k], k))
    assert [c["prototype"] for c in numbers["segments"]] == ranked[:3]
    for column in numbers["segments"]:
        k = column["prototype"]
        assert column["share"] == pytest.approx(use[k] / found.maps.size)
        won = [(found.names[i], int((m == k).sum())) for i, m in enumerate(found.maps)]
        best = sorted((pair for pair in won if pair[1]), key=lambda pair: -pair[1])[:4]
        assert [(s["image"], s["patches"]) for s in column["images"]] == best


def test_a_picture_of_slots_shows_the_photos_in_the_colours_of_their_maps(
    run: str, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    pixels[:, :16] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "red.png")
    files = Slots(segments=1).draw([run], photos_of(str(tmp_path / "red.png")), "cpu")
    picture = np.asarray(Image.open(io.BytesIO(files[".png"])).convert("RGB")) / 255
    numbers = json.loads(files[".json"])
    red = (np.abs(picture - [1, 0, 0]).sum(-1) < 0.01).sum()
    assert red > 200 * 400, "the photo itself"
    left = [k for row in numbers["maps"][0]["prototype"] for k in row[:4]]
    ranked = list(numbers["patches_won"])
    assert len(ranked) > 1
    for k, colour in zip(ranked, distinct_colours(len(ranked)), strict=True):
        tint = 0.62 * colour + 0.38 * 0.299
        found = (np.abs(picture - tint).max(-1) < 0.01).sum()
        assert found >= 0.7 * left.count(int(k)) * (2.3 * 200 / 8) ** 2


def test_borders_run_between_patches_of_different_value() -> None:
    values = np.array([[1, 1, 2], [1, 3, 2], [1, 3, 2]])
    lines = {tuple(sorted(line)) for line in borders(values, 30)}
    assert lines == {
        ((20, 0), (20, 10)), ((20, 10), (20, 20)), ((20, 20), (20, 30)),
        ((10, 10), (10, 20)), ((10, 20), (10, 30)), ((10, 10), (20, 10)),
    }  # fmt: skip


def test_the_square_holds_the_segment_and_stays_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        won = rng.random((8, 8)) < rng.choice([0.02, 0.1, 0.5])
        won[tuple(rng.integers(0, 8, 2))] = True
        top, left, side = square(won)
        assert 0 <= top <= top + side <= 8
        assert 0 <= left <= left + side <= 8
        assert won[top : top + side, left : left + side].sum() == won.sum()
    alone = np.zeros((8, 8), bool)
    alone[3, 4] = True
    assert square(alone) == (2, 3, 3)
    assert square(np.pad(alone, 8))[2] == 8, "a third of 24"


def test_colours_of_neighbours_differ() -> None:
    colours = distinct_colours(40)
    assert colours.shape == (40, 3)
    assert ((colours >= 0) & (colours <= 1)).all()
    apart = np.abs(colours[:, None] - colours[None]).sum(-1) + 9 * np.eye(40)
    assert apart.min() > 0.02
    assert apart[:10, :10].min() > 0.25


# similarity


def double_loop(tokens: np.ndarray) -> float:
    """Mean cosine over all ordered pairs of different rows, in float64."""
    total, pairs = 0.0, 0
    for i, a in enumerate(tokens):
        for j, b in enumerate(tokens):
            if i != j:
                total += float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
                pairs += 1
    return total / pairs


def test_similarity_is_a_mean_over_pairs_of_different_patches() -> None:
    tokens = torch.randn(3, 10, 7, generator=torch.Generator().manual_seed(0)) + 0.3
    found = token_similarity(tokens)
    expected = [double_loop(image) for image in tokens.double().numpy()]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_constant_tokens_are_as_similar_as_can_be_and_unrelated_ones_not_at_all() -> None:
    same = torch.randn(2, 1, 5).expand(-1, 9, -1)
    lengths = torch.rand(2, 9, 1) + 0.1
    np.testing.assert_allclose(token_similarity(same * lengths).numpy(), 1, rtol=1e-12)
    np.testing.assert_allclose(token_similarity(torch.eye(6)[None]).numpy(), 0, atol=1e-15)
    np.testing.assert_allclose(token_similarity(torch.zeros(1, 4, 3)).numpy(), 0)
    opposite = torch.tensor([[[1.0, 0], [-1, 0]]])
    np.testing.assert_allclose(token_similarity(opposite).numpy(), -1, rtol=1e-12)


def test_bars_are_means_over_images_with_intervals_in_the_order_of_the_models(
    run: str, folder: Path
) -> None:
    photos = photos_of(str(folder))
    other = f"{RANDOM}?seed=3"
    files = Similarity(size_px=40).draw([other, run], photos, "cpu")
    rows = list(csv.DictReader(io.StringIO(files[".csv"].decode())))
    assert [row["source"] for row in rows] == [other, run]
    for row in rows:
        _, tokens = tokens64(row["source"], photos, 40)
        values = [double_loop(image.reshape(-1, 96)) for image in tokens]
        assert float(row["similarity"]) == pytest.approx(np.mean(values), rel=1e-5)
        assert min(values) <= float(row["low"]) < np.mean(values) < float(row["high"])
        assert (row["images"], row["patches"]) == ("6", "100")
    assert b"<svg" in files[".svg"]


def test_models_of_one_name_are_told_apart_by_their_sources(run: str, folder: Path) -> None:
    bars = Similarity().bars([run, f"{run}/checkpoint", RANDOM], photos_of(str(folder)), "cpu")
    assert [bar.label for bar in bars[:2]] == [run, f"{run}/checkpoint"]
    assert bars[2].label != RANDOM


def test_one_image_has_no_interval(run: str, folder: Path) -> None:
    files = Similarity().draw([run], photos_of(str(folder / "0.png")), "cpu")
    (row,) = csv.DictReader(io.StringIO(files[".csv"].decode()))
    assert (row["low"], row["high"], row["images"]) == ("", "", "1")


def test_a_single_patch_has_no_pair(run: str, folder: Path) -> None:
    with pytest.raises(SpecError, match="single patch"):
        Similarity(size_px=4).draw([run], photos_of(str(folder)), "cpu")


# what is a model and what an image


def test_models_files_folders_and_data_sets_are_told_apart(
    run: str, folder: Path, mini: Path
) -> None:
    things = ["mini_scenes[val_n=3,seed=1]", run, str(folder), RANDOM, str(folder / "deep/1.jpg")]
    models, photos = sort_out(things, 4, 0, mini)
    assert models == [run, RANDOM]
    assert len(photos) == 1 + 3 + 4
    assert photos[0].name == "1.jpg", "files come first: they are what the user wants to see"
    assert all(photo.open().mode == "RGB" for photo in photos)
    again = sort_out(things, 4, 0, mini)[1]
    assert [photo.name for photo in again] == [photo.name for photo in photos]
    fewer = sort_out([str(folder)], 2)[1]
    assert [p.name for p in fewer] == [p.name for p in sort_out([str(folder)], 6)[1]][:2]


def test_images_are_drawn_from_all_over_a_data_set(mini: Path) -> None:
    every = [photo.name for photo in sort_out(["mini_objects"], 10_000, 0, mini)[1]]
    few, other = (
        [photo.name for photo in sort_out(["mini_objects"], 8, seed, mini)[1]] for seed in (0, 1)
    )
    assert few == every[:8], "fewer images are the first of more"
    assert set(few) != set(other)
    places = [sorted(every).index(name) / len(every) for name in few]
    assert min(places) < 0.4
    assert max(places) > 0.6


@pytest.mark.parametrize("size_px", [0, 64])
def test_models_see_the_centre_square_to_its_edges(size_px: int, run: str, tmp_path: Path) -> None:
    pixels = np.zeros((100, 160, 3), np.uint8)
    pixels[:8, 30:130], pixels[-8:, 30:130], pixels[:, :30] = (255, 0, 0), (0, 0, 255), 77
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    transform = Slots(size_px=size_px).transform(load_model(run).backbone)
    _, (square_,) = photos_of(str(tmp_path / "wide.png")).pixels(transform)
    assert square_.shape == (3, size_px or 32, size_px or 32)
    inner = square_[..., 2:-2]  # sizes are rounded: the grey may be touched, but not more
    assert (inner[0, 0] > 200).all()
    assert (inner[2, -1] > 200).all()
    assert (inner[:, len(square_[0]) // 2] < 40).all()


def test_a_data_set_shows_its_held_out_images_or_the_split_it_names(mini: Path) -> None:
    held_out = {photo.name for photo in sort_out(["mini_scenes"], 9, 0, mini)[1]}
    train = {photo.name for photo in sort_out(["mini_scenes[split=train]"], 9, 0, mini)[1]}
    assert len(held_out) == len(train) == 9
    assert not held_out & train


def test_a_data_set_may_stand_behind_the_kind(run: str, mini: Path, tmp_path: Path) -> None:
    first = draw("similarity@mini_scenes?images=3", [run], tmp_path / "a", data=mini)
    second = draw("similarity?images=3", [run, "mini_scenes"], tmp_path / "b", data=mini)
    assert first[2].read_bytes() == second[2].read_bytes()


def test_unreadable_images_are_left_out_only_when_asked(run: str, folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"no image")
    photos = sort_out([str(folder)], 100)[1]
    with pytest.raises(DataError, match=r"broken.jpg.*--skip-bad"):
        Slots().draw([run], Photos(photos), "cpu")
    numbers = json.loads(Slots().draw([run], Photos(photos, skip_bad=1), "cpu")[".json"])
    assert numbers["images"] == 6
    only = sort_out([str(folder / "broken.jpg")], 1)[1]
    with pytest.raises(DataError, match=r"broken.jpg"):
        Slots().draw([run], Photos(only, skip_bad=5), "cpu")


# files


def test_a_file_that_is_there_is_neither_replaced_nor_computed_for(
    run: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slots, "look", lambda *args: pytest.fail("computed in vain"))
    (tmp_path / "x.json").write_text("mine")
    for out in ("x", "x.png", "x.json"):
        with pytest.raises(StoreError, match=r"x.json exists: choose another --out"):
            draw("slots", [run, str(folder)], tmp_path / out)
    assert (tmp_path / "x.json").read_text() == "mine"
    assert not (tmp_path / "x.png").exists()


def test_the_ending_of_out_may_be_written_and_other_dots_stay(
    run: str, folder: Path, tmp_path: Path
) -> None:
    for out in ("new/a.v2.png", "new/b.v2"):
        draw("similarity", [run, str(folder)], tmp_path / out)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {f"{s}.v2{e}" for s in "ab" for e in (".png", ".svg", ".csv")}


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_files_are_written_all_or_not_at_all(
    call: int, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = getattr(os, step), []

    def fails_once(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*args, **options)

    monkeypatch.setattr(os, step, fails_once)
    with pytest.raises(StoreError, match=r"cannot write .*\(No space left"):
        publish({tmp_path / "a.png": b"1", tmp_path / "b.csv": b"2", tmp_path / "c": b"3"})
    assert len(calls) >= call
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file/a.png .*another --out"):
        publish({tmp_path / "file" / "a.png": b"1"})


# the command


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr("sys.argv", ["sslbench", *args])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_the_command_names_the_files_that_it_wrote(
    run: str,
    mini: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = ("figure", "slots?images=4", run, "mini_scenes", "--data", str(mini), "--json")
    assert call(monkeypatch, *args, "--out", str(tmp_path / "slots")) == 0
    expected = [str(tmp_path / "slots.png"), str(tmp_path / "slots.json")]
    assert json.loads(capsys.readouterr().out) == {"files": expected}
    assert all(Path(file).is_file() for file in expected)


REQUESTS = {
    "unknown kind": (["slot", "{run}", "{folder}"], "no figure 'slot'; did you mean 'slots'"),
    "unknown option": (["slots?show=3", "{run}", "{folder}"], "'show'; did you mean 'shown'"),
    "no image": (["slots", "{run}"], "no images to draw: name image files"),
    "no model": (["slots", "{folder}"], "no model to draw"),
    "missing image": (["slots", "{run}", "{folder}/none.jpg"], "none.jpg is missing"),
    "no such model": (["slots", "{folder}/run", "{folder}"], "there is no"),
    "misspelt data set": (["slots", "{run}", "mini_scene"], "did you mean 'mini_scenes'"),
    "two models": (["slots", "{run}", RANDOM, "{folder}"], "slots draws one model"),
    "no prototypes": (["slots", RANDOM, "{folder}"], "has no prototypes of patches"),
    "no multiple": (["slots?size_px=50", "{run}", "{folder}"], "size_px=50 for patches of 4 px"),
    "no columns": (["slots?prototypes=0", "{run}", "{folder}"], "prototypes=0: expected at least"),
    "unknown device": (["slots", "{run}", "{folder}", "--device", "gpu"], "--device gpu"),
    "empty folder": (["slots", "{run}", "{empty}"], "neither a model nor images"),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_cannot_be_drawn_is_one_line_of_advice_and_no_file(
    request_: str,
    run: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = folder.parent / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    args, words = REQUESTS[request_]
    places = {"run": run, "folder": str(folder), "empty": str(empty)}
    assert call(monkeypatch, "figure", *(arg.format(**places) for arg in args)) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert err.startswith("sslbench: ")
    assert err.count("\n") == 1
    assert not out
    assert not list(empty.iterdir())


def test_errors_of_figures_are_advice() -> None:
    assert issubclass(StoreError, SSLBenchError)

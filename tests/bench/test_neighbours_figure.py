"""The figure of neighbours: its numbers against loops in float64, its gallery, its page."""

import csv
import io
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.checkpoint import load_model
from bench.checkpoints.native import write_checkpoint
from bench.dataset import open_split
from bench.engine import Settings, evaluate
from bench.errors import DataError, SpecError
from bench.figure import Photos, draw
from bench.figures._gallery import Query
from bench.figures._neighbours_page import OTHER, SAME, TILE
from bench.figures.neighbours import Neighbours, chosen, table
from bench.network import seeded_network
from bench.photos import Photo, sort_out
from bench.store import Store
from bench.transforms import EvalTransform, InputSpec

RANDOM = "random:vit_mini_patch4_32?seed=0"
ARCH = "vit_mini_patch4_32"
SOME = "mini_objects[n=90,seed=0]"


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of flat colour with a little noise; 6 + 4 images each."""
    root = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    for split, many in (("train", 6), ("val", 4)):
        for name, colour in (
            ("red", (220, 30, 30)),
            ("öl, green", (20, 180, 40)),
            ("blue", (30, 40, 230)),
        ):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(many):
                pixels = np.clip(np.array(colour) + rng.normal(0, 12, (32, 32, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def colours(classes: Path) -> str:
    return f"folder[labels=folders,path={classes}]"


def photos_of(*things: str, data: Path | None = None, most: int = 100) -> Photos:
    return Photos(sort_out(things, most, 0, data)[1], data=data)


def rows_of(figure: Neighbours, photos: Photos) -> list[dict[str, str]]:
    """The lines of the table, without drawing the page."""
    found = figure.look(load_model(RANDOM), photos, "cpu")
    drawn = chosen(found.queries, figure.rows, figure.right)
    return read(table(found.queries, drawn))


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def vectors(source: str, images: Sequence[Image.Image], token: str) -> np.ndarray:
    """(n, d) unit vectors in float64 of features rounded to float16."""
    model = load_model(source)
    transform = EvalTransform(model.backbone.input)
    pixels = torch.stack([transform(image) for image in images])
    with torch.no_grad():
        tokens = model.backbone.tokens(model.backbone.input.normalise(pixels))
    wanted = tokens.cls if token == "cls" else tokens.patches.mean((1, 2))
    assert wanted is not None
    rows = wanted.half().double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("option", "token"), [("auto", "cls"), ("avg", "avg")])
def test_neighbours_and_votes_are_those_of_a_loop_in_float64(
    option: str, token: str, mini: Path
) -> None:
    figure = Neighbours(k=5, token=option)  # type: ignore[arg-type]
    rows = rows_of(figure, photos_of(SOME, data=mini))
    train, val = (open_split(SOME, split, mini) for split in ("train", "val"))
    keys = vectors(RANDOM, [train.image(i) for i in range(len(train))], token)
    asked = vectors(RANDOM, [val.image(i) for i in range(len(val))], token)
    place = {id_: i for i, id_ in enumerate(val.ids)}
    words = dict(zip(train.classes, words_of_mini(mini), strict=True))
    assert len(rows) == 5 * len(val)
    for start in range(0, len(rows), 5):
        found = rows[start : start + 5]
        index = place[found[0]["query"]]
        cosine = keys @ asked[index]
        np.testing.assert_allclose(
            [float(row["cosine"]) for row in found], np.sort(cosine)[::-1][:5], atol=2e-4
        )
        ids = [row["neighbour"] for row in found]
        for id_, row in zip(ids, found, strict=True):
            own = train.ids.index(id_)
            assert float(row["cosine"]) == pytest.approx(cosine[own], abs=2e-4)
            assert row["neighbour_class"] == words[train.classes[train.targets[own]]]
            assert row["same_class"] == str(train.targets[own] == val.targets[index]).lower()
        weights: Counter[str] = Counter()
        for row in found:
            weights[row["neighbour_class"]] += np.exp(float(row["cosine"]) / 0.07)  # type: ignore[assignment]
        assert found[0]["voted"] == max(weights, key=weights.__getitem__)
        label = words[val.classes[val.targets[index]]]
        assert {row["class"] for row in found} == {label}
        assert {row["right"] for row in found} == {str(found[0]["voted"] == label).lower()}


def words_of_mini(mini: Path) -> list[str]:
    lines = (mini / "mini_objects" / "LOC_synset_mapping.txt").read_text().splitlines()
    return [line.partition(" ")[2] for line in sorted(lines)]


def test_votes_are_those_of_the_task_knn(mini: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    settings = Settings(data=mini, cache=tmp_path / "cache", workers=0)
    report = evaluate([RANDOM], ["knn@mini_objects?k=8"], store, settings)
    outcome = store.outcome(report.ran[0])
    expected = dict(zip(outcome.columns["id"], outcome.columns["value"] > 0, strict=True))
    rows = rows_of(Neighbours(), photos_of("mini_objects", data=mini))
    found = {row["query"]: row["right"] == "true" for row in rows}
    assert found == expected


def test_flat_colours_are_all_right_and_their_frames_green(classes: Path, colours: str) -> None:
    files = Neighbours(k=4, rows=3).draw([RANDOM], photos_of(colours), "cpu")
    rows = read(files[".csv"].decode())
    assert {row["right"] for row in rows} == {row["same_class"] for row in rows} == {"true"}
    assert len(rows) == 12 * 4
    shown = np.asarray(Image.open(io.BytesIO(files[".png"])).convert("RGB")).astype(int)
    green, orange = (pixels_of(shown, colour) for colour in (SAME, OTHER))
    # 3 rows of 4 frames: 4 sides of a tile at 200 dpi, 2.2 points wide
    assert green == pytest.approx(12 * 4 * TILE * 200 * 2.2 / 72 * 200, rel=0.25)
    assert orange == 0
    drawn = {row["class"] for row in rows if row["row"]}
    assert drawn == {"red", "öl, green", "blue"}, "one of each class before a second"


def pixels_of(picture: np.ndarray, colour: str) -> int:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(-1) < 3).sum())


def test_rows_show_the_share_of_right_ones_that_is_asked_for(mini: Path) -> None:
    for right, expected in ((1.0, 4), (0.5, 2), (0.0, 0)):
        rows = rows_of(Neighbours(rows=4, right=right), photos_of(SOME, data=mini))
        verdicts = {row["row"]: row["right"] for row in rows if row["row"]}
        assert sorted(verdicts) == ["1", "2", "3", "4"]
        assert list(verdicts.values()).count("true") == expected


def query(label: str, right: bool | None) -> Query:
    return Query(label, label, np.zeros((1, 1, 3), np.uint8), (), right=right)


def test_too_few_of_one_kind_leave_their_rows_to_the_other() -> None:
    right, wrong = [query(f"r{i}", True) for i in range(9)], [query("w", False)]
    assert [q.right for q in chosen([*wrong, *right], 4, 0.5)] == [True] * 3 + [False]
    assert [q.right for q in chosen(right, 4, 0.0)] == [True] * 4
    assert chosen(wrong, 4, 1.0) == wrong
    loose = [query("", None) for _ in range(3)]
    assert chosen([*right, *loose], 2, 0.5) == loose[:2], "what the user named himself comes first"
    assert [q.right for q in chosen([*right, *wrong, *loose], 5, 0.5)] == [*[None] * 3, True, False]


# the gallery


def test_a_model_alone_is_shown_on_its_training_data(mini: Path, tmp_path: Path) -> None:
    card = {
        "arch": ARCH,
        "input": InputSpec(32).to_json(),
        "pretrain": {"dataset": "mini_objects[n=60,seed=0]"},
    }
    write_checkpoint(tmp_path / "run" / "checkpoint", seeded_network(ARCH, 0), None, card)
    paths = draw("neighbours?k=3&images=5", [str(tmp_path / "run")], tmp_path / "out", data=mini)
    rows = read(paths[1].read_text())
    trained = set(open_split("mini_objects[n=60,seed=0]", "train", mini).ids)
    held_out = set(open_split("mini_objects", "val", mini).ids)
    assert len(rows) == 15
    assert {row["neighbour"] for row in rows} <= trained
    assert {row["query"] for row in rows} <= held_out
    assert {row["right"] for row in rows} <= {"true", "false"}


def test_an_image_is_not_its_own_neighbour(classes: Path, colours: str) -> None:
    own = colours.replace("labels", "split=train,labels")
    rows = rows_of(Neighbours(k=3), photos_of(own))
    assert len(rows) == 18 * 3
    assert all(row["query"] != row["neighbour"] for row in rows)
    # Images of val have the same names, but other pixels: they stay.
    rows = rows_of(Neighbours(k=18), photos_of(colours))
    assert sum(row["query"] == row["neighbour"] for row in rows) == 12


def test_images_of_no_data_set_are_compared_with_each_other(classes: Path) -> None:
    rows = rows_of(Neighbours(k=9), photos_of(str(classes / "val")))
    names = {row["query"] for row in rows}
    assert len(names) == 12
    for name in names:
        own = [row for row in rows if row["query"] == name]
        assert len({row["neighbour"] for row in own} | {name}) == 10
        assert {row["right"] for row in own} == {row["voted"] for row in own} == {""}


def test_image_files_are_asked_of_the_gallery_that_is_named(
    classes: Path, colours: str, tmp_path: Path
) -> None:
    file = classes / "val" / "blue" / "0.png"
    paths = draw(f"neighbours?k=2&gallery={colours}", [RANDOM, str(file)], tmp_path / "out")
    rows = read(paths[1].read_text())
    assert [row["neighbour_class"] for row in rows] == ["blue", "blue"]
    assert {row["voted"] for row in rows} == {"blue"}
    assert {(row["class"], row["right"], row["same_class"]) for row in rows} == {("", "", "")}


def test_classes_that_the_gallery_lacks_get_no_verdict(colours: str, mini: Path) -> None:
    figure = Neighbours(k=2, gallery=colours)
    rows = rows_of(figure, photos_of("mini_objects", data=mini, most=3))
    assert all(row["class"] and row["voted"] and not row["right"] for row in rows)


def test_more_neighbours_than_images_are_clipped(colours: str) -> None:
    files = Neighbours(k=500, images=1).draw([RANDOM], photos_of(colours, most=1), "cpu")
    assert len(read(files[".csv"].decode())) == 18
    picture = Image.open(io.BytesIO(files[".png"]))
    assert picture.width < 200 * 20, "the nearest 16 are drawn"


def test_an_image_alone_has_no_neighbour_and_says_so(classes: Path) -> None:
    only = photos_of(str(classes / "val" / "red" / "0.png"))
    (row,) = rows_of(Neighbours(), only)
    assert (row["query"], row["rank"], row["neighbour"]) == ("0.png", "", "")


def test_unreadable_training_images_are_left_out_only_when_asked(
    colours: str, classes: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(classes, copy)
    (copy / "train" / "red" / "0.png").write_bytes(b"no image")
    things = [f"folder[labels=folders,path={copy}]"]
    photos = sort_out(things, 100)[1]
    with pytest.raises(DataError, match=r"red/0.png.*--skip-bad"):
        Neighbours().draw([RANDOM], Photos(photos), "cpu")
    rows = rows_of(Neighbours(k=17), Photos(photos, skip_bad=1))
    assert len({row["neighbour"] for row in rows}) == 17
    assert "red/0.png" not in {row["neighbour"] for row in rows}


# photos


def test_photos_of_a_data_set_know_their_class_and_their_training_images(mini: Path) -> None:
    photos = photos_of("mini_objects[n=40,seed=1]", data=mini)
    val = open_split("mini_objects", "val", mini)
    words = words_of_mini(mini)
    expected = {id_: words[t] for id_, t in zip(val.ids, val.targets, strict=True)}
    assert {photo.name: photo.label for photo in photos.items} == expected
    train = photos.train()
    assert train is not None
    assert train.ids == open_split("mini_objects[n=40,seed=1]", "train", mini).ids
    named = photos_of("mini_scenes[n=3,split=unlabeled]", data=mini)
    assert len(named.items) == 3
    whole = named.train()
    assert whole is not None
    assert set(whole.ids) == set(open_split("mini_scenes", "train", mini).labelled().ids)
    assert Photos([Photo("x", lambda: Image.new("RGB", (9, 9)))]).train() is None


# refusals


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("k=0", "k=0: expected at least 1"),
        ("rows=0", "rows=0: expected at least 1"),
        ("right=1.5", "right=1.5: expected a share"),
        ("temperature=0", "temperature=0.0: expected more than 0"),
        ("token=clss", "did you mean"),
        ("gallery=imagenete", "imagenete"),
    ],
)
def test_wrong_options_say_what_is_right(
    option: str, words: str, classes: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=words):
        draw(f"neighbours?{option}", [RANDOM, str(classes)], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_two_models_are_refused(classes: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="neighbours draws one model"):
        draw("neighbours", [RANDOM, "random:vit_mini_patch8_64", str(classes)], tmp_path / "out")

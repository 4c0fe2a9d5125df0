"""One cell: how it is found, what is told of it, its predictions and its confusions."""

import csv
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import cli
from bench.errors import SpecError, StoreError
from bench.records import Metric, Outcome, Result
from bench.store import Store
from leaderboards.cell import explain, find
from leaderboards.confusion import Confusion
from leaderboards.confusion_page import draw, shades
from leaderboards.predictions import table

Make = Callable[..., Result]
Fill = Callable[..., Store]

NAMES = ['say "ah"', "salt, pepper", "öl"]


def outcome(**extras: np.ndarray) -> Outcome:
    """Six samples of three classes, one without a label."""
    return Outcome(
        {
            "id": np.array(["a,1.jpg", 'b"2.jpg', "c/3.jpg", "d.jpg", "e.jpg", "ü.jpg"]),
            "target": np.array([0, 0, 1, 2, 2, -1]),
            "prediction": np.array([0, 1, 1, 0, 0, 2]),
            "value": np.array([1.0, 0, 1, 0, 0, np.nan]),
            "margin": np.array([0.25, 1 / 3, 1e-3, 2, 3, 4], np.float32),
            "top5": np.array([True, False, True, True, True, False]),
            "scores": np.zeros((6, 3)),
        },
        extras,
    )


def named() -> Outcome:
    return outcome(class_names=np.array(NAMES))


@pytest.fixture
def stored(tmp_path: Path, result: Make) -> Store:
    """Two models, one of them with two tasks, each cell with the outcome above."""
    store = Store(tmp_path / "results")
    for one in (
        result("simclr-long", 0.25, spec="knn@imagenet1k", pretrain={"epochs": 300.0}),
        result("simclr-long", 0.5, spec="knn@imagenet1k?k=10", fields={"k": 10}),
        result("mae", 0.75, spec="linear@imagenet1k", warnings=("selected on the test split",)),
    ):
        store.write(one, named())
    return store


# finding


@pytest.mark.parametrize(
    ("model", "task", "spec"),
    [
        ("simclr-long", "knn@imagenet1k", "knn@imagenet1k"),
        ("simclr-long", "knn@imagenet1k?k=20", "knn@imagenet1k"),
        ("simclr-long", " knn@imagenet1k?temperature=0.07&k=10", "knn@imagenet1k?k=10"),
        ("simclr-long", "knn?k=10", "knn@imagenet1k?k=10"),
        ("sim", "knn@imagenet1k", "knn@imagenet1k"),
        ("runs/mae", "linear", "linear@imagenet1k"),
        ("elsewhere/mae/checkpoint/", "linear", "linear@imagenet1k"),
    ],
)
def test_a_cell_is_found_by_any_spelling_of_its_model_and_task(
    model: str, task: str, spec: str, stored: Store
) -> None:
    found = find(stored, model, task)
    assert found.result.task_spec == spec
    assert (found.folder / "outcome.npz").is_file()


def test_a_name_in_full_wins_over_longer_ones(store_of: Fill, result: Make) -> None:
    store = store_of(result("mae"), result("mae-2"), result("mae-seed1"))
    assert find(store, "mae", "knn").result.model["name"] == "mae"


def test_of_several_cells_the_candidates_are_listed(store_of: Fill, result: Make) -> None:
    one, two = result("mae", 0.31, seed=0), result("mae", 0.32, seed=1)
    store = store_of(one, two)
    with pytest.raises(StoreError, match="--identity") as caught:
        find(store, "mae", "knn@imagenet1k?k=20")
    _, *lines = str(caught.value).splitlines()
    assert {line.split()[0] for line in lines} == {r.identity.digest[:10] for r in (one, two)}
    assert all("mae" in line and "knn@imagenet1k" in line and "top1 0.3" in line for line in lines)
    start = two.identity.digest[:10]
    assert find(store, "mae", "knn", start).result.identity.seed == 1
    with pytest.raises(StoreError, match="identity zz"):
        find(store, "mae", "knn", "zz")


def test_a_cell_that_is_not_there_is_answered_with_the_nearest(stored: Store) -> None:
    with pytest.raises(StoreError, match="did you mean 'mae'"):
        find(stored, "may", "knn")
    with pytest.raises(StoreError, match=r"no cell linear@imagenette .*'linear@imagenet1k'"):
        find(stored, "mae", "linear@imagenette")
    with pytest.raises(SpecError, match=r"no option 'kk'; did you mean 'k'"):
        find(stored, "sim", "knn@imagenet1k?kk=3")
    with pytest.raises(StoreError, match="valid: linear@imagenet1k"):
        find(stored, "mae", "plugged_in@x")


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="sslbench eval"):
        find(Store(tmp_path / "none"), "mae", "knn")


def test_a_cell_without_its_outcome_is_named_as_unreadable(stored: Store) -> None:
    folder = find(stored, "mae", "linear").folder
    (folder / "outcome.npz").write_bytes(b"not an archive")
    with pytest.raises(StoreError, match=r"outcome.npz cannot be read .*evaluate again"):
        find(stored, "mae", "linear")
    (folder / "outcome.npz").unlink()
    with pytest.raises(StoreError, match="no model 'mae'"):
        find(stored, "mae", "linear")
    with pytest.raises(StoreError, match=r"not readable: .*outcome.npz is missing"):
        find(stored, "sim", "linear")


# telling


def test_the_text_tells_all_that_is_stored(stored: Store, result: Make) -> None:
    text, values = explain(stored, "mae", "linear")
    digest = find(stored, "mae", "linear").result.identity.digest
    weights = hashlib.sha256(b"mae").hexdigest()
    facts = ("75.0 %", "[73.1, 76.8] Wilson", "n 2,000", "warning: selected on the test split")
    origin = ("0123abc", "torch 2.15.0", "imagenet1k, 5,000 images, 100 epochs, seed 0")
    for fact in (*facts, *origin, digest, weights[:12], "12.5 s", "512 MB", "6 rows"):
        assert fact in text, fact
    assert values["digest"] == digest
    assert values["metrics"]["top1"]["value"] == 0.75
    assert values["outcome"]["rows"] == 6
    assert values["files"] == []
    assert json.loads(json.dumps(values)) == values


def test_shared_work_is_told_with_who_shared_it(store_of: Fill, result: Make) -> None:
    shared = {"what": "pass over x train, ev32", "seconds": 7.25, "tasks": ["knn@x", "linear@x"]}
    store = store_of(result("mae", cost={"seconds": 3.5, "shared": [shared]}))
    text, _ = explain(store, "mae", "knn")
    assert "pass over x train, ev32: 7.2 s, shared by knn@x, linear@x" in text


def test_a_result_with_nothing_but_its_numbers_can_be_told(store_of: Fill, result: Make) -> None:
    bare = result(
        "mae",
        metric=Metric(4.5),
        headline="rmse",
        dataset={},
        cost={},
        provenance={},
        pretrain={"dataset": None},
    )
    text, _ = explain(store_of(bare), "mae", "knn")
    assert "rmse" in text
    assert "4.50" in text
    assert "None" not in text


def test_what_a_task_reads_beside_its_data_is_told_apart_from_its_options(
    store_of: Fill, result: Make
) -> None:
    read = {"test": hashlib.sha256(b"test").hexdigest(), "images": "ev32-bicubic"}
    cell = result("mae", fields={"k": 10, "facts": read})
    lines = explain(store_of(cell), "mae", "knn")[0].splitlines()
    assert "protocol    knn version 1, k=10" in lines
    assert f"and         images ev32-bicubic, test manifest {read['test'][:8]}" in lines


def test_the_published_protocol_is_named_where_it_is_the_default(
    store_of: Fill, result: Make
) -> None:
    plain = result("mae", spec="segknn@camvid")
    lines = explain(store_of(plain), "mae", "segknn")[0].splitlines()
    assert "protocol    segknn version 1, segknn_capi, its defaults" in lines
    fields = {"protocol": "segknn_hummingbird"}
    other = result("dino", spec="segknn@camvid?protocol=segknn_hummingbird", fields=fields)
    lines = explain(store_of(other), "dino", "segknn")[0].splitlines()
    assert "protocol    segknn version 1, protocol=segknn_hummingbird" in lines


def test_objects_of_videos_are_not_called_images(store_of: Fill, result: Make) -> None:
    cell = result("mae", dataset={"name": "davis2017", "images": {"objects": 61, "val": 1999}})
    text, _ = explain(store_of(cell), "mae", "knn")
    assert "davis2017, objects 61, val 1,999 images" in text


# predictions


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_every_sample_is_a_row_with_the_names_of_its_classes() -> None:
    rows = rows_of(table(named()))
    assert list(rows[0]) == [
        *("id", "target", "target_class", "prediction", "prediction_class", "value"),
        *("margin", "top5"),
    ]
    assert [row["id"] for row in rows] == [
        "a,1.jpg",
        'b"2.jpg',
        "c/3.jpg",
        "d.jpg",
        "e.jpg",
        "ü.jpg",
    ]
    assert [row["target"] for row in rows] == ["0", "0", "1", "2", "2", "-1"]
    assert [row["target_class"] for row in rows] == [
        *(NAMES[0], NAMES[0], NAMES[1], NAMES[2], NAMES[2], "")
    ]
    assert [row["prediction_class"] for row in rows] == [NAMES[i] for i in (0, 1, 1, 0, 0, 2)]
    assert [row["value"] for row in rows] == ["1", "0", "1", "0", "0", "nan"]
    assert [row["top5"] for row in rows] == ["true", "false", "true", "true", "true", "false"]
    assert [np.float32(row["margin"]) for row in rows] == list(named().columns["margin"])


def test_quotes_commas_and_line_breaks_come_back_as_they_were() -> None:
    odd = ['"', ",", "a\nb", '"",""', "", "'"]
    found = Outcome({"id": np.array([f"{i}{text}" for i, text in enumerate(odd)])})
    assert [row["id"] for row in rows_of(table(found))] == [f"{i}{t}" for i, t in enumerate(odd)]


def test_file_names_that_are_no_utf8_come_back_as_their_bytes() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert b"caf\xe9.jpg" in table(Outcome({"id": np.array([name])}))


def test_an_outcome_without_names_or_classes_has_its_numbers() -> None:
    rows = rows_of(table(outcome()))
    assert {row["target_class"] for row in rows} == {""}
    plain = Outcome({"id": np.array(["q1", "q2"]), "ap": np.array([0.5, 0.125])})
    assert table(plain) == b"id,ap\nq1,0.5\nq2,0.125\n"


def test_an_outcome_without_rows_has_its_header() -> None:
    empty = Outcome({"id": np.array([], dtype=np.str_), "target": np.array([], dtype=np.int64)})
    assert table(empty) == b"id,target,target_class\n"


# confusions


def test_counts_are_those_of_a_loop_over_the_samples() -> None:
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(-1, 7, 500), rng.integers(0, 7, 500)
    ids = np.array([str(i) for i in range(500)])
    found = Confusion.of(Outcome({"id": ids, "target": target, "prediction": prediction}), "x")
    expected = [[0] * 7 for _ in range(7)]
    for true, predicted in zip(target.tolist(), prediction.tolist(), strict=True):
        if true >= 0:
            expected[true][predicted] += 1
    assert found.counts.tolist() == expected
    assert found.names == tuple("0123456")
    assert found.left_out == (target == -1).sum()
    assert found.samples == sum(map(sum, expected))
    assert found.right == sum(expected[i][i] for i in range(7))
    for row, shares in zip(expected, found.shares.tolist(), strict=True):
        assert shares == pytest.approx([count / sum(row) for count in row])


def test_the_worst_confusions_come_first() -> None:
    found = Confusion(np.array([[9, 3, 1], [3, 1, 0], [0, 5, 0]]), ("a", "b", "c"))
    # 5 of 5, then 3 of 4 before 3 of 13.
    assert found.pairs(9) == [(2, 1), (1, 0), (0, 1), (0, 2)]
    assert found.pairs(2) == [(2, 1), (1, 0)]


def test_the_counts_are_written_with_names_at_both_sides() -> None:
    header, *rows = csv.reader(io.StringIO(Confusion.of(named(), "x").csv().decode(), newline=""))
    assert header[1:] == NAMES
    assert [row[0] for row in rows] == NAMES
    assert [row[1:] for row in rows] == [["1", "1", "0"], ["0", "1", "0"], ["2", "0", "0"]]


def test_a_class_without_samples_has_no_shares() -> None:
    found = Confusion(np.array([[0, 0], [1, 3]]), ("a", "b"))
    assert found.shares.tolist() == [[0, 0], [0.25, 0.75]]


@pytest.mark.parametrize(
    "columns",
    [
        {"ap": np.array([0.5])},
        {"target": np.array([1])},
        {"target": np.array([1.0]), "prediction": np.array([1.0])},
        {"target": np.array([[1]]), "prediction": np.array([[1]])},
    ],
)
def test_outcomes_without_classes_are_refused(columns: dict[str, np.ndarray]) -> None:
    with pytest.raises(SpecError, match=r"ret@roxford has no confusion matrix.*such as knn"):
        Confusion.of(Outcome({"id": np.array(["a"]), **columns}), "ret@roxford")


def test_a_sample_must_have_a_class() -> None:
    columns = {"id": np.array(["a"]), "target": np.array([-1]), "prediction": np.array([0])}
    with pytest.raises(SpecError, match="none of its samples has a class"):
        Confusion.of(Outcome(columns), "x")


def near(picture: np.ndarray, colour: tuple[float, ...]) -> int:
    """How many pixels have the colour."""
    return int((np.abs(picture / 255 - np.array(colour)).max(-1) < 0.02).sum())


def picture_of(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def test_right_is_blue_and_wrong_orange_and_a_whole_row_has_full_colour() -> None:
    rgb = shades(np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0, 1.0, 0]]))
    blue, orange = (0, 0x72 / 255, 0xB2 / 255), (0xD5 / 255, 0x5E / 255, 0)
    assert rgb[0, 0] == pytest.approx(blue)
    assert rgb[2, 1] == pytest.approx(orange)
    assert (rgb[0, 1] == 1).all()
    assert (rgb[1, 0] > rgb[2, 1]).all() or rgb[1, 0, 2] > 0.2


def test_few_classes_are_drawn_as_their_counts(result: Make) -> None:
    found = Confusion(np.array([[5, 0, 0], [0, 5, 0], [0, 5, 0]]), ("a", "b $x$", "日本"))
    shown = picture_of(draw(found, result()))
    cells = near(shown, (0, 0x72 / 255, 0xB2 / 255)), near(shown, (0xD5 / 255, 0x5E / 255, 0))
    assert cells[1] > 5000
    assert cells[0] == pytest.approx(2 * cells[1], rel=0.1), "two right rows, one wrong"


@pytest.mark.parametrize("classes", [1, 25, 26, 61, 1000])
def test_any_number_of_classes_gives_a_picture(classes: int, result: Make) -> None:
    rng = np.random.default_rng(0)
    target = np.arange(3 * classes) % classes
    prediction = np.where(rng.random(len(target)) < 0.6, target, rng.permutation(target))
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (target, prediction), 1)
    names = tuple(f"class number {i} of a long name" for i in range(classes))
    shown = picture_of(draw(Confusion(counts, names), result()))
    assert min(shown.shape[:2]) > 700
    assert max(shown.shape[:2]) < 3000
    assert shown.std() > 10


def test_the_same_confusions_give_the_same_bytes(result: Make) -> None:
    found = Confusion.of(named(), "x")
    assert draw(found, result()) == draw(found, result())


# the command


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:  # type: ignore[no-untyped-def]
    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["sslbench", "cell", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def test_the_command_writes_what_it_is_asked_for(call, stored: Store, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files = [tmp_path / "new" / name for name in ("rows.csv", "who.png", "who.csv")]
    options = ("--predictions", files[0], "--confusion", files[1], "--results", stored.root)
    code, out, _ = call("mae", "linear", *options, "--json")
    assert code == 0
    assert set(json.loads(out)["files"]) == {str(file) for file in files}
    assert files[0].read_bytes() == table(named())
    assert files[2].read_bytes() == Confusion.of(named(), "x").csv()
    assert picture_of(files[1].read_bytes()).std() > 10
    code, out, _ = call("mae", "linear", "--results", stored.root)
    assert code == 0
    assert out.startswith("linear@imagenet1k of mae")


@pytest.mark.parametrize("there", ["rows.csv", "who.png", "who.csv"])
def test_a_file_that_is_there_is_kept_and_nothing_written(  # type: ignore[no-untyped-def]
    there: str, call, stored: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / there).write_text("mine")
    options = ("--predictions", folder / "rows.csv", "--confusion", folder / "who.png")
    code, out, err = call("mae", "linear", *options, "--results", stored.root)
    option = "--predictions" if there == "rows.csv" else "--confusion"
    assert code == 2
    assert f"{there} exists: choose another {option}" in err
    assert not out
    assert [path.name for path in folder.iterdir()] == [there]
    assert (folder / there).read_text() == "mine"


def test_bad_requests_are_told_in_a_line(call, stored: Store, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    store = ("--results", stored.root)
    clash = ("--predictions", tmp_path / "x.csv", "--confusion", tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    for args, words in (
        (("mae", "knn", *store), "no cell knn of mae"),
        (("mae", "linear", "--confusion", "x.pdf", *store), "write FILE.png"),
        (("mae", "linear", *clash, *store), "the counts of --confusion go there"),
        (("mae", "linear", "--predictions", tmp_path / "file/x", *store), "cannot write"),
    ):
        code, out, err = call(*args)
        assert code == 2
        assert words in err
        assert err.startswith("sslbench: ")
        assert err.count("\n") == 1
        assert not out


def test_a_cell_is_told_and_drawn_without_torch(stored: Store, tmp_path: Path) -> None:
    options = ["--confusion", str(tmp_path / "c.png"), "--predictions", str(tmp_path / "p.csv")]
    code = (
        f"import sys; sys.argv = ['sslbench', 'cell', 'mae', 'linear@imagenet1k', '--results', "
        f"{str(stored.root)!r}, *{options!r}]\n"
        "from bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_samples_without_a_share_in_the_headline_are_not_confused() -> None:
    from leaderboards.confusion import Confusion

    outcome = Outcome(
        {
            "id": np.array(["a", "b", "c"]),
            "target": np.array([0, 1, 1]),
            "prediction": np.array([0, 0, 1]),
            "value": np.array([1.0, np.nan, 1.0]),
        }
    )
    found = Confusion.of(outcome, "imagenet9")
    assert (found.samples, found.right, found.left_out) == (2, 2, 1)

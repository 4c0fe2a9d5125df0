"""The board: what shares a cell, what ties, how it is ordered, and how each format prints it."""

import csv
import io
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import SpecError, StoreError
from bench.records import Metric, Result
from bench.store import Store
from leaderboards.board import FORMATS, board, frame, render, write_board
from leaderboards.cells import lower_is_better
from leaderboards.formats import escape_latex, escape_markdown
from leaderboards.plain_text import columns_wide
from leaderboards.ranking import Board

Make = Callable[..., Result]
Fill = Callable[..., Store]
ROOT = Path(__file__).resolve().parents[2]


def cell(shown: Board, model: str, column: int = 0):
    (row,) = (row for row in shown.rows if row.name == model)
    return row.cells[column]


@pytest.fixture
def three(store_of: Fill, result: Make) -> Store:
    """Three models on two tasks; "low" lacks the second."""
    return store_of(
        result("high", 0.60),
        result("middle", 0.58),
        result("low", 0.30),
        result("high", 0.41, spec="linear@imagenet1k"),
        result("middle", 0.52, spec="linear@imagenet1k"),
    )


def test_frame_has_a_row_for_each_result_and_metric(three: Store) -> None:
    tidy = frame(three)
    assert len(tidy) == 10  # five results, each with its headline and a top-5
    heads = tidy[tidy.headline]
    assert sorted(heads.value) == [0.30, 0.41, 0.52, 0.58, 0.60]
    assert set(heads.metric) == {"top1"}
    assert (heads.low < heads.value).all()
    assert (heads.value < heads.high).all()
    assert set(tidy.dataset) == {"imagenet1k"}
    assert set(tidy.pretrain_images) == {5000}
    assert tidy.identity.nunique() == 5


def test_frame_of_an_empty_store_has_its_columns(tmp_path: Path) -> None:
    empty = frame(Store(tmp_path))
    assert len(empty) == 0
    assert {"model", "value", "low", "high", "seconds"} <= set(empty.columns)


def test_rows_are_ordered_by_mean_rank_and_a_missing_cell_is_last(three: Store) -> None:
    shown = board(three)
    assert [row.name for row in shown.rows] == ["high", "middle", "low"]
    # high: 1 and 2; middle: 2 and 1; low: 3 and nothing, which counts as the last of three.
    assert [row.mean_rank for row in shown.rows] == [1.5, 1.5, 3.0]
    assert [row.filled for row in shown.rows] == [2, 2, 1]
    assert shown.cells == 5


def test_equal_scores_share_their_places(store_of: Fill, result: Make) -> None:
    shown = board(store_of(result("a", 0.5), result("b", 0.5), result("c", 0.2)))
    assert [row.mean_rank for row in shown.rows] == [1.5, 1.5, 3.0]


def test_rows_can_be_ordered_by_a_column_or_by_name(three: Store) -> None:
    def names(sort: str) -> list[str]:
        return [row.name for row in board(three, sort=sort).rows]

    assert names("linear") == ["middle", "high", "low"]
    assert names("knn@imagenet1k?k=20") == ["high", "middle", "low"]
    assert names("model") == ["high", "low", "middle"]


def test_only_scores_whose_intervals_overlap_with_the_best_are_tied(three: Store) -> None:
    shown = board(three)
    knn, linear = 0, 1
    assert cell(shown, "high", knn).tied_with_best
    assert cell(shown, "middle", knn).tied_with_best  # 0.58 and 0.60 of 2,000: within the noise
    assert not cell(shown, "low", knn).tied_with_best
    assert not cell(shown, "high", linear).tied_with_best


def test_for_an_error_the_smallest_is_the_best(store_of: Fill, result: Make) -> None:
    def depth(model: str, rmse: float) -> Result:
        metric = Metric(rmse, rmse - 0.01, rmse + 0.01, 100, "bootstrap95")
        return result(model, spec="depth@nyu", headline="rmse", metric=metric)

    shown = board(store_of(depth("good", 0.4), depth("bad", 0.6)))
    assert [row.name for row in shown.rows] == ["good", "bad"]
    assert cell(shown, "good").tied_with_best
    assert not cell(shown, "bad").tied_with_best
    assert "0.400" in render(shown)
    assert "RMSE ↓" in render(shown)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("top1", False), ("abs_rel", True), ("rmse", True), ("miou", False), ("relative_gain", False)],
)
def test_direction_is_read_from_the_metric_name(metric: str, expected: bool) -> None:
    assert lower_is_better(metric) is expected


def test_evaluation_seeds_become_one_cell_with_their_range(store_of: Fill, result: Make) -> None:
    shown = board(store_of(*(result("a", 0.50 + 0.01 * s, seed=s) for s in range(3))))
    found = cell(shown, "a")
    assert found.value == pytest.approx(0.51)
    assert (found.seed_low, found.seed_high, found.seeds) == (0.50, 0.52, 3)
    # The sampling interval is that of one run: seeds share the samples.
    assert found.high - found.low == pytest.approx(0.0437, abs=2e-4)
    assert "51.0* [48.8, 53.2] 3 seeds 50.0–52.0" in render(shown)


def test_pretraining_seeds_named_in_the_model_become_one_row(store_of: Fill, result: Make) -> None:
    runs = [result(f"mae-s{seed}", 0.5, pretrain={"seed": seed}) for seed in range(2)]
    others = [
        result(f"random-vit-seed{s}", 0.2, family="random", pretrain={"dataset": None})
        for s in (0, 1)
    ]
    shown = board(store_of(*runs, *others))
    assert [(row.name, row.cells[0].seeds) for row in shown.rows] == [("mae", 2), ("random-vit", 2)]


def test_a_seed_range_wider_than_the_intervals_ties(store_of: Fill, result: Make) -> None:
    steady = [result("steady", 0.60, n=10**6, seed=s) for s in range(2)]
    shaky = [result("shaky", score, n=10**6, seed=s) for s, score in enumerate((0.50, 0.61))]
    assert cell(board(store_of(*steady, *shaky)), "shaky").tied_with_best


def test_one_name_with_two_trainings_stays_two_rows(store_of: Fill, result: Make) -> None:
    first = result("mae", 0.5, weights="a" * 64)
    second = result("mae", 0.4, weights="b" * 64)
    third = result("mae", 0.3, weights="c" * 64, pretrain={"images": 100})
    names = [row.name for row in board(store_of(first, second, third)).rows]
    assert names == ["mae #aaaaaa", "mae #bbbbbb", "mae #cccccc"]


@pytest.mark.parametrize(
    ("other", "label"),
    [
        ({"version": 2}, "knn@imagenet1k?k=20 v2"),
        ({"manifest": "f" * 64}, "knn@imagenet1k?k=20 data ffffff"),
        ({"fields": {"k": 10}}, 'knn@imagenet1k?k=20 {"k": 10}'),
        ({"headline": "recall"}, "knn@imagenet1k?k=20 recall"),
    ],
)
def test_what_was_measured_otherwise_never_shares_a_column(
    store_of: Fill, result: Make, other: dict[str, object], label: str
) -> None:
    shown = board(store_of(result("a", 0.5), result("b", 0.6, **other)))
    assert len(shown.columns) == 2
    assert label in [column.label for column in shown.columns]
    assert all(row.filled == 1 for row in shown.rows)


@pytest.mark.parametrize(
    "chosen",
    [
        {"warnings": ("the learning rate was selected on the test split",)},
        {"fields": {"selection": "test"}},
        {"headline": "best_top1"},
    ],
)
def test_what_was_chosen_on_the_test_split_carries_a_dagger(
    store_of: Fill, result: Make, chosen: dict[str, object]
) -> None:
    shown = board(store_of(result("a", 0.5, **chosen)))
    for format in ("text", "md"):
        assert "†" in render(shown, format)
    assert r"$^\dagger$" in render(shown, "latex")
    assert "chosen on the split that is reported" in render(shown)


def test_without_such_a_choice_there_is_no_dagger(store_of: Fill, result: Make) -> None:
    shown = board(store_of(result("a", 0.5, warnings=("k was clipped to 7",))))
    assert not any("†" in render(shown, format) for format in FORMATS)


@pytest.mark.parametrize("format", ["text", "md", "latex"])
def test_a_collapse_in_pre_training_stands_below_the_table(
    store_of: Fill, result: Make, format: str
) -> None:
    pretrain = {"collapsed": "one prototype takes all images"}
    shown = board(store_of(result("bad", 0.5, pretrain=pretrain), result("fine", 0.4)))
    assert "bad collapsed in pre-training: one prototype takes all images." in shown.notes("*")
    assert "collapsed in pre-training" in render(shown, format)
    assert not any("fine collapsed" in note for note in shown.notes("*"))


def test_the_mini_benchmark_is_named_as_such(store_of: Fill, result: Make) -> None:
    shown = board(store_of(result("a", 0.5, spec="knn@mini_objects")))
    for format in ("text", "md", "latex"):
        assert "a benchmark of the harness, not of the methods" in render(shown, format)


def test_text_columns_stand_below_one_another(three: Store) -> None:
    lines = render(board(three)).splitlines()
    rows = [line for line in lines if line.startswith(("high", "middle", "low"))]
    assert len({line.index("[") for line in rows}) == 1
    assert all("[" in line for line in rows)


def test_text_fits_the_width_by_going_on_below(three: Store) -> None:
    shown = board(three)
    tables = render(shown, width=60).split("\n\n")[:-1]
    assert len(tables) == 2
    assert all(len(line) <= 60 for table in tables for line in table.splitlines())
    for table in tables:
        _, body = re.split(r"\n-+\n", table)
        assert [line.split()[0] for line in body.splitlines()] == ["high", "middle", "low"]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_real_board_stays_within_the_terminal(store_of: Fill, result: Make, width: int) -> None:
    specs = ("knn@imagenet1k?k=20", "segknn@ade20k?lists=validation", "davis@davis2017")
    store = store_of(
        *(
            result(f"{name}-vits16-coco-plus-800ep{'-long' * 20}-s{t}", 0.5, spec=spec, seed=seed)
            for name in ("slotmim", "漢字")
            for spec in specs
            for seed in range(2)
            for t in range(2)
        )
    )
    for table in render(board(store), width=width).split("\n\n"):
        assert all(columns_wide(line) <= width for line in table.splitlines())


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_no_name_moves_the_cursor_or_turns_the_text(
    store_of: Fill, result: Make, format: str
) -> None:
    pretrain = {"collapsed": "yes\x1b[2J", "dataset": "a\x1b[31m"}
    store = store_of(result("red\x1b[31m\u202ename\r\nb", 0.5, method="m\x07", pretrain=pretrain))
    text = render(board(store), format)
    assert "red" in text
    assert not set(text) & set("\x1b\x07\u202e\r")


def test_csv_keeps_every_digit(three: Store) -> None:
    shown = board(three)
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(render(shown, "csv")))}
    key = "knn@imagenet1k?k=20"
    assert float(rows["high"][key]) == cell(shown, "high").value
    assert float(rows["high"][f"{key} low"]) == cell(shown, "high").low
    assert rows["low"]["linear@imagenet1k"] == ""
    assert rows["low"]["cells"] == "1"


def test_markdown_is_one_table_whatever_the_names(store_of: Fill, result: Make) -> None:
    text = render(board(store_of(result("a|b<script>*x*", 0.5))), "md")
    table = [line for line in text.splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
    assert cells == [8] * len(table)
    assert "<script>" not in text
    assert "**50.0** [47.8, 52.2]" in text


@pytest.mark.parametrize("name", ["50%_a&b", r"\input{secret}", "x^2 ~ $y$ #1 {z}"])
def test_latex_shows_names_as_they_are(store_of: Fill, result: Make, name: str) -> None:
    text = render(board(store_of(result(name, 0.5))), "latex")
    assert escape_latex(name) in text
    # Left after the escapes are removed, none of the special characters may stand.
    rest = re.sub(r"\\textbackslash\{\}|\\text\w+\{\}|\\[&%$#_{}]", "", escape_latex(name))
    assert not set(rest) & set("\\&%$#_{}^~")


def test_escaped_markdown_is_one_line_without_markup() -> None:
    assert escape_markdown("a\n`b` & <i>") == r"a \`b\` &amp; &lt;i&gt;"


def test_a_board_of_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="sslbench eval"):
        board(Store(tmp_path))


def test_unknown_names_are_answered_with_the_nearest(three: Store) -> None:
    with pytest.raises(StoreError, match="did you mean 'knn'"):
        board(three, tasks=["kn"])
    with pytest.raises(StoreError, match="did you mean 'middle'"):
        board(three, models=["midle"])
    with pytest.raises(StoreError, match="did you mean 'linear@imagenet1k'"):
        board(three, sort="linear@imagenet")
    with pytest.raises(SpecError, match="did you mean 'latex'"):
        render(board(three), "latexx")
    with pytest.raises(StoreError, match="no result passes --models, --tasks together"):
        board(three, models=["low"], tasks=["linear"])


def test_tasks_and_models_are_kept_by_name_spec_or_pattern(three: Store) -> None:
    assert [c.task for c in board(three, tasks=["lin*"]).columns] == ["linear"]
    assert [c.task for c in board(three, tasks=["knn@imagenet1k?k=20"]).columns] == ["knn"]
    assert {row.name for row in board(three, models=["m*", "low"]).rows} == {"middle", "low"}


def test_a_broken_result_is_left_out_and_told(three: Store) -> None:
    victim = next(three.root.glob("low/*/*/result.json"))
    victim.write_text("{")
    shown = board(three)
    assert [row.name for row in shown.rows] == ["high", "middle"]
    assert "In the store, 1 problem: low" in render(shown)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_format_is_written_and_the_same_every_time(
    three: Store, tmp_path: Path, format: str
) -> None:
    first = write_board(three, format, tmp_path / "deep" / "board")
    again = write_board(three, format, tmp_path / "again")
    assert first.read_bytes() == again.read_bytes()
    assert "high" in first.read_text()


def test_a_file_that_cannot_be_written_is_one_line_of_advice(three: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--out"):
        write_board(three, "md", tmp_path / "file" / "board.md")


def test_every_format_needs_no_torch(three: Store) -> None:
    code = (
        "import sys\n"
        "from bench.store import Store\n"
        "from leaderboards.board import FORMATS, board, frame, render\n"
        "import leaderboards.curves, leaderboards.plot\n"
        f"store = Store({str(three.root)!r})\n"
        "frame(store)\n"
        "for name in FORMATS: render(board(store), name)\n"
        "assert not {'torch', 'torchvision', 'timm'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_two_hundred_results_take_about_a_second(store_of: Fill, result: Make) -> None:
    tasks = [f"knn@imagenet1k?k={k}" for k in (1, 5, 10, 20, 50, 100, 200, 500)]
    store = store_of(
        *(
            result(f"m{i}", 0.3 + i / 100, spec=spec, fields={"k": spec}, method=f"m{i}")
            for i in range(25)
            for spec in tasks
        )
    )
    start = time.process_time()
    shown = board(store)
    text = render(shown)
    assert time.process_time() - start < 3  # a second, and room for a busy machine
    assert shown.cells == 200
    assert all(row.name in text for row in shown.rows)

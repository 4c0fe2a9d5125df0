"""How models are summed up: ranks and the ranges they may lie in, mean scores, seeds, costs."""

import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from bench import failures
from bench.errors import StoreError
from bench.records import Metric, Result
from bench.store import Store
from leaderboards.aggregation import aggregate
from leaderboards.board import Board, Row, board, render

Make = Callable[..., Result]
Fill = Callable[..., Store]
TASKS = ("knn@coco", "linear@coco", "depth@nyu", "davis@davis2017")


def row(shown: Board, name: str) -> Row:
    (found,) = (one for one in shown.rows if one.name == name)
    return found


def exact(value: float, half: float = 0.0) -> Metric:
    return Metric(value, value - half, value + half, 100, "bootstrap95")


@pytest.fixture
def scored(store_of: Fill, result: Make) -> Callable[..., Store]:
    """A store of models, each with a list of scores (None: not measured) on `TASKS`."""

    def make(models: dict[str, list[float | None]], half: float = 0.0, **pretrain: Any) -> Store:
        return store_of(
            *(
                result(
                    name,
                    spec=spec,
                    metric=exact(value, half),
                    headline="rmse" if spec.startswith("depth") else "top1",
                    pretrain=pretrain.get(name),
                )
                for name, values in models.items()
                for spec, value in zip(TASKS, values, strict=False)
                if value is not None
            )
        )

    return make


# Ranks


def test_the_range_of_a_rank_holds_the_places_that_the_intervals_allow(
    scored: Callable[..., Store],
) -> None:
    shown = board(scored({"a": [0.9], "b": [0.8], "c": [0.75], "d": [0.3]}, half=0.05))
    assert [(one.name, one.mean_rank, one.rank_range) for one in shown.rows] == [
        ("a", 1, (1, 2)),  # meets b
        ("b", 2, (1, 3)),  # meets both neighbours
        ("c", 3, (2, 3)),
        ("d", 4, (4, 4)),
    ]
    assert "2.0 [1.0, 3.0]" in render(shown)


@pytest.mark.parametrize("seed", range(20))
def test_ranks_are_means_over_all_columns_with_missing_cells_last(
    scored: Callable[..., Store], seed: int
) -> None:
    dice = random.Random(seed)
    models: dict[str, list[float | None]] = {
        f"m{i}": [dice.choice([None, *(k / 8 for k in range(1, 8))]) for _ in TASKS]
        for i in range(6)
    }
    models["m0"] = [0.5] * len(TASKS)
    models = {name: values for name, values in models.items() if set(values) != {None}}
    half = 0.1
    shown = board(scored(models, half))
    for name, values in models.items():
        ranks, firsts, lasts = [], [], []
        for j, own in enumerate(values):
            sign = -1 if TASKS[j].startswith("depth") else 1
            column = [sign * v for v in (other[j] for other in models.values()) if v is not None]
            if own is None:
                places = (len(models),) * 3
            else:
                ahead, equal = (
                    sum(v > sign * own for v in column),
                    sum(v == sign * own for v in column),
                )
                beyond = 2 * half + 1e-12
                places = (
                    ahead + (equal + 1) / 2,
                    1 + sum(v > sign * own + beyond for v in column),
                    len(column) - sum(v < sign * own - beyond for v in column),
                )
            for found, place in zip((ranks, firsts, lasts), places, strict=True):
                found.append(place)
        found_row = row(shown, name)
        mean = sum(ranks) / len(ranks)
        assert found_row.mean_rank == pytest.approx(mean)
        expected = (sum(firsts) / len(firsts), sum(lasts) / len(lasts))
        assert found_row.rank_range == pytest.approx(expected)


def test_the_first_rows_keep_the_ranks_that_they_have_among_all(
    scored: Callable[..., Store],
) -> None:
    store = scored({f"m{i}": [0.1 * i] for i in range(1, 8)})
    shown = board(store, top=2, sort="model")
    assert [(one.name, one.mean_rank) for one in shown.rows] == [("m1", 7), ("m2", 6)]
    assert "The first 2 of 7 models." in shown.notes("*")
    assert not any("The first" in note for note in board(store, top=7).notes("*"))


# Mean scores


def test_the_score_is_relative_to_the_best_of_each_column(scored: Callable[..., Store]) -> None:
    store = scored({"a": [0.8, 0.4, 0.2], "b": [0.4, 0.5, 0.1], "c": [0.2, None, None]})
    shown = board(store)
    assert row(shown, "a").score == pytest.approx((1 + 0.4 / 0.5 + 0.1 / 0.2) / 3)
    assert row(shown, "b").score == pytest.approx((0.4 / 0.8 + 1 + 1) / 3)
    assert row(shown, "c").score == pytest.approx(0.2 / 0.8)
    assert [row(shown, name).score_over for name in "abc"] == [3, 3, 1]
    assert [one.name for one in board(store, sort="score").rows] == ["b", "a", "c"]


def test_a_weak_model_changes_nobodys_score(scored: Callable[..., Store]) -> None:
    models = {"a": [0.8, 0.4, 0.2], "b": [0.4, 0.5, 0.1]}
    before = {one.name: one.score for one in board(scored(models)).rows}
    after = board(scored({"weak": [0.01, 0.01, 9.0]}))
    assert {name: row(after, name).score for name in models} == before


@pytest.mark.parametrize("values", [[-0.1, 0.4], [0.0, 0.0]])
def test_a_column_without_a_scale_is_left_out_of_the_score(
    scored: Callable[..., Store], values: list[float]
) -> None:
    shown = board(scored({"a": [values[0], 0.4], "b": [values[1], 0.5]}))
    assert row(shown, "a").score == pytest.approx(0.8)
    assert [row(shown, name).score_over for name in "ab"] == [1, 1]
    assert "80.0 (1)" in render(shown)
    alone = board(scored({}), tasks=["knn"])
    assert {(one.score, one.score_over) for one in alone.rows} == {(None, 0)}


def test_an_error_of_zero_leaves_no_scale(scored: Callable[..., Store]) -> None:
    shown = board(scored({"a": [0.5, 0.5, 0.0], "b": [0.5, 0.5, 0.3]}))
    assert [row(shown, name).score_over for name in "ab"] == [2, 2]
    assert all(math.isfinite(one.score or 0) for one in shown.rows)


# Seeds


def test_pretrainings_weigh_the_same_however_often_each_was_evaluated(result: Make) -> None:
    runs = [
        *(result("a-s0", 0.4 + 0.1 * seed, seed=seed, weights="a" * 64) for seed in range(3)),
        result("a-s1", 0.8, weights="b" * 64),
    ]
    cell = aggregate(runs)
    assert cell.value == pytest.approx((0.5 + 0.8) / 2)
    assert (cell.seeds, cell.trainings, cell.evaluations) == (4, 2, 3)
    assert (cell.seed_low, cell.seed_high) == pytest.approx((0.4, 0.8))
    assert (cell.training_low, cell.training_high) == pytest.approx((0.5, 0.8))
    lows = [run.metrics["top1"].low for run in runs]
    assert cell.low == pytest.approx((sum(lows[:3]) / 3 + lows[3]) / 2)


def test_seeds_of_pretraining_and_of_evaluation_are_told_apart(
    store_of: Fill, result: Make
) -> None:
    store = store_of(
        *(
            result(f"both-s{t}", 0.5 + 0.1 * t + 0.02 * s, seed=s, pretrain={"seed": t})
            for t in range(2)
            for s in range(2)
        ),
        *(result("seeds", 0.3 + 0.02 * s, seed=s) for s in range(3)),
        *(result(f"runs-s{t}", 0.2 + 0.02 * t, pretrain={"seed": t}) for t in range(2)),
    )
    shown = board(store)
    text = render(shown)
    assert "2 trainings 51.0–61.0, 4 results 50.0–62.0" in text
    assert "3 seeds 30.0–34.0" in text
    assert "2 trainings 20.0–22.0 " in text
    assert "pre-trained with several seeds" in text
    narrow = render(shown, width=100)
    assert "2t 51.0–61.0, 4r 50.0–62.0" in narrow
    assert "3s 30.0–34.0" in narrow


def test_a_cell_with_an_interval_missing_in_one_seed_has_none(result: Make) -> None:
    runs = [result("a", 0.5), result("a", 0.4, seed=1, metric=Metric(0.4))]
    cell = aggregate(runs)
    assert (cell.low, cell.high) == (None, None)
    assert cell.band == (0.4, 0.5)


# Costs


def test_costs_stand_beside_the_scores(scored: Callable[..., Store]) -> None:
    models = {"cheap": [0.5, 0.5], "dear": [0.6, 0.6], "worse": [0.4, 0.4], "unknown": [0.9, 0.9]}
    spent = {
        "cheap": {"flops": 1e17, "views_seen": 5_000},
        "dear": {"flops": 2e18, "views_seen": 7_000_000},
        "worse": {"flops": 3e18, "views_seen": 8_000_000_000},
        "unknown": {"flops": None, "views_seen": None},
    }
    store = scored(models, **spent)
    shown = board(store)
    assert {one.name for one in shown.rows if one.pareto} == {"cheap", "dear"}
    assert row(shown, "cheap").expense.seconds == 25  # two cells of 12.5 s
    text = render(shown)
    assert all(word in text for word in ("1.00e17 ◆", "2.00e18 ◆", "3.00e18", "7M", "8B", "25 s"))
    assert "3.00e18 ◆" not in text
    for sort in ("flops", "views"):
        names = [one.name for one in board(store, sort=sort).rows]
        assert names == ["cheap", "dear", "worse", "unknown"]


def test_one_model_with_a_cost_is_no_front(scored: Callable[..., Store]) -> None:
    spent = {"a": {"flops": 1e17}, "b": {"flops": None}}
    assert not any(one.pareto for one in board(scored({"a": [0.5], "b": [0.4]}, **spent)).rows)


def test_costs_that_nobody_records_have_no_column(scored: Callable[..., Store]) -> None:
    text = render(board(scored({"a": [0.5], "b": [0.4]})))
    assert "FLOPs" not in text
    assert "parameters" not in text
    assert "1M" in text  # of views


# What else is said


def test_cells_that_failed_are_named_where_they_belong(
    scored: Callable[..., Store], result: Make
) -> None:
    store = scored({"a": [0.5, 0.6], "b": [0.4, 0.1]})
    for i in range(5):
        failures.record(store.root, f"m{i}", f"runs/m{i}", "knn@coco", 0, f"no memory {i}\nat all")
    failures.record(store.root, "a", "runs/a", "linear@coco", 1, "")
    (note,) = (n for n in board(store).notes("*") if n.startswith("Failed"))
    assert note == (
        "Failed when tried last, 6 cells: a · linear@coco · seed 1 (no reason given); "
        "m0 · knn@coco · seed 0 (no memory 0); m1 · knn@coco · seed 0 (no memory 1); and 3 more."
    )
    assert len(board(store, models=["a"]).failures) == 1
    assert not board(store, models=["b"]).failures
    assert json.loads(render(board(store), "json"))["failures"][0]["model"] == "a"


def test_what_was_filtered_is_told(scored: Callable[..., Store]) -> None:
    store = scored({"a": [0.5, 0.6], "b": [0.4, 0.1]})
    shown = board(store, tasks=["knn", "lin*"], pretrained_on=["imagenet1k"], models=None)
    assert shown.notes("*")[0] == "Kept: tasks knn, lin*; pretrained on imagenet1k."
    assert not any(note.startswith("Kept") for note in board(store, models=None).notes("*"))


def test_tie_groups_are_numbered_in_every_format(scored: Callable[..., Store]) -> None:
    shown = board(scored({"a": [0.9], "b": [0.88], "c": [0.5], "d": [0.1]}, half=0.02))
    assert [cell.group for one in shown.rows if (cell := one.cells[0])] == [1, 1, 2, 3]
    assert all(part in render(shown) for part in ("90.0*", "88.0*", "50.0²", "10.0³"))
    assert "50.0<sup>2</sup>" in render(shown, "md")
    assert "50.0$^{2}$" in render(shown, "latex")
    models = json.loads(render(shown, "json"))["models"]
    assert [model["scores"][0]["group"] for model in models] == [1, 1, 2, 3]
    assert "raised number: tie group" in render(shown, "md")


def test_a_sort_that_names_nothing_is_answered(scored: Callable[..., Store]) -> None:
    with pytest.raises(StoreError, match="did you mean 'flops'"):
        board(scored({"a": [0.5]}), sort="flop")

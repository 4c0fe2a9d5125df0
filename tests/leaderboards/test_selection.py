"""What a board is asked for: filters, budgets, and results that claim one identity."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import SpecError, StoreError
from bench.records import Metric, Outcome, Result
from bench.store import Store
from bench.summary import Summary
from leaderboards.board import board, render
from leaderboards.budget import Limit, limits
from leaderboards.selection import keep, select

Make = Callable[..., Result]
Fill = Callable[..., Store]


SPECS = ("knn@coco", "linear@coco[n=10]?lr=1", "davis@davis2017", "segknn@voc2012+coco")


@pytest.fixture
def mixed(result: Make) -> list[Result]:
    """Models of two methods, trained on two data sets at two costs, on tasks of two families."""
    found = []
    for model, method, arch, data, flops in (
        ("mae-s0", "mae", "vit_small", "imagenet1k", 1e18),
        ("mae-s1", "mae", "vit_small", "imagenet1k", 1e18),
        ("dino", "dino", "vit_base", "coco+imagenet1k[n=100,seed=0]", 4e18),
        ("foreign", None, "vit_base", "pictures (ours)", None),
        ("random", None, "vit_small", None, None),
    ):
        pretrain = {"dataset": data, "flops": flops, "views_seen": None if flops is None else 1000}
        for spec in (
            "knn@coco",
            "linear@coco[n=10]?lr=1",
            "davis@davis2017",
            "segknn@voc2012+coco",
        ):
            made = {"method": method, "arch": arch, "pretrain": pretrain, "spec": spec}
            found.append(result(model, 0.5, **made))
    return found


FAMILY = {"knn": "image", "linear": "image", "davis": "dense", "segknn": "dense"}
DATA = {"knn": {"coco"}, "linear": {"coco"}, "davis": {"davis2017"}, "segknn": {"voc2012", "coco"}}


def passes(one: Result, name: str, wanted: str) -> bool:
    """Each filter in words of its own, good for the names of `CHOICES`."""
    model, task = one.model, one.identity.task
    match name:
        case "tasks":
            return wanted in (task, one.task_spec)
        case "family":
            return FAMILY[task] == wanted
        case "on":
            return wanted in DATA[task]
        case "models":
            return wanted in (model["name"], model["name"].partition("-s")[0])
        case "pretrained_on":
            return wanted in ((model["pretrain"] or {}).get("dataset") or "")
        case "budget":
            return model["method"] == "mae"
        case _:
            return model[name] == wanted


CHOICES = {
    "tasks": ["knn", "linear@coco[n=10]?lr=1", "davis"],
    "family": ["image", "dense"],
    "on": ["coco", "davis2017", "voc2012"],
    "models": ["mae", "mae-s1", "dino", "foreign"],
    "method": ["mae", "dino"],
    "arch": ["vit_small", "vit_base"],
    "pretrained_on": ["imagenet1k", "coco", "pictures (ours)"],
    "budget": ["flops<2e18"],
}


@pytest.mark.parametrize("seed", range(40))
def test_what_is_kept_passes_all_filters_and_nothing_else_does(
    mixed: list[Result], seed: int
) -> None:
    dice = random.Random(seed)
    given: dict[str, Any] = {
        name: dice.sample(choices, dice.randrange(1, len(choices) + 1))
        for name, choices in CHOICES.items()
        if dice.random() < 0.35
    }
    expected = [
        one
        for one in mixed
        if all(any(passes(one, name, w) for w in wanted) for name, wanted in given.items())
    ]
    for results in (mixed, [Summary.of(one) for one in mixed]):
        if not expected:
            with pytest.raises(StoreError, match=r"no result passes|none of these"):
                keep(results, **given)
            continue
        kept = keep(results, **given)
        assert [one.identity for one in kept] == [one.identity for one in expected]


def test_patterns_and_several_names_are_alternatives(mixed: list[Result]) -> None:
    assert len(keep(mixed, tasks=["*@*coco*"])) == 15
    assert len(keep(mixed, models=["m*", "random"])) == 12
    assert len(keep(mixed, pretrained_on=["coco*"])) == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tasks": ["kn"]}, "no task 'kn' in the store; did you mean 'knn'"),
        ({"family": ["images"]}, "no family of tasks 'images' in the store; did you mean 'image'"),
        ({"on": ["cocoo"]}, "no evaluation data 'cocoo' in the store; did you mean 'coco'"),
        ({"models": ["dine"]}, "no model 'dine' in the store; did you mean 'dino'"),
        ({"method": ["mea"]}, "no method 'mea' in the store; did you mean 'mae'"),
        ({"arch": ["vit_smal"]}, "no architecture 'vit_smal' in the store; did you mean"),
        ({"pretrained_on": ["imagenet"]}, "no pre-training data 'imagenet' in the store; did you"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    mixed: list[Result], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(StoreError) as caught:
        keep(mixed, **given)
    assert said in str(caught.value)


# Budgets


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("flops<1e18", [Limit("flops", "<", 1e18)]),
        (" views <= 1e6 ", [Limit("views_seen", "<=", 1e6)]),
        ("epochs>=100,images>1000", [Limit("epochs", ">=", 100), Limit("images", ">", 1000)]),
    ],
)
def test_a_budget_states_limits(text: str, limit: list[Limit]) -> None:
    assert limits([text]) == limit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flop<1e18", "no limit on 'flop'; did you mean 'flops'"),
        ("flops", "write QUANTITY<NUMBER, such as flops<1e18"),
        ("flops=1e18", "write QUANTITY<NUMBER"),
        ("flops<many", "'many' is no number"),
        ("flops<nan", "'nan' is no number"),
        ("flops<inf", "'inf' is no number"),
        ("flops<1e18,", "no limit ''"),
        ("", "no limit ''"),
    ],
)
def test_what_is_no_budget_is_answered_with_advice(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        limits([text])
    assert said in str(caught.value)


def test_limits_are_sharp_and_all_must_hold(mixed: list[Result]) -> None:
    def models(*budget: str) -> set[str]:
        return {one.model["name"] for one in keep(mixed, budget=budget)}

    assert models("flops<=1e18") == {"mae-s0", "mae-s1"}
    assert models("flops>1e18") == {"dino"}
    assert models("flops<1e19", "views<=1000") == {"mae-s0", "mae-s1", "dino"}
    with pytest.raises(StoreError, match="no result passes --budget"):
        models("flops<1e18")


def test_a_budget_on_what_nobody_records_says_so(mixed: list[Result]) -> None:
    foreign = [one for one in mixed if one.model["name"] == "foreign"]
    with pytest.raises(StoreError, match="none of these models records its flops"):
        keep(foreign, budget=["flops<1e18"])


@pytest.mark.parametrize("flops", ["1e18", True, [1], float("nan"), 10**400])
def test_a_strangers_cost_that_is_no_number_is_none(result: Make, flops: object) -> None:
    known = result("known", 0.5, pretrain={"flops": 1e17})
    odd = result("odd", 0.4, pretrain={"flops": flops})
    assert keep([known, odd], budget=["flops<1e18"]) == [known]


# One identity, several results


@pytest.fixture
def twice(store_of: Fill, result: Make) -> Callable[..., Store]:
    """A store in which the cell of "one" is claimed again, by `name` with another `score`."""

    def make(name: str, score: float) -> Store:
        weights = "f" * 64
        store = store_of(result("one", 0.5, weights=weights), result("else", 0.1))
        other = result(name, score, weights=weights)
        if name != "one":
            store.write(other, Outcome({"id": ["a"]}))
        else:  # as a folder copied by hand under another name
            (folder,) = store.root.glob("one/knn/*")
            copy = store.root / "zcopy" / "knn" / folder.name
            shutil.copytree(folder, copy)
            (copy / "result.json").write_text(other.to_json())
        return store

    return make


@pytest.mark.parametrize(("name", "folder"), [("two", "two"), ("one", "zcopy")])
def test_two_scores_for_one_identity_are_told_with_both_folders(
    twice: Callable[..., Store], name: str, folder: str
) -> None:
    store = twice(name, 0.6)
    shown = board(store)
    (problem,) = shown.problems
    digest = next(store.root.glob("one/knn/*")).name
    assert f"one/knn/{digest} and {folder}/knn/{digest}" in problem
    assert "claim one identity with different scores, top1 0.5 and 0.6" in problem
    assert "In the store, 1 problem: one/knn/" in render(shown)


def test_a_folder_copied_by_hand_counts_once(twice: Callable[..., Store]) -> None:
    store = twice("one", 0.5)
    shown = board(store)
    assert not shown.problems
    (row,) = (row for row in shown.rows if row.name == "one")
    assert row.cells[0].seeds == 1
    assert Path(row.cells[0].results[0].folder).parts[-3] == "one"


def test_one_model_under_two_names_with_one_score_is_two_rows(
    twice: Callable[..., Store],
) -> None:
    shown = board(twice("two", 0.5))
    assert not shown.problems
    assert {row.name for row in shown.rows} == {"one", "two", "else"}


def test_a_metric_beside_the_headline_that_differs_is_told(store_of: Fill, result: Make) -> None:
    made = {"weights": "f" * 64}
    one, two = result("one", 0.5, **made), result("two", 0.5, **made)
    two.metrics["top5"] = Metric(0.8)
    two.metrics["further"] = Metric(0.1)  # a newer version reports more
    assert "top5 0.9 and 0.8" in board(store_of(one, two)).problems[0]


def test_results_of_a_newer_version_are_named_and_the_rest_is_shown(
    store_of: Fill, result: Make
) -> None:
    store = store_of(result("old", 0.5), result("new", 0.6))
    (file,) = store.root.glob("new/*/*/result.json")
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 2'))
    shown = board(store)
    assert [row.name for row in shown.rows] == ["old"]
    assert "pip install --upgrade sslbench" in shown.problems[0]
    assert shown.problems[0].startswith("new/knn/")


def test_a_store_of_damaged_results_alone_says_what_is_wrong(store_of: Fill, result: Make) -> None:
    store = store_of(result("a", 0.5))
    (file,) = store.root.glob("*/*/*/result.json")
    file.write_text("{")
    with pytest.raises(StoreError, match=r"no usable results in .*: a/knn/"):
        select(store)

"""Retrieval: the revisited protocol's metric, and the task around it."""

import dataclasses
import math
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.engine import Settings, evaluate
from bench.errors import DataError, SpecError
from bench.records import Outcome
from bench.revisited import ground_truth
from bench.spec import bind, parse, parse_dataset
from bench.store import Store
from bench.task import warnings_of
from bench.values import non_default
from tasks.image.retrieval import Retrieval
from tasks.retrieval_metric import (
    LEVELS,
    average_precision,
    judge,
    positive_ranks,
    precision_at,
    rank,
    unit,
)
from tasks.whitening import Whitening
from tests.tasks.fakes import FakeSplit, FakeTable, fake_model

REAL = Path(
    os.environ.get("SSLBENCH_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/data")
)
LEVEL_NAMES = tuple(LEVELS)

#: Ground truth of the golden: database of 20, 3 queries.
TRUTH: list[dict[str, list[int]]] = [
    {"easy": [0, 1], "hard": [2, 5], "junk": [3]},
    {"easy": [], "hard": [7, 8], "junk": [9, 0]},
    {"easy": [4], "hard": [], "junk": [6]},
]


# ---------------------------------------------------------------------- the metric


def test_golden_of_the_official_code() -> None:
    """Made with revisitop's evaluate.py (protocols.md T18): query q ranks (7i + 3q) % 20 i-th."""
    rankings = np.stack([(7 * np.arange(20) + 3 * q) % 20 for q in range(3)])
    found = judge(rankings, TRUTH)
    expected = {
        "easy": (0.372024, [0.708333, np.nan, 0.035714], (0.5, 0.25, 0.25)),
        "medium": (0.205754, [0.509524, 0.072024, 0.035714], (1 / 3, 0.4 / 3, 0.1)),
        "hard": (0.090659, [0.109295, 0.072024, np.nan], (0.0, 0.1, 0.05)),
    }
    for level, (mean, each, precision) in expected.items():
        np.testing.assert_allclose(found[f"ap_{level}"], each, atol=1e-6)
        assert np.nanmean(found[f"ap_{level}"]) == pytest.approx(mean, abs=1e-6)
        for kappa, value in zip((1, 5, 10), precision, strict=True):
            assert np.nanmean(found[f"mp{kappa}_{level}"]) == pytest.approx(value, abs=1e-6)


def by_the_book(ranking: list[int], positives: set[int], junk: set[int]) -> float:
    """The area under precision-recall, walked image by image as in the Oxford paper's code."""
    seen = hits = 0
    area = 0.0
    recall, precision = 0.0, 1.0
    for image in ranking:
        if image in junk:
            continue
        seen += 1
        hits += image in positives
        now = hits / seen
        area += (hits / len(positives) - recall) * (precision + now) / 2
        recall, precision = hits / len(positives), now
    return area


def random_truth(rng: np.random.Generator, database: int, queries: int) -> list[dict[str, Any]]:
    truth = []
    for _ in range(queries):
        picked = rng.permutation(database)[: rng.integers(1, database)]
        parts = np.split(picked, np.sort(rng.integers(0, len(picked) + 1, 2)))
        truth.append(dict(zip(("easy", "hard", "junk"), parts, strict=True)))
    return truth


def test_average_precision_equals_a_walk_along_the_ranking() -> None:
    rng = np.random.default_rng(0)
    truth = random_truth(rng, 30, 80)
    rankings = np.stack([rng.permutation(30) for _ in truth])
    found = judge(rankings, truth)
    judged = 0
    for level, (wanted, left_out) in LEVELS.items():
        for q, entry in enumerate(truth):
            positives = {int(i) for name in wanted for i in entry[name]}
            junk = {int(i) for name in left_out for i in entry[name]}
            value = found[f"ap_{level}"][q]
            if not positives:
                assert math.isnan(value)
                assert math.isnan(found[f"mp5_{level}"][q])
                continue
            judged += 1
            assert value == pytest.approx(by_the_book(rankings[q].tolist(), positives, junk))
            kept = [i for i in rankings[q].tolist() if i not in junk]
            last = max(kept.index(i) for i in positives) + 1
            for kappa in (1, 5, 10):
                top = kept[: min(kappa, last)]
                share = sum(i in positives for i in top) / len(top)
                assert found[f"mp{kappa}_{level}"][q] == pytest.approx(share)
    assert judged > 150


def test_junk_leaves_the_ranking() -> None:
    ranking = np.array([3, 9, 0, 5, 1])
    assert positive_ranks(ranking, [0, 1], [3, 9]).tolist() == [0, 2]
    assert positive_ranks(ranking, [0, 1], []).tolist() == [2, 4]
    assert average_precision(np.array([0, 1, 2])) == 1.0
    assert precision_at(np.array([0]), 10) == 1.0  # the list ends with the last match


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
def test_the_real_ground_truth_gives_100_to_perfect_and_little_to_reversed_descriptors(
    name: str,
) -> None:
    folder = REAL / "revisitop" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set SSLBENCH_REAL_DATA")
    truth = ground_truth(folder, name)
    entries = [vars(query) for query in truth.queries]
    relevance = np.zeros((len(entries), len(truth.imlist)))
    for row, entry in zip(relevance, entries, strict=True):
        row[entry["hard"]], row[entry["easy"]], row[entry["junk"]] = 2.0, 3.0, 1.0
    perfect = judge(np.argsort(-relevance, axis=1, kind="stable"), entries)
    reversed_ = judge(np.argsort(relevance, axis=1, kind="stable"), entries)
    for level, (wanted, left_out) in LEVELS.items():
        assert np.nanmean(perfect[f"ap_{level}"]) == pytest.approx(1.0)
        assert np.nanmean(perfect[f"mp10_{level}"]) == pytest.approx(1.0)
        assert np.nanmean(reversed_[f"mp10_{level}"]) < 0.01
        worst = []
        for entry in entries:
            count = sum(len(entry[part]) for part in wanted)
            kept = len(truth.imlist) - sum(len(entry[part]) for part in left_out)
            if count:  # the last `count` places
                ranks = range(kept - count, kept)
                terms = [(j / r + (j + 1) / (r + 1)) / 2 for j, r in enumerate(ranks)]
                worst.append(sum(terms) / count)
        assert np.nanmean(reversed_[f"ap_{level}"]) == pytest.approx(np.mean(worst))


def test_equal_scores_are_ordered_by_the_lower_index() -> None:
    rng = np.random.default_rng(1)
    database, queries = rng.normal(size=(1003, 384)), rng.normal(size=(40, 384))
    same = (17, 200, 633, 1002)  # a blocked matrix product rounds the last columns differently
    database[list(same)] = database[17]
    queries[0] = database[17]
    for order in rank(queries, database).tolist():
        places = [order.index(row) for row in same]
        assert places == list(range(places[0], places[0] + 4))


def test_ranking_is_by_cosine_and_rows_of_zeros_have_none() -> None:
    database = np.array([[0.0, 0.0], [3.0, 3.0], [0.1, 0.0], [-1.0, 0.0]])
    assert rank(np.array([[5.0, 0.0]]), database).tolist() == [[2, 1, 0, 3]]
    np.testing.assert_array_equal(unit(np.zeros((1, 2))), [[0.0, 0.0]])


# ---------------------------------------------------------------------- the task


@dataclass
class FakeRetrieval:
    """What the task asks of TaskData: features are given."""

    root: Path
    splits: dict[str, FakeSplit]
    name: str = "roxford5k"
    seen: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def parts(self) -> tuple[Any, ...]:
        return parse_dataset(self.name)

    def open(self, name: str) -> Any:
        split = self.splits[name]
        split.source = lambda _: (SimpleNamespace(root=self.root), name, "")
        return split

    def beside(self, parts: tuple[Any, ...]) -> "FakeRetrieval":
        assert str(parts[0]) == "folder[path=others]"
        return self

    def features(self, model: Any, split: Any, transform: Any) -> FakeTable:
        self.seen.append((split.name, transform))
        return FakeTable(split)


def labels(values: np.ndarray, name: str, ids: tuple[str, ...]) -> FakeSplit:
    return FakeSplit(name, values, np.full(len(ids), -1), (), ids)


def world(
    root: Path, truth: list[dict[str, Any]], database: np.ndarray, queries: np.ndarray
) -> FakeRetrieval:
    """A database and queries under the ground truth; cropped queries are the whole ones."""
    names = [f"image{i}" for i in range(len(database))]
    asked = tuple(f"query{i}" for i in range(len(queries)))
    gnd = [{"bbx": [1.0, 2.0, 30.0, 40.0], **dict(entry)} for entry in truth]
    gnd = [{key: np.asarray(value) for key, value in entry.items()} for entry in gnd]
    content = {"imlist": names, "qimlist": list(asked), "gnd": gnd}
    (root / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content, protocol=2))
    cropped = tuple(f"{name}#1,2,30,40" for name in asked)
    splits = {
        "database": labels(database, "database", tuple(names)),
        "query": labels(queries, "query", asked),
        "query_crop": labels(queries, "query_crop", cropped),
    }
    return FakeRetrieval(root, splits)


def scenes(root: Path, seed: int = 0, noise: float = 1.0) -> FakeRetrieval:
    """60 photographs of 6 buildings and 12 queries; some matches are hard, some junk."""
    rng = np.random.default_rng(seed)
    shown = np.arange(60) % 7  # 6 shows none of them
    centres = rng.normal(size=(7, 16))
    database = centres[shown] + noise * rng.normal(size=(60, 16))
    queries = centres[np.arange(12) % 6] + noise * rng.normal(size=(12, 16))
    truth = []
    for q in range(12):
        mine = np.flatnonzero(shown == q % 6)
        truth.append({"easy": mine[:4], "hard": mine[4:7], "junk": mine[7:]})
    return world(root, truth, database, queries)


def run(data: FakeRetrieval, **fields: Any) -> Outcome:
    return Retrieval(**fields).run(fake_model(), data)


def test_descriptors_that_show_the_building_score_one(tmp_path: Path) -> None:
    metrics = Retrieval().score(run(scenes(tmp_path, noise=0.0)))
    assert len(metrics) == 12
    for level in LEVEL_NAMES:
        assert metrics[f"map_{level}"].value == 1.0
        assert metrics[f"mp10_{level}"].value == 1.0
    assert metrics["map_medium"].n == 12


def test_a_shuffled_database_scores_chance_within_the_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    truth = [{"easy": [], "hard": rng.permutation(200)[:20], "junk": []} for _ in range(70)]
    database, queries = rng.normal(size=(200, 24)), rng.normal(size=(70, 24))
    metric = Retrieval().score(run(world(tmp_path, truth, database, queries)))["map_medium"]
    drawn = [by_the_book(rng.permutation(200).tolist(), set(range(20)), set()) for _ in range(2000)]
    assert metric.low < np.mean(drawn) < metric.high
    assert metric.interval == "bootstrap95"


def test_the_task_equals_the_metric_on_a_float64_ranking(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    outcome = run(data)
    truth = ground_truth(tmp_path, "roxford5k")
    x, q = (data.splits[name].values.astype(np.float16) for name in ("database", "query"))
    x, q = (rows.astype(np.float64) for rows in (x, q))
    cosine = (q @ x.T) / np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(x, axis=1))
    found = judge(np.argsort(-cosine, axis=1), [vars(query) for query in truth.queries])
    for name, column in found.items():
        np.testing.assert_array_equal(outcome.columns[name], column)
    np.testing.assert_array_equal(outcome.columns["value"], found["ap_medium"])
    np.testing.assert_array_equal(outcome.columns["nearest"], np.argsort(-cosine)[:, :10])
    assert outcome.columns["id"].tolist() == [f"query{i}" for i in range(12)]
    assert 0.2 < np.mean(found["ap_medium"]) < 0.99


def test_the_order_of_queries_does_not_matter(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    forward = run(data)
    data.splits["query_crop"] = data.splits["query_crop"].take(np.arange(12)[::-1], "query_crop")
    backward = run(data)
    for name, column in forward.columns.items():
        np.testing.assert_array_equal(column, backward.columns[name][::-1])


def test_images_that_were_skipped_leave_the_ground_truth_too(tmp_path: Path) -> None:
    data = scenes(tmp_path, noise=0.0)
    lost = [0, 1, 13]
    kept = np.setdiff1d(np.arange(60), lost)
    data.splits["database"] = data.splits["database"].take(kept, "database")
    data.splits["query_crop"] = data.splits["query_crop"].take(np.arange(1, 12), "query_crop")
    outcome = run(data)
    assert outcome.columns["id"].tolist() == [f"query{i}" for i in range(1, 12)]
    np.testing.assert_allclose(outcome.columns["ap_medium"], 1.0)
    assert outcome.extras["database"][outcome.columns["nearest"][0, 0]] == "image8"


def test_queries_without_matches_are_left_out_and_not_counted(tmp_path: Path) -> None:
    truth = [
        {"easy": [0], "hard": [], "junk": []},
        {"easy": [], "hard": [], "junk": [1]},
        {"easy": [2], "hard": [], "junk": []},
    ]
    outcome = run(world(tmp_path, truth, np.eye(5), np.eye(5)[:3]))
    metrics = Retrieval().score(outcome)
    assert np.isnan(outcome.columns["value"]).tolist() == [False, True, False]
    assert (metrics["map_medium"].value, metrics["map_medium"].n) == (1.0, 2)
    assert "map_hard" not in metrics
    outcome.save(tmp_path / "outcome.npz")
    assert Retrieval().score(Outcome.load(tmp_path / "outcome.npz")) == metrics


def test_a_set_without_any_match_is_refused(tmp_path: Path) -> None:
    truth = [{"easy": [], "hard": [], "junk": [1]}]
    with pytest.raises(DataError, match="none of the 1 queries has a match among the 5"):
        run(world(tmp_path, truth, np.eye(5), np.eye(5)[:1]))


def test_one_query_has_no_interval(tmp_path: Path) -> None:
    truth = [{"easy": [0], "hard": [1], "junk": []}]
    metric = Retrieval().score(run(world(tmp_path, truth, np.eye(5), np.eye(5)[:1])))["map_easy"]
    assert (metric.value, metric.low, metric.n) == (1.0, None, 1)


@pytest.mark.parametrize(
    ("protocol", "name", "longest", "scales"),
    [
        ("ret_dino", "roxford5k", 224, 1),
        ("ret_dino", "rparis6k", 512, 3),
        ("ret_dino", "mini_oxford", 224, 1),
        ("ret_ibot", "roxford5k", 512, 3),
        ("ret_ibot", "rparis6k", 512, 3),
    ],
)
def test_each_protocol_sees_its_own_sizes(
    protocol: Any, name: str, longest: int, scales: int, tmp_path: Path
) -> None:
    data = scenes(tmp_path)
    data.name = name
    run(data, protocol=protocol)
    for _, transform in data.seen:
        assert transform.longest_px == longest
        assert transform.scales == pytest.approx([1, 2**-0.5, 0.5][:scales])
    assert {split for split, _ in data.seen} == {"database", "query_crop"}


def test_overrides_replace_the_sizes_of_the_protocol(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    run(data, longest_px=384, scales=(1.0, 0.25))
    (transform,) = {transform for _, transform in data.seen}
    assert (transform.longest_px, transform.scales) == (384, (1.0, 0.25))


def test_whole_queries_are_the_papers_mode_and_marked(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    assert warnings_of(run(data)) == []
    data.seen.clear()
    outcome = run(data, query_crop=False)
    assert {split for split, _ in data.seen} == {"database", "query"}
    (text,) = warnings_of(outcome)
    assert "query_crop=false" in text


def test_announced_passes_are_those_that_run_reads(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    data.splits["train"] = dataclasses.replace(data.splits["database"], name="others")
    for fields in ({}, {"query_crop": False}, {"whiten": "folder[path=others]"}):
        data.seen.clear()
        task = Retrieval(**fields)
        announced = [(p.split.name, p.transform) for p in task.passes(fake_model(), data)]
        task.run(fake_model(), data)
        assert announced == data.seen


def test_without_a_cls_token_patches_are_averaged(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    assert run(data).extras["token"] == "cls"
    assert Retrieval().run(fake_model(has_cls=False), data).extras["token"] == "avg"


# ---------------------------------------------------------------------- whitening


def test_whitened_columns_are_uncorrelated_with_variance_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) + 5
    white = Whitening.learn(x)(x)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(white.T), np.eye(12), atol=1e-9)


def test_directions_without_variance_are_dropped() -> None:
    x = np.random.default_rng(0).normal(size=(6, 12))
    assert Whitening.learn(x)(x).shape == (6, 5)


def test_whitening_removes_a_direction_that_all_images_share(tmp_path: Path) -> None:
    data = scenes(tmp_path, noise=0.1)
    rng = np.random.default_rng(1)
    for split in data.splits.values():  # brightness, say: shared by all, and large
        split.values[:, 0] = 200 * rng.normal(size=len(split.values))
    others = rng.normal(size=(500, 16))
    others[:, 0] *= 200
    data.splits["train"] = labels(others, "others", tuple(map(str, range(500))))
    plain = Retrieval().score(run(data))["map_medium"].value
    white = Retrieval().score(run(data, whiten="folder[path=others]"))["map_medium"].value
    assert white > plain + 0.2


@pytest.mark.parametrize("x", [np.ones((1, 4)), np.ones((9, 4))])
def test_a_whitening_set_that_says_nothing_is_refused(x: np.ndarray) -> None:
    with pytest.raises(DataError, match="whitening"):
        Whitening.learn(x)


# ---------------------------------------------------------------------- real photographs


def test_frames_of_real_videos_are_found_better_than_by_chance(tmp_path: Path) -> None:
    frames = REAL / "derived/rdavis"
    if not frames.is_dir():
        pytest.skip(f"no {frames}: set SSLBENCH_REAL_DATA")
    folder = tmp_path / "roxford5k"
    folder.mkdir()
    (folder / "jpg").symlink_to((frames / "jpg").resolve())
    (folder / "gnd_roxford5k.pkl").write_bytes((frames / "gnd_rdavis.pkl").read_bytes())
    store = Store(tmp_path / "results")
    settings = Settings(data=tmp_path, cache=tmp_path / "cache", workers=0, device="cpu")
    spec = "retrieval@roxford5k?longest_px=128&scales=1&token=avg"
    report = evaluate(["random:vit_mini_patch16_64"], [spec], store, settings)
    assert report.failed == {}
    (result,) = report.ran
    truth = ground_truth(folder, "roxford5k")
    share = np.mean([len(q.easy) + len(q.hard) for q in truth.queries]) / len(truth.imlist)
    metric = result.metrics["map_medium"]
    assert (metric.n, metric.interval) == (40, "bootstrap95")
    assert metric.low > 2 * share  # frames of one video look alike, even to random weights
    assert result.metrics["map_hard"].n == 37


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "fields",
    [
        {"longest_px": 0},
        {"scales": ()},
        {"scales": (1.0, 0.0)},
        {"scales": (1.5,)},
        {"whiten": "folder[path"},
    ],
)
def test_wrong_fields_are_refused_when_the_task_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        Retrieval(**fields)


def test_two_databases_at_once_are_refused(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    data.name = "roxford5k+rparis6k"
    with pytest.raises(SpecError, match="one database"):
        run(data)


def test_a_missing_or_ambiguous_ground_truth_is_named(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    data.name = "mini_oxford"
    assert len(run(data)) == 12  # the only one there is
    (tmp_path / "gnd_other.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"gnd_other\.pkl, gnd_roxford5k\.pkl"):
        run(data)
    for path in tmp_path.glob("gnd_*.pkl"):
        path.unlink()
    with pytest.raises(DataError, match="found none"):
        run(data)


def test_fields_bind_from_a_spec_and_identity_holds_what_differs() -> None:
    spec = parse(
        "retrieval@x?protocol=ret_dino&query_crop=false&scales=1:0.5&whiten=folder[path=a]"
    )
    assert non_default(bind(Retrieval, dict(spec.options))) == {
        "protocol": "ret_dino",
        "query_crop": False,
        "scales": [1.0, 0.5],
        "whiten": "folder[path=a]",
    }
    assert non_default(Retrieval()) == {}

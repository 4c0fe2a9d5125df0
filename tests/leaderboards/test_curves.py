"""Scaling curves: which results make a point, the law through the points, and the files."""

import csv
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import SSLBenchError, StoreError
from bench.records import Metric, Result
from bench.store import Store
from leaderboards.curves import curve, points_of
from leaderboards.plot import quantity
from leaderboards.power_law import fit_power_law

Make = Callable[..., Result]
Fill = Callable[..., Store]
SIZES = (500, 1000, 2000, 4000)


@pytest.fixture
def run(result: Make) -> Make:
    """One pre-training run on a subset of n images, evaluated; the error is 1.4 n^-0.1."""

    def make(method: str, n: int, *, seed: int = 0, error: float = 0.0, **others: object) -> Result:
        pretrain = {"dataset": f"imagenet1k[n={n},seed=0]", "images": n, "seed": seed}
        pretrain |= others.pop("pretrain", {})
        return result(
            f"{method}-n{n}-s{seed}",
            1 - (error or 1.4 * n**-0.1),
            method=method,
            pretrain=pretrain,
            **others,
        )

    return make


# The law


def test_law_recovers_an_exact_power() -> None:
    sizes = np.array([1e3, 3e3, 1e4])
    law = fit_power_law(sizes, 1.7 * sizes**-0.23)
    assert law.a == pytest.approx(0.23)
    assert law.b == pytest.approx(1.7)
    assert law.c == 0
    np.testing.assert_allclose(law.error(sizes), 1.7 * sizes**-0.23)


def test_weighted_law_equals_the_normal_equations() -> None:
    n, e = np.array([1e3, 2e3, 4e3]), np.array([0.60, 0.57, 0.50])
    half = np.array([0.01, 0.03, 0.02])
    law = fit_power_law(n, e, e - half, e + half)
    # Minimum of sum_i ((log e_i - log b + a log n_i) / s_i)^2 with s_i = sd(e_i) / e_i.
    w = (e / (half / 1.959964)) ** 2
    x, y = -np.log(n), np.log(e)
    mean_x, mean_y = (w * x).sum() / w.sum(), (w * y).sum() / w.sum()
    spread = (w * (x - mean_x) ** 2).sum()
    a = (w * (x - mean_x) * (y - mean_y)).sum() / spread
    assert law.a == pytest.approx(a)
    assert law.b == pytest.approx(math.exp(mean_y - a * mean_x))
    chi2 = (w * (y - mean_y - a * (x - mean_x)) ** 2).sum()
    assert law.a_stderr == pytest.approx(math.sqrt(max(1, chi2) / spread))


def test_law_recovers_a_floor() -> None:
    sizes = np.geomspace(1e2, 1e6, 9)
    errors = 0.2 + 3 * sizes**-0.4
    law = fit_power_law(sizes, errors, errors - 0.002, errors + 0.002)
    assert law.c == pytest.approx(0.2, abs=1e-4)
    assert law.a == pytest.approx(0.4, abs=1e-3)
    assert law.b == pytest.approx(3, rel=1e-2)
    assert law.c_stderr is not None


@pytest.mark.parametrize("count", [2, 3])
def test_three_sizes_or_fewer_have_no_floor(count: int) -> None:
    sizes = np.geomspace(1e2, 1e4, count)
    errors = 0.2 + 3 * sizes**-0.4
    law = fit_power_law(sizes, errors, errors - 0.002, errors + 0.002)
    assert law.c == 0
    assert law.c_stderr is None


def test_a_floor_that_the_noise_explains_is_not_kept() -> None:
    sizes = np.geomspace(500, 8000, 5)
    errors = 1.7 * sizes**-0.12
    law = fit_power_law(sizes, errors, errors - 0.02, errors + 0.02)
    assert (law.c, law.c_stderr) == (0.0, None)
    assert law.a == pytest.approx(0.12)


def test_standard_errors_are_those_of_repeated_measurements() -> None:
    rng = np.random.default_rng(0)
    sizes, sigma = np.geomspace(500, 4000, 3), 0.01
    truth = 2 * sizes**-0.15
    laws = []
    for _ in range(300):
        errors = truth + rng.normal(0, sigma, 3)
        laws.append(fit_power_law(sizes, errors, errors - 1.96 * sigma, errors + 1.96 * sigma))
    spread = np.std([law.a for law in laws])
    assert np.median([law.a_stderr for law in laws]) == pytest.approx(spread, rel=0.2)
    covered = np.mean([abs(law.a - 0.15) < 1.96 * law.a_stderr for law in laws])
    assert covered > 0.92


@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_uncertainty_of_the_law_covers_what_was_planted(floor: float) -> None:
    rng = np.random.default_rng(1)
    sizes, sigma, planted = np.geomspace(1e4, 4e6, 8), 0.002, np.array([0.3, 6.0, floor])
    read = np.array([1e4, 2e5, 4e6, 7.9e6])  # the last one beyond the data
    truth, there = (floor + 6.0 * n**-0.3 for n in (sizes, read))
    within, covered = [], []
    for _ in range(200):
        errors = truth + rng.normal(0, sigma, len(sizes))
        law = fit_power_law(sizes, errors, errors - 1.96 * sigma, errors + 1.96 * sigma)
        if (law.c > 0) == (floor > 0):
            spread = np.array([law.a_stderr, law.b_stderr, law.c_stderr or 1.0])
            within.append(np.abs([law.a, law.b, law.c] - planted) <= 1.96 * spread)
        low, high = law.band(read)
        covered.append((low <= there) & (there <= high))
    assert len(within) > 180  # a floor that is not there is seldom found
    # Of 200, 95 % are 190 +- 3. Chance scatter only widens the errors, so it may be a few more.
    for rates in (np.mean(within, axis=0)[: 2 + (floor > 0)], np.mean(covered, axis=0)):
        assert (rates > 0.91).all(), rates
        assert (rates < 0.995).all(), rates


def test_band_equals_that_of_a_straight_line() -> None:
    n, e, half = np.array([1e3, 2e3, 4e3]), np.array([0.60, 0.57, 0.50]), 0.01
    law = fit_power_law(n, e, e - half, e + half)
    x, w = np.stack([np.ones(3), -np.log(n)], 1), (e / (half / 1.959964)) ** 2
    beta = np.array([math.log(law.b), law.a])
    scatter = float((w * (np.log(e) - x @ beta) ** 2).sum())  # one degree of freedom
    cov = np.linalg.inv(x.T @ (w[:, None] * x)) * max(scatter, 1.0)
    at = np.array([1.0, -math.log(3e3)])
    expected = law.error(3e3) * 1.959964 * math.sqrt(at @ cov @ at)
    low, high = law.band(3e3)
    assert (float(high) - float(low)) / 2 == pytest.approx(expected, rel=1e-6)
    assert fit_power_law([100, 200], [0.5, 0.4]).band([150]) is None


def test_two_points_without_intervals_have_no_standard_error() -> None:
    law = fit_power_law([100, 200], [0.5, 0.4])
    assert law.a_stderr is None
    assert str(law) == "a = 0.322, b = 2.2"


def test_law_is_not_read_more_than_twice_beyond_its_data() -> None:
    law = fit_power_law([100, 200], [0.5, 0.4])
    law.error([50, 400])
    for size in (401, 49):
        with pytest.raises(SSLBenchError, match="not read more than 2x beyond"):
            law.error(size)


@pytest.mark.parametrize(
    ("sizes", "errors"), [([100], [0.5]), ([100, 100], [0.5, 0.4]), ([100, 200], [0.5, 0.0])]
)
def test_a_law_through_too_little_is_refused(sizes: list[float], errors: list[float]) -> None:
    with pytest.raises(SSLBenchError):
        fit_power_law(sizes, errors)


# The points


def test_subsets_of_one_dataset_are_one_series(store_of: Fill, run: Make) -> None:
    data = points_of(store_of(*(run("mae", n) for n in SIZES)), task="knn")
    (series,) = data.series
    assert series.label == "mae"
    assert [x for x, _ in series.points] == list(SIZES)
    assert series.law.a == pytest.approx(0.1, abs=1e-6)
    assert data.baseline is None


def test_seeds_are_one_point(store_of: Fill, run: Make) -> None:
    runs = [run("mae", n, seed=s, error=0.5 + 0.01 * s) for n in (500, 1000) for s in range(3)]
    (series,) = points_of(store_of(*runs), task="knn").series
    (_, first), _ = series.points
    assert first.seeds == 3
    assert first.value == pytest.approx(0.49)


def test_what_tells_series_apart_names_them(store_of: Fill, run: Make) -> None:
    runs = [run(method, n) for method in ("mae", "dino") for n in (500, 1000)]
    runs += [run("mae", n, arch="vit_small", weights=f"{n:064}") for n in (500, 1000)]
    labels = [series.label for series in points_of(store_of(*runs), task="knn").series]
    assert labels == ["dino, vit_mini_patch4_32", "mae, vit_mini_patch4_32", "mae, vit_small"]


def test_other_numbers_of_epochs_are_other_series(store_of: Fill, run: Make) -> None:
    runs = [run("mae", n, pretrain={"epochs": 100.0}) for n in (500, 1000)]
    runs += [
        run("mae", n, pretrain={"epochs": 800.0}, weights=f"{n:064}", error=0.3)
        for n in (500, 1000)
    ]
    labels = [series.label for series in points_of(store_of(*runs), task="knn").series]
    assert labels == ["mae, 100 epochs", "mae, 800 epochs"]


def test_epochs_that_follow_the_size_stay_one_series(store_of: Fill, run: Make) -> None:
    runs = [run("mae", n, pretrain={"epochs": 1e5 / n}) for n in SIZES]
    assert len(points_of(store_of(*runs), task="knn").series) == 1


def test_training_progress_can_be_the_axis(store_of: Fill, run: Make) -> None:
    runs = [
        run("mae", 500, pretrain={"views_seen": views}, weights=f"{views:064}", error=views**-0.05)
        for views in (1000, 10_000)
    ]
    data = points_of(store_of(*runs), task="knn", x="views_seen")
    assert [x for x, _ in data.series[0].points] == [1000, 10_000]


def test_random_weights_are_the_baseline(store_of: Fill, run: Make, result: Make) -> None:
    random = [
        result(
            f"random-{arch}-seed{s}",
            0.1,
            family="random",
            method=None,
            arch=arch,
            pretrain={"dataset": None},
        )
        for arch in ("vit_mini_patch4_32", "vit_other")
        for s in range(2)
    ]
    data = points_of(store_of(*(run("mae", n) for n in SIZES), *random), task="knn")
    assert [series.label for series in data.series] == ["mae"]
    assert data.baseline.seeds == 2  # of the architecture that was trained
    assert data.baseline.value == pytest.approx(0.1)


def test_two_checkpoints_at_one_point_are_refused(store_of: Fill, run: Make) -> None:
    store = store_of(run("mae", 500), run("mae", 500, weights="f" * 64), run("mae", 1000))
    with pytest.raises(StoreError, match="two checkpoints claim the point images = 500 of mae"):
        points_of(store, task="knn")


def test_for_an_error_metric_the_law_is_of_the_metric(store_of: Fill, run: Make) -> None:
    runs = [
        run("mae", n, spec="depth@nyu", headline="rmse", metric=Metric(9 * n**-0.3)) for n in SIZES
    ]
    (series,) = points_of(store_of(*runs), task="depth").series
    assert series.law.b == pytest.approx(9)


def test_scores_that_are_no_rate_get_no_law(store_of: Fill, run: Make) -> None:
    runs = [run("mae", n, headline="reward", metric=Metric(float(n))) for n in SIZES]
    (series,) = points_of(store_of(*runs), task="knn").series
    assert series.law is None


def test_wrong_requests_are_answered_with_what_there_is(store_of: Fill, run: Make) -> None:
    store = store_of(
        run("mae", 500),
        run("mae", 1000),
        run("mae", 500, spec="knn@imagenet1k?k=5", fields={"k": 5}),
    )
    ask = {"task": "knn@imagenet1k?k=20"}
    with pytest.raises(StoreError, match="did you mean 'knn'"):
        points_of(store, task="knnn")
    with pytest.raises(StoreError, match=r"several ways; name one of 'knn@imagenet1k\?k=20'"):
        points_of(store, task="knn")
    with pytest.raises(StoreError, match="did you mean 'epochs'"):
        points_of(store, x="epoch", **ask)
    with pytest.raises(StoreError, match="did you mean 'mae'"):
        points_of(store, methods=["maee"], **ask)
    with pytest.raises(StoreError, match=r"nothing to plot .*mae at 1"):
        points_of(store, task="knn@imagenet1k?k=5")
    with pytest.raises(StoreError, match="sslbench eval"):
        points_of(Store(store.root / "empty"), **ask)


# The files


def test_files_hold_the_data_and_the_law(store_of: Fill, run: Make, tmp_path: Path) -> None:
    store = store_of(*(run("mae", n) for n in SIZES))
    png, svg, table = curve(store, task="knn", out_stem=tmp_path / "figures" / "top1.v2")
    assert [path.name for path in (png, svg, table)] == [
        "top1.v2.png",
        "top1.v2.svg",
        "top1.v2.csv",
    ]
    with Image.open(png) as picture:
        assert picture.width == 1440
    assert ET.parse(svg).getroot().tag.endswith("svg")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    points = [row for row in rows if row["kind"] == "point"]
    assert [int(row["images"]) for row in points] == list(SIZES)
    assert [float(row["value"]) for row in points] == [1 - 1.4 * n**-0.1 for n in SIZES]
    (law,) = (row for row in rows if row["kind"] == "law")
    assert float(law["a"]) == pytest.approx(0.1)
    assert float(law["a_stderr"]) > 0


def test_several_tasks_are_panels_of_one_picture(store_of: Fill, run: Make, tmp_path: Path) -> None:
    tasks = ("knn@imagenet1k", "linear@imagenet1k", "corloc@voc2012")
    store = store_of(*(run("mae", n, spec=task) for n in SIZES for task in tasks))
    png, _, table = curve(store, task=["knn", "corloc"], out_stem=tmp_path / "both")
    with Image.open(png) as picture:
        assert picture.width == 1840
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["task"] for row in rows} == {"knn@imagenet1k", "corloc@voc2012"}
    # A family is every task of it that has a curve.
    family = curve(store, family="image", out_stem=tmp_path / "image")[2].read_text()
    assert {row["task"] for row in csv.DictReader(family.splitlines())} == set(tasks[:2])
    with pytest.raises(StoreError, match="did you mean 'image'"):
        curve(store, family="imag", out_stem=tmp_path / "none")
    with pytest.raises(StoreError, match="--task"):
        curve(store, out_stem=tmp_path / "none")


def test_compute_can_be_the_axis(store_of: Fill, run: Make, tmp_path: Path) -> None:
    points = [(e, 1.1e17 * e) for e in (100, 200, 400)]
    same = {"dataset": "coco", "images": 118287}
    store = store_of(
        *(run("mae", e, pretrain=same | {"epochs": e, "flops": flops}) for e, flops in points)
    )
    table = curve(store, task="knn", x="flops", out_stem=tmp_path / "flops")[2]
    rows = [r for r in csv.DictReader(table.read_text().splitlines()) if r["kind"] == "point"]
    assert [float(row["flops"]) for row in rows] == [flops for _, flops in points]


def test_the_same_store_gives_the_same_bytes(store_of: Fill, run: Make, tmp_path: Path) -> None:
    store = store_of(*(run(method, n) for n in SIZES for method in ("mae", "dino")))
    first = curve(store, task="knn", out_stem=tmp_path / "a")
    again = curve(store, task="knn", out_stem=tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    assert b"<dc:date>" not in first[1].read_bytes()


def test_any_name_can_be_drawn(store_of: Fill, run: Make, tmp_path: Path) -> None:
    methods = ("_hidden", "$x^{", "<b>&", "方法")
    store = store_of(*(run(method, n) for n in (500, 1000) for method in methods))
    _, svg, table = curve(store, task="knn", out_stem=tmp_path / "curve")
    ET.parse(svg)
    assert {row["series"] for row in csv.DictReader(table.read_text().splitlines())} == set(methods)


def test_a_place_that_cannot_be_written_is_one_line_of_advice(
    store_of: Fill, run: Make, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--out"):
        curve(store_of(run("a", 500), run("a", 900)), task="knn", out_stem=tmp_path / "file" / "x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (500, "500"),
        (1000, "1,000"),
        (10_000, "10k"),
        (241_000, "241k"),
        (1_281_167, "1.28M"),
        (2.4e9, "2.4B"),
        (0.5, "0.5"),
    ],
)
def test_counts_are_written_as_people_do(value: float, text: str) -> None:
    assert quantity(value) == text

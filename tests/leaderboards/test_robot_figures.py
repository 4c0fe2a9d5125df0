"""SlotMIM's Figure 8: the success of robots against the size of the pre-training set."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.lines import Line2D

from bench import registry
from bench.records import Metric, Result
from bench.stats import wilson
from bench.store import Store
from leaderboards import table_curves, tables
from leaderboards.curves import curve
from leaderboards.paper import Row, Table
from leaderboards.plot import picture

Make = Callable[..., Result]

#: Rollouts of a suite: tasks, starts and policies.
SUITES = {"franka_kitchen": 5 * 50 * 3, "metaworld": 8 * 50 * 3}
METHODS = {"mae": 0.2, "dino": 0.3, "ibot": 0.35, "slotmim": 0.4}
GAINS = {241_000: 0.0, 1_281_167: 0.06, 4_000_000: 0.11}


@pytest.fixture(scope="module")
def figure() -> Table:
    """As the paper's file declares it."""
    tables_ = registry.load("table", "slotmim").tables
    return next(table for table in tables_ if table.key == "fig8")


def success_of(row: Row, suite: str) -> float:
    return METHODS[row.train.partition("@")[0]] + GAINS[int(row.x or 0)] + 0.2 * (suite[0] == "m")


def results_of(row: Row, run: Make) -> list[Result]:
    """Both suites with the row's own model, which succeeds as often as `success_of` says."""
    method, _, data = row.train.partition("?")[0].partition("@")
    trained = {"dataset": data, "images": int(row.x or 0), "epochs": float(row.epochs)}
    found = []
    for suite, n in SUITES.items():
        rate = success_of(row, suite)
        found.append(
            run(
                row.train,
                name=row.label,
                method=method,
                spec=f"{suite}@{suite}",
                headline="success",
                metric=Metric(rate, *wilson(rate * n, n), n, "wilson95"),
                arch="vit_base_patch16_224",
                pretrain=trained,
                dataset={"images": {"train": n // 6, "val": n // 3}},
            )
        )
    return found


def test_the_figure_shows_every_row_at_its_size(figure: Table, run: Make) -> None:
    results = [result for row in figure.rows for result in results_of(row, run)]
    filled = tables.fill("slotmim", figure, "paper", results)
    assert len(filled.with_verdict("measured")) == len(results) == 2 * len(figure.rows)
    curves = table_curves.curves_of(filled)
    assert [one.column.task for one in curves] == list(SUITES)
    for one in curves:
        assert one.log
        assert one.column.percent
        points = {(x, cell.value) for series in one.series for x, cell in series.points}
        assert points == {(row.x, success_of(row, one.column.task)) for row in figure.rows}
        risen = [s for s in one.series if len(s.points) > 1]
        assert [s.label for s in risen] == [f"{name}, imagenet1k" for name in sorted(METHODS)]
        assert all(s.law is not None and s.law.a > 0 for s in risen)
    drawn = picture(curves)
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    assert titles == ["franka_kitchen", "metaworld"]
    handles = [one for one in drawn.legends[0].legend_handles if isinstance(one, Line2D)][:-1]
    looks = {(str(one.get_color()), str(one.get_marker())) for one in handles}
    assert len(looks) == len(curves[0].series) > 14, "none looks like another"


def test_any_models_make_the_same_curves(
    figure: Table, run: Make, store_of: Callable[..., Store], tmp_path: Path
) -> None:
    own = [
        row for row in figure.rows if row.train.startswith(("mae@imagenet", "slotmim@imagenet1k"))
    ]
    store = store_of(*(result for row in own for result in results_of(row, run)))
    png, _, table = curve(store, family="robot", out_stem=tmp_path / "robots")
    assert png.read_bytes().startswith(b"\x89PNG")
    rows = [r for r in csv.DictReader(table.read_text().splitlines()) if r["kind"] == "point"]
    assert {row["task"] for row in rows} == {f"{suite}@{suite}" for suite in SUITES}
    assert sorted({int(row["images"]) for row in rows}) == sorted(GAINS)
    first = next(row for row in rows if row["task"].startswith("franka"))
    assert float(first["low"]) < float(first["value"]) < float(first["high"])

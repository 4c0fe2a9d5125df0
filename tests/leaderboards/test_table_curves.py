"""Curves of papers' figures: lines, points and axes, from the results that fill their grids."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.records import Result
from leaderboards import table_curves, tables
from leaderboards.paper import Column, Row, Score, Table

Make = Callable[..., Result]

KNN = Column(task="k-NN", metric="top-1", measure=Score("knn@imagenet1k", "top1"))


def figure(axis: str, *rows: Row) -> Table:
    return Table(
        key="fig1", printed="Figure 1", title="A figure", axis=axis, columns=(KNN,), rows=rows
    )


def point(label: str, train: str) -> Row:
    return Row(label=label, published=("",), train=train)


def filled(table: Table, *results: Result) -> tables.Filled:
    return tables.fill("some", table, "paper", results)


def masked(run: Make, method: str, ratio: float, score: float) -> Result:
    return run(
        f"{method}@coco?mask_ratio={ratio:g}",
        score,
        name=f"{method}{ratio:g}",
        pretrain={"recipe": {"mask_ratio": ratio}},
    )


def test_points_over_an_option_lie_where_the_recipe_says(run: Make, tmp_path: Path) -> None:
    rows = [
        point(f"{method.upper()}, {ratio:.0%} masked", f"{method}@coco?mask_ratio={ratio:g}")
        for method in ("mae", "loca")
        for ratio in (0.0, 0.4, 0.8)
    ]
    scores = {"mae": (0.2, 0.4, 0.3), "loca": (0.3, 0.35, 0.2)}
    results = [
        masked(run, method, ratio, score)
        for method, own in scores.items()
        for ratio, score in zip((0.0, 0.4, 0.8), own, strict=True)
    ]
    shown = filled(figure("mask_ratio", *rows), *results)
    (curve,) = table_curves.curves_of(shown)
    assert not curve.log  # there is no logarithm of nothing masked
    assert curve.x_label == "mask ratio"
    drawn = {one.label: [(x, cell.value) for x, cell in one.points] for one in curve.series}
    assert drawn == {
        method.upper(): [(x, pytest.approx(y)) for x, y in zip((0, 0.4, 0.8), own, strict=True)]
        for method, own in scores.items()
    }
    assert all(one.law is None for one in curve.series)
    png, svg = table_curves.write(shown, tmp_path / "new" / "a.b")
    assert (png.name, svg.name) == ("a.b.png", "a.b.svg")
    assert png.read_bytes().startswith(b"\x89PNG")


def test_points_over_epochs_lie_where_the_record_says(run: Make) -> None:
    """Also where the row names a schedule, seeds are one point, and a model stands in two rows."""
    rows = [point(f"MAE, {epochs}", f"mae@coco?epochs={epochs}") for epochs in (100, 200)]
    results = [
        run(
            f"mae@coco?epochs={epochs}" + (f"&seed={seed}" if seed else ""),
            score + seed / 100,
            name=f"mae-{epochs}-{seed}",
            pretrain={"effective_epochs": 2.0 * epochs, "epochs": float(epochs), "seed": seed},
        )
        for epochs, score in ((100, 0.3), (200, 0.4))
        for seed in (0, 1)
    ]
    (curve,) = table_curves.curves_of(filled(figure("effective_epochs", *rows, rows[0]), *results))
    (line,) = curve.series
    assert [(x, cell.value, cell.seeds) for x, cell in line.points] == [
        (200, pytest.approx(0.305), 2),
        (400, pytest.approx(0.405), 2),
    ]
    assert curve.log
    assert line.law is not None


def test_there_is_no_curve_through_one_point_nor_in_a_table(run: Make, tmp_path: Path) -> None:
    row = point("MAE, 100", "mae@coco")
    lone = filled(figure("epochs", row), run("mae@coco"))
    assert lone.rows[0].cells[0].ours is not None
    assert table_curves.write(lone, tmp_path / "a") == []
    assert table_curves.write(filled(figure("", row), run("mae@coco")), tmp_path / "a") == []
    assert not list(tmp_path.iterdir())

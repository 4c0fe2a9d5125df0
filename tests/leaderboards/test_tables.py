"""Tables filled from the store: verdicts, reasons, measures, what is to be run, and formats."""

import csv
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.errors import SpecError
from bench.failures import Failure
from bench.records import Metric, Result
from bench.spec import bind, parse, unbind
from leaderboards import table_formats, tables
from leaderboards.paper import (
    ALL,
    Column,
    FlopsRatio,
    Gain,
    Paper,
    Parameters,
    Row,
    Score,
    Table,
    mini,
)
from leaderboards.table_cells import number
from leaderboards.table_rows import left_out

Make = Callable[..., Result]

KNN = Column(
    task="ImageNet k-NN",
    metric="top-1",
    measure=Score("knn@imagenet1k", "top1", mini="knn@mini_objects"),
)
DINO = Row(
    label="DINO",
    published=("46.3",),
    train="dino@coco?preset=coco_plus",
    mini=mini("dino"),
)
MAE = Row(label="MAE", published=("40.0",), train="mae@coco", mini=mini("mae"))
CAE = Row(label="CAE", published=("50.0",), cited="CAE: never trained here")


def table(*rows: Row, columns: tuple[Column, ...] = (KNN,), **more: Any) -> Table:
    return Table(key="1", printed="Table 1", title="k-NN", columns=columns, rows=rows, **more)


def filled(shown: Table, *results: Result, scale: str = "paper", **more: Any) -> tables.Filled:
    return tables.fill("some", shown, scale, results, **more)


def only(shown: tables.Filled) -> tables.FilledCell:
    ((_, cell),) = shown.cells()
    return cell


# Verdicts


def test_a_cell_within_tolerance_agrees_and_one_beyond_differs(run: Make) -> None:
    near = only(filled(table(DINO), run("dino@coco?preset=coco_plus", 0.457)))
    assert (near.verdict, near.reasons, near.outside > 0) == ("agrees", (), True)
    assert near.difference == pytest.approx(-0.6)
    assert near.ours is not None
    assert near.ours.low < 45.7 < near.ours.high
    far = run("dino@coco?preset=coco_plus", 0.44)
    assert only(filled(table(DINO), far)).verdict == "differs"
    # Beyond the interval, which ends at 44.4.
    assert only(filled(table(DINO), far, tolerance=1.8)).verdict == "differs"
    assert only(filled(table(DINO), far, tolerance=2.0)).verdict == "agrees"
    own = Column(task="k-NN", metric="top-1", measure=KNN.measure, tolerance=0.1)
    assert only(filled(table(DINO, columns=(own,)), far, tolerance=9)).verdict == "differs"


def test_spellings_of_one_recipe_are_one_model_and_others_are_not(run: Make) -> None:
    shown = table(Row(label="x", published=("1",), train="mae@coco?lr=1e-3&epochs=800"))
    assert only(filled(shown, run("mae@coco?epochs=800&lr=1e-3"))).ours is not None
    assert only(filled(shown, run("mae@coco?epochs=800"))).verdict == "not measured"
    workers = table(Row(label="x", published=("1",), train="mae@coco?workers=4"))
    assert only(filled(workers, run("mae@coco"))).ours is not None


def test_seeds_are_one_number_with_their_range(run: Make) -> None:
    runs = [
        run(f"mae@coco?seed={seed}" if seed else "mae@coco", score, name=f"mae-{seed}")
        for seed, score in ((0, 0.40), (1, 0.42), (2, 0.41))
    ]
    cell = only(filled(table(MAE), *runs))
    assert cell.ours is not None
    assert cell.ours.value == pytest.approx(41)
    assert cell.ours.seeds == (pytest.approx(40), pytest.approx(42))
    assert len(cell.ours.results) == 3


def test_a_pre_training_counts_once_however_many_seeds_it_was_evaluated_with(run: Make) -> None:
    one, other = "a" * 64, "b" * 64
    results = [
        run("mae@coco", 0.40, weights=one, seed=0),
        run("mae@coco", 0.50, weights=one, seed=1),
        run("mae@coco?seed=1", 0.60, weights=other, name="mae-seed1"),
    ]
    cell = only(filled(table(MAE), *results))
    assert cell.ours is not None
    assert cell.ours.value == pytest.approx((45 + 60) / 2)
    assert cell.ours.seeds == (pytest.approx(40), pytest.approx(60))
    # The seeds share the test samples: their mean has the interval of one.
    half = 100 * 1.96 * (0.25 / 50_000) ** 0.5
    assert cell.ours.high == pytest.approx(52.5 + half, abs=0.05)


def test_what_the_paper_does_not_have_is_no_cell(run: Make) -> None:
    pair = Row(label="MAE", published=("40.0", ""), train="mae@coco", notes={ALL: "odd"})
    linear = Column(task="linear", metric="top-1", measure=Score("linear@imagenet1k", "top1"))
    shown = table(pair, columns=(KNN, linear))
    cell = filled(shown).rows[0].cells[1]
    assert (cell.verdict, cell.missing) == ("-", "the paper has no such number")
    assert tables.matrix(shown, "paper").entries[0].tasks == ("knn@imagenet1k",)
    assert "0 of 1 cells measured." in table_formats.render(filled(shown), "text")
    # If there is a number all the same, it is shown.
    cell = filled(shown, run("mae@coco", spec="linear@imagenet1k")).rows[0].cells[1]
    assert cell.verdict == "measured"
    # A figure's points have no printed numbers, and are wanted.
    points = table(Row(label="MAE", published=("",), train="mae@coco"), axis="epochs")
    assert only(filled(points)).verdict == "not measured"
    assert tables.matrix(points, "paper").entries[0].tasks == ("knn@imagenet1k",)


def test_a_word_in_print_is_not_compared(run: Make) -> None:
    row = Row(label="MAE", published=("collapse",), train="mae@coco")
    cell = only(filled(table(row), run("mae@coco")))
    assert (cell.verdict, cell.difference) == ("not comparable", None)
    assert cell.reasons == ("published: a word, not a number",)


def test_cited_rows_print_as_cited_and_can_be_filled_all_the_same(run: Make) -> None:
    cell = only(filled(table(CAE), run("mae@coco")))
    assert (cell.verdict, cell.missing, cell.ours) == ("cited", "CAE: never trained here", None)
    mine = only(filled(table(CAE), run("mae@coco"), uses={"CAE": "mae"}))
    assert mine.ours is not None
    assert mine.reasons == ("recipe: mae@coco",)


def test_rows_of_one_label_keep_their_own_results(run: Make) -> None:
    small, base = (
        Row(label="DINO", arch=arch, published=("46.3",), train=f"dino@coco?arch={arch}")
        for arch in ("small", "base")
    )
    found = (run("dino@coco?arch=small", 0.4), run("dino@coco?arch=base", 0.5))
    values = [
        cell.ours.value for _, cell in filled(table(small, base), *found).cells() if cell.ours
    ]
    assert values == [40.0, 50.0]


def test_a_gain_is_over_the_row_of_the_same_architecture(run: Make) -> None:
    gain = Column(task="all", metric="gain", measure=Gain("MAE", (KNN.name,)))
    rows = [
        Row(label=label, arch=arch, published=("1", "1"), train=f"{label.lower()}@coco?arch={arch}")
        for arch in ("small", "base")
        for label in ("MAE", "DINO")
    ]
    scores = (0.4, 0.5, 0.5, 0.6)
    found = [run(row.train, score) for row, score in zip(rows, scores, strict=True)]
    shown = filled(table(*rows, columns=(KNN, gain)), *found)
    gains = [line.cells[1].ours.value for line in shown.rows if line.cells[1].ours]
    assert gains == pytest.approx([0, 25, 0, 20])


def test_an_uncertain_cell_is_shown_and_not_judged(run: Make) -> None:
    doubt = Row(
        label="MAE", published=("99.9",), train="mae@coco", notes={ALL: "uncertain: garbled"}
    )
    cell = only(filled(table(doubt), run("mae@coco")))
    assert (cell.verdict, cell.published, cell.printed) == ("uncertain", "99.9", 99.9)
    lost = Row(label="MAE", published=("?",), train="mae@coco", notes={ALL: "lost"})
    assert only(filled(table(lost), run("mae@coco"))).verdict == "uncertain"


def test_a_cell_says_why_it_is_empty(run: Make) -> None:
    bare = Row(label="bare", published=("1",), train="mae@coco")
    assert only(filled(table(bare), scale="mini")).missing == "no model at mini scale"
    assert only(filled(table(MAE))).missing == "not measured"
    printed = Column(task="dataset", metric="#images")
    cell = only(filled(table(MAE, columns=(printed,))))
    assert (cell.verdict, cell.missing) == ("cited", "nothing here measures this")
    failure = Failure("mae-1", "", "knn@imagenet1k", 0, "no folder", "", "", train="mae@coco")
    assert only(filled(table(MAE), failed=[failure])).missing == "failed: no folder"


# Reasons


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataset": {"images": {"val": 500}}}, "data: 500 of 50,000 images of imagenet1k val"),
        ({"fields": {"skip_bad": 3}}, "data: up to 3 unreadable images left out"),
        (
            {"pretrain": {"images": 5000}},
            "data: pre-trained on 5,000 of 118,287 images of coco",
        ),
        ({"pretrain": {"collapsed": "all alike"}}, "pre-training: collapsed, all alike"),
        (
            {"warnings": ("best epoch selected on the test split",)},
            "selection rule: chosen on the split that is reported",
        ),
    ],
)
def test_a_cell_says_why_it_is_not_comparable(
    run: Make, change: dict[str, Any], reason: str
) -> None:
    cell = only(filled(table(MAE), run("mae@coco", 0.4, **change)))
    assert (cell.verdict, cell.reasons) == ("not comparable", (reason,))


def test_reasons_of_column_row_and_settings_come_first(run: Make) -> None:
    column = Column(task="k", metric="m", measure=KNN.measure, differs="label set: unknown")
    row = Row(label="MAE", published=("1",), train="mae@coco", differs="recipe: guessed")
    sets = (("epochs", "1"),)
    cell = only(filled(table(row, columns=(column,)), run("mae@coco?epochs=1"), sets=sets))
    assert cell.reasons == (
        "label set: unknown",
        "recipe: guessed",
        "recipe: changed by epochs=1",
    )


def test_a_model_put_in_says_how_it_was_trained(run: Make, result: Make) -> None:
    released = result(
        "timm-vit", 0.4, spec="knn@imagenet1k", pretrain={"dataset": None}, dataset={}
    )
    cell = only(filled(table(DINO), released, uses={"DINO": "timm-vit"}))
    assert cell.reasons == ("recipe: not recorded with the model",)
    own = run("dino@coco?preset=coco_plus", name="mine")
    assert only(filled(table(DINO), own, uses={"DINO": "mine"})).verdict == "agrees"


def test_a_seed_of_the_training_is_no_change_of_the_recipe(run: Make) -> None:
    seeded = (("seed", "3"),)
    assert only(filled(table(MAE), run("mae@coco?seed=3", 0.4), sets=seeded)).verdict == "agrees"
    assert tables.matrix(table(MAE), "paper", sets=seeded).entries[0].train == "mae@coco?seed=3"


def test_records_of_strangers_are_read_without_trust(run: Make) -> None:
    odd = [
        run("mae@coco", name=f"odd{place}", pretrain=trained)
        for place, trained in enumerate(
            ({"spec": "?? no spec"}, {"spec": 7}, {"spec": None}, {"images": "many"})
        )
    ]
    assert [only(filled(table(MAE), one)).verdict for one in odd[:3]] == ["not measured"] * 3
    assert only(filled(table(MAE), odd[3])).ours is not None
    cell = only(filled(table(CAE), odd[0], uses={"CAE": "odd0"}))
    assert cell.reasons == ("recipe: not recorded with the model",)


def test_selection_on_test_is_no_reason_where_the_paper_did_it(run: Make) -> None:
    warned = run("mae@coco", 0.4, warnings=("best k selected on the test split",))
    best = Result(**{**vars(warned), "metrics": {**warned.metrics, "best_top1": Metric(0.4)}})
    column = Column(task="k", metric="m", measure=Score("knn@imagenet1k", "best_top1"))
    assert only(filled(table(MAE, columns=(column,)), best)).verdict == "agrees"


def test_what_was_selected_on_test_is_marked_also_where_the_paper_did_it(run: Make) -> None:
    column = Column(
        task="linear", metric="top-1", measure=Score("linear@imagenet1k?selection=test", "top1")
    )
    found = run(
        "mae@coco", 0.4, spec="linear@imagenet1k?selection=test", fields={"selection": "test"}
    )
    shown = filled(table(MAE, columns=(column,)), found)
    assert only(shown).verdict == "agrees"
    assert "40.0†" in table_formats.render(shown, "text")
    assert "40.0†" not in table_formats.render(filled(table(MAE), run("mae@coco", 0.4)), "text")


def test_mini_scale_is_never_compared(run: Make) -> None:
    spec = "knn@mini_objects"
    cell = only(filled(table(DINO), run(mini("dino"), spec=spec), scale="mini"))
    assert cell.verdict == "not comparable"
    assert cell.reasons == ("data: the mini benchmark, with small recipes",)


# Measures


def test_mean_of_tasks_has_the_interval_of_independent_parts(run: Make) -> None:
    scores = (Score("knn@pets", "top1"), Score("knn@food101", "top1"))
    column = Column(task="average", metric="top-1", measure=scores)
    parts = [
        run("mae@coco", 0.6, spec="knn@pets", metric=Metric(0.6, 0.57, 0.63, 100), dataset={}),
        run("mae@coco", 0.8, spec="knn@food101", metric=Metric(0.8, 0.76, 0.84, 100), dataset={}),
    ]
    cell = only(filled(table(MAE, columns=(column,)), *parts))
    assert cell.ours is not None
    assert (cell.ours.value, cell.ours.high) == (pytest.approx(70), pytest.approx(72.5))
    assert only(filled(table(MAE, columns=(column,)), parts[0])).ours is None  # half a mean is none


def test_measures_from_records_and_other_columns(run: Make) -> None:
    columns = (
        KNN,
        Column(task="cost", metric="FLOPs vs MAE", measure=FlopsRatio("MAE", per="run")),
        Column(task="speed", metric="x", measure=FlopsRatio("MAE", per="image", inverse=True)),
        Column(task="gain", metric="%", measure=Gain("MAE", ("ImageNet k-NN top-1",))),
        Column(task="params", metric="M", measure=Parameters()),
    )
    none = ("", "1.5x", "", "", "")
    rows = (
        Row(label="MAE", published=none, train="mae@coco"),
        Row(label="ASL", published=none, train="asl@coco"),
    )
    results = [
        run("mae@coco", 0.4, pretrain={"flops": 2e18, "epochs": 100.0}),
        run("asl@coco", 0.5, pretrain={"flops": 3e18, "epochs": 300.0}),
    ]
    results[1].model["parameters"] = 86_000_000
    asl = filled(table(*rows, columns=columns), *results, rows=["ASL"]).rows[0].cells
    values = [cell.ours and cell.ours.value for cell in asl]
    assert values == [pytest.approx(v) for v in (50, 1.5, 2.0, 25, 86)]
    assert asl[1].verdict == "agrees"


def test_rows_of_one_label_are_told_apart_by_what_differs(run: Make) -> None:
    column = Column(task="gain", metric="%", measure=Gain("random", ("ImageNet k-NN top-1",)))
    rows = [
        Row(label=label, published=("1", "1"), train=f"{label}@coco?arch={arch}", arch=arch)
        for arch in ("S", "B")
        for label in ("random", "mae")
    ]
    shown = table(*rows, columns=(KNN, column))
    scores = {"random": (0.2, 0.1), "mae": (0.4, 0.4)}
    results = [
        run(f"{label}@coco?arch={arch}", score, name=f"{label}{arch}")
        for label, pair in scores.items()
        for arch, score in zip("SB", pair, strict=True)
    ]
    lines = filled(shown, *results).rows
    gains = [line.cells[1].ours and line.cells[1].ours.value for line in lines]
    assert gains == [pytest.approx(v) for v in (0, 100, 0, 300)]
    used = filled(shown, *results, uses={"mae, B": "maeS"}).rows
    assert [line.model for line in used] == ["randomS", "maeS", "randomB", "maeS"]
    assert [line.row.arch for line in filled(shown, rows=["mae, B"]).rows] == ["B"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("45.1", 45.1), ("~3.3x", 3.3), ("1x", 1.0), ("?", None), ("241K", None), ("collapse", None)],
)
def test_printed_numbers(text: str, value: float | None) -> None:
    assert number(text) == value


def test_the_newest_version_on_the_largest_data_counts(run: Make) -> None:
    old = run("mae@coco", 0.9, version=1)
    small = run("mae@coco", 0.8, version=2, n=500)
    new = run("mae@coco", 0.4, version=2)
    cell = only(filled(table(MAE), small, old, new))
    assert cell.ours is not None
    assert cell.ours.value == pytest.approx(40)


def test_half_precision_is_not_averaged_with_full(run: Make) -> None:
    half = run("mae@coco", 0.9, fields={"precision": "bf16"})
    values = [
        cell.ours.value
        for results in ([half, run("mae@coco", 0.4)], [half])
        if (cell := only(filled(table(MAE), *results))).ours
    ]
    assert values == [pytest.approx(40), pytest.approx(90)]


def test_a_metric_that_is_not_the_headline_is_read_with_its_own_interval(run: Make) -> None:
    column = Column(task="k-NN", metric="top-5", measure=Score("knn@imagenet1k", "top5"))
    cell = only(filled(table(MAE, columns=(column,)), run("mae@coco", 0.4)))
    assert cell.ours is not None
    assert (cell.ours.value, cell.ours.low, cell.ours.high) == (
        pytest.approx(90),
        pytest.approx(88),
        pytest.approx(92),
    )
    absent = Column(task="k-NN", metric="x", measure=Score("knn@imagenet1k", "nothing"))
    assert only(filled(table(MAE, columns=(absent,)), run("mae@coco"))).ours is None


# What is to be run


def test_matrix_names_models_and_tasks(run: Make) -> None:
    shown = table(DINO, MAE, CAE)
    entries = tables.matrix(shown, "mini").entries
    assert [(e.name, e.train, e.tasks) for e in entries] == [
        ("DINO", "dino@mini_scenes?preset=small:mini", ("knn@mini_objects",)),
        ("MAE", "mae@mini_scenes?preset=small:mini", ("knn@mini_objects",)),
    ]
    sets = (("epochs", "1"),)
    (mae,) = tables.matrix(shown, "paper", rows=["MAE"], sets=sets, seeds=(3,)).entries
    assert mae.train == "mae@coco?epochs=1"
    used = tables.matrix(shown, "paper", uses={"CAE": "timm:cae_base"}).entries[2]
    assert (used.source, used.train) == ("timm:cae_base", "")
    twins = table(MAE, Row(label="MAE", published=("1",), train="mae@imagenet1k", data="IN"))
    assert tables.matrix(twins, "paper").entries[1].name == "MAE, IN"


def test_columns_that_are_not_shown_are_run_only_for_a_gain(run: Make) -> None:
    gain = Column(task="gain", metric="%", measure=Gain("MAE", (KNN.name,)))
    linear = Column(task="linear", metric="top-1", measure=Score("linear@imagenet1k", "top1"))
    rows = [
        Row(label=label, published=("1", "1", "1"), train=f"{label.lower()}@coco")
        for label in ("MAE", "DINO")
    ]
    shown = table(*rows, columns=(KNN, linear, gain))
    asked = tables.matrix(shown, "paper", columns=["gain"])
    assert [entry.tasks for entry in asked.entries] == [("knn@imagenet1k",)] * 2
    found = filled(shown, run("mae@coco", 0.4), run("dino@coco", 0.5), columns=["gain"])
    assert [c.name for c in found.table.columns] == ["gain %"]
    assert [cell.ours.value for _, cell in found.cells() if cell.ours] == [0, pytest.approx(25)]
    lone = filled(shown, run("dino@coco", 0.5), rows=["DINO"], columns=["gain %"])
    assert only(lone).missing == "relative to MAE, which is not measured"


@pytest.mark.parametrize(
    ("wishes", "advice"),
    [
        ({"rows": ["DIN"]}, "no row 'DIN'.*did you mean 'DINO'"),
        ({"columns": ["ImageNet kNN"]}, "no column.*did you mean 'ImageNet k-NN'"),
        ({"uses": {"DIN": "x"}}, "no row 'DIN'"),
        ({"uses": {"DINO": "nowhere"}}, "neither a path.*there are none"),
        ({"sets": (("epochs", "1&lr=2"),)}, "epochs"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    wishes: dict[str, Any], advice: str
) -> None:
    with pytest.raises(SpecError, match=advice):
        tables.matrix(table(DINO, MAE), "paper", **wishes)


def test_a_model_of_the_store_is_run_from_where_it_came(run: Make, tmp_path: Path) -> None:
    there, gone = run("mae@coco", name="there"), run("mae@coco", name="gone")
    there.model["source"] = str(tmp_path)
    gone.model["source"] = str(tmp_path / "gone")

    def sources(model: str) -> list[str]:
        asked = tables.matrix(table(CAE), "paper", uses={"CAE": model}, results=(there, gone))
        return [entry.source for entry in asked.entries]

    assert sources("there") == [str(tmp_path)]
    assert sources("gone") == []  # nothing can be run; its results stay
    assert sources(str(tmp_path)) == [str(tmp_path)]
    with pytest.raises(SpecError, match="did you mean 'there'"):
        sources("thre")


def test_rows_that_nothing_is_run_for_say_why() -> None:
    bare = Row(label="bare", published=("1",), train="mae@coco")
    assert left_out(table(DINO, CAE, bare), "mini") == {
        "CAE": "CAE: never trained here",
        "bare": "no model at mini scale",
    }
    no_mini = Column(task="x", metric="y", measure=Score("knn@pets", "top1"))
    assert left_out(table(DINO, columns=(no_mini,)), "mini") == {
        "DINO": "no task at mini scale is like its columns"
    }
    assert left_out(table(CAE), "paper", uses={"CAE": "timm:x"}) == {}


@pytest.mark.parametrize("name", registry.names("table"))
def test_specs_of_scores_are_in_the_shortest_form_in_which_results_keep_them(name: str) -> None:
    paper: type[Paper] = registry.load("table", name)
    for shown in paper.tables:
        for column in shown.columns:
            parts = column.measure if isinstance(column.measure, tuple) else (column.measure,)
            for score in (part for part in parts if isinstance(part, Score)):
                for text in filter(None, (score.spec, score.mini)):
                    spec = parse(text)
                    if spec.name in registry.names("task"):
                        task = bind(registry.load("task", spec.name), dict(spec.options))
                        assert spec.options == unbind(task), text


# Formats


@pytest.fixture
def hostile(run: Make) -> tables.Filled:
    label = "<b>x</b> & $_{|}"
    row = Row(label=label, published=("40.0",), train="mae@coco", differs="label set: <i>")
    return filled(table(row, CAE, MAE), run("mae@coco", 0.4))


@pytest.mark.parametrize("form", table_formats.FORMATS)
def test_every_format_shows_ours_theirs_and_the_reason(hostile: tables.Filled, form: str) -> None:
    shown = table_formats.render(hostile, form)
    for text in ("40.0", "50.0", "CAE: never trained here"):
        assert text in shown
    assert ("<i>" in shown) == (form in ("text", "csv"))
    assert ("<b>" in shown) == (form in ("text", "csv"))


def test_csv_has_a_line_a_cell(hostile: tables.Filled) -> None:
    rows = list(csv.DictReader(io.StringIO(table_formats.csv(hostile))))
    assert [row["verdict"] for row in rows] == ["not comparable", "cited", "agrees"]
    assert float(rows[2]["ours"]) == 40.0
    assert rows[0]["reasons"] == "label set: <i>"


def test_the_difference_is_shown_only_where_it_means_something(run: Make) -> None:
    row = Row(label="DINO", published=("46.3",), train="dino@coco", differs="recipe: guessed")
    for shown, cell in (
        (filled(table(MAE), run("mae@coco", 0.403)), "40.3 [39.9, 40.7] / 40.0 +0.3 ="),
        (filled(table(MAE), run("mae@coco", 0.503)), "50.3 [49.9, 50.7] / 40.0 +10.3 !"),
        (filled(table(row), run("dino@coco", 0.403)), "40.3 [39.9, 40.7] (46.3)"),
        (filled(table(row)), "- / 46.3"),
        (filled(table(CAE)), "cited / 50.0 [a]"),
    ):
        *_, line = (
            table_formats.render(shown, "text").partition("\n\n")[2].split("\n\n")[0].split("\n")
        )
        assert line.split(maxsplit=1)[1] == cell


def test_what_holds_for_all_cells_is_said_once(run: Make) -> None:
    rows = [
        Row(label=label, published=("1.0",), train=f"{label}@coco", notes={ALL: "from a talk"})
        for label in ("mae", "dino")
    ]
    far = Column(task="k", metric="m", measure=KNN.measure, differs="label set: unknown")
    shown = filled(table(*rows, columns=(far,)), *(run(row.train) for row in rows))
    text = table_formats.render(shown, "text")
    assert text.count("from a talk") == text.count("label set: unknown") == 1
    assert "[a]" not in text


def test_terminals_get_no_control_characters(run: Make) -> None:
    failure = Failure(
        "m", "", "knn@imagenet1k", 0, "\x1b[31mno\n\nfolder", "", "", train="mae@coco"
    )
    for form in ("text", "md", "csv", "latex"):
        shown = table_formats.render(filled(table(MAE), failed=[failure]), form)
        assert "\x1b" not in shown
        assert "[31mno folder" in shown.replace("\\", "")


def test_html_holds_no_tag_of_a_stranger(hostile: tables.Filled) -> None:
    found: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            found.add(tag)

    Reader().feed(table_formats.render(hostile, "html"))
    assert found <= {
        *("html", "head", "meta", "title", "style", "body", "div", "table", "caption", "thead"),
        *("tbody", "tr", "th", "td", "br", "small", "ul", "li"),
    }


def test_latex_has_no_bare_special_character(hostile: tables.Filled) -> None:
    shown = table_formats.render(hostile, "latex")
    body = shown.partition("\\midrule")[2].partition("\\bottomrule")[0]
    for line in filter(None, body.split("\n")):
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == 1
        assert not re.findall(r"(?<!\\)[$_#%]", line)


def test_text_fits_the_terminal(run: Make) -> None:
    columns = tuple(Column(task=f"task {i}", metric="m", measure=KNN.measure) for i in range(9))
    row = Row(label="MAE", published=("1.0",) * 9, train="mae@coco")
    shown = table_formats.text(filled(table(row, columns=columns), run("mae@coco")), width=80)
    body = shown.partition("\n\n")[2].rpartition("\n\n")[0]
    assert max(map(len, body.splitlines())) <= 80
    assert all(f"task {i}" in body for i in range(9))

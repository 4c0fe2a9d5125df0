"""Tables filled from the store: verdicts, reasons, measures, formats and the command."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import cli, registry
from bench.errors import SpecError
from bench.failures import Failure
from bench.records import Metric, Result
from bench.spec import bind, parse, unbind
from bench.store import Store
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


@pytest.fixture
def run(result: Make) -> Make:
    """A result of the model that a spec trains, on whole ImageNet."""

    def make(train: str, score: float = 0.46, *, name: str = "", **others: Any) -> Result:
        images = {"images": {"train": 1_281_167, "val": 50_000}}
        trained = {"spec": train, "dataset": "coco", "images": 118_287}
        more = {"spec": "knn@imagenet1k", "dataset": images, "n": 50_000} | others
        more["pretrain"] = trained | others.get("pretrain", {})
        return result(name or train.partition("@")[0], score, **more)

    return make


def only(shown: tables.Filled) -> tables.FilledCell:
    ((_, cell),) = shown.cells()
    return cell


# Verdicts


def test_a_cell_within_tolerance_agrees_and_one_beyond_differs(run: Make) -> None:
    near = only(filled(table(DINO), run("dino@coco?preset=coco_plus", 0.457)))
    assert (near.verdict, near.reasons) == ("agrees", ())
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


def test_selection_on_test_is_no_reason_where_the_paper_did_it(run: Make) -> None:
    warned = run("mae@coco", 0.4, warnings=("best k selected on the test split",))
    best = Result(**{**vars(warned), "metrics": {**warned.metrics, "best_top1": Metric(0.4)}})
    column = Column(task="k", metric="m", measure=Score("knn@imagenet1k", "best_top1"))
    assert only(filled(table(MAE, columns=(column,)), best)).verdict == "agrees"


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
    assert tables.number(text) == value


def test_the_newest_version_on_the_largest_data_counts(run: Make) -> None:
    old = run("mae@coco", 0.9, version=1)
    small = run("mae@coco", 0.8, version=2, n=500)
    new = run("mae@coco", 0.4, version=2)
    cell = only(filled(table(MAE), small, old, new))
    assert cell.ours is not None
    assert cell.ours.value == pytest.approx(40)


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


def test_text_fits_the_terminal(run: Make) -> None:
    columns = tuple(Column(task=f"task {i}", metric="m", measure=KNN.measure) for i in range(9))
    row = Row(label="MAE", published=("1.0",) * 9, train="mae@coco")
    shown = table_formats.text(filled(table(row, columns=columns), run("mae@coco")), width=80)
    body = shown.partition("\n\n")[2].rpartition("\n\n")[0]
    assert max(map(len, body.splitlines())) <= 80
    assert all(f"task {i}" in body for i in range(9))


# The command


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sslbench", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_command_prints_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run: Make,
    tmp_path: Path,
    store_of: Callable[..., Store],
) -> None:
    store = store_of(run(mini("dino"), spec="knn@mini_objects?k=20"))
    words = ["table", "slotmim/1", "--no-run", "--results", str(store.root)]
    assert command(monkeypatch, *words, "--json") == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert {cell["row"] for cell in cells} >= {"DINO", "SlotMIM"}
    assert command(monkeypatch, *words, "--out", str(tmp_path / "t.md"), "--format", "md") == 0
    assert "DINO" in (tmp_path / "t.md").read_text()
    capsys.readouterr()
    assert command(monkeypatch, *words, "--check") == 1
    assert "0 agree" in capsys.readouterr().err
    assert command(monkeypatch, "table", "slotmim") == 0
    assert "slotmim/4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["slotmm/1"], "did you mean 'slotmim'"),
        (["slotmim/44"], "did you mean '4'"),
        (["slotmim/1", "--scale", "min"], "did you mean 'mini'"),
        (["slotmim/1", "--format", "htm"], "did you mean 'html'"),
        (["slotmim/1", "--rows", "DIN"], "did you mean 'DINO'"),
        (["slotmim/1", "--use", "DIN=x"], "did you mean 'DINO'"),
        (["slotmim/1", "--set", "epochs", "--no-run"], "KEY=VALUE"),
        (["slotmim/1", "--scale", "mini", "--check"], "mini scale"),
    ],
)
def test_bad_requests_are_answered_with_advice(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    advice: str,
) -> None:
    assert command(monkeypatch, "table", *words) == 2
    assert advice in capsys.readouterr().err


def test_printing_a_table_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['sslbench', 'table', 'slotmim/1', '--no-run']\n"
        "from bench.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.returncode == 0, done.stderr


def test_unknown_rows_are_refused_by_the_matrix() -> None:
    with pytest.raises(SpecError):
        tables.matrix(table(Row(label="x", train="nonsense")), "paper", sets=(("a", "b c,d"),))

"""`sslbench table`: what it prints, writes, runs, refuses and loads, and its exit status."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import cli, registry
from bench import matrix as matrices
from bench.engine import Report
from bench.records import Metric, Result
from bench.store import Store
from leaderboards.paper import mini

Make = Callable[..., Result]
Command = Callable[..., tuple[int, str, str]]

PRINTED = Path(__file__).parent / "paper_tables.csv"
ROW4 = "SlotMIM row4 (mask; cross + slot)"
SCENES = {"dataset": "coco+coco[split=unlabeled]", "images": 241_690}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `sslbench table` and gives (exit status, stdout, stderr)."""

    def execute(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sslbench", "table", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    return execute


@pytest.fixture
def ablation(run: Make) -> Make:
    """A result of SlotMIM as in Table 4, row 5, which prints 46.2 for k-NN."""

    def make(score: float, **others: Any) -> Result:
        trained = {"pretrain": SCENES} | others
        spec = "knn@imagenet1k?token=avg_fcnorm"
        train = f"slotmim@{SCENES['dataset']}?preset=coco_plus"
        return run(train, score, **{"spec": spec, "fields": {"token": "avg_fcnorm"}, **trained})

    return make


# Printing


def test_papers_list_their_tables_with_all_printed_cells(command: Command) -> None:
    counted = 0
    for paper in registry.names("table"):
        listed = json.loads(command(paper, "--json")[1])
        counted += sum(table["cells"] for table in listed.values())
        words = command(paper)[1]
        assert all(name in words for name in listed)
    with PRINTED.open(encoding="utf-8", newline="") as file:
        assert counted == sum(1 for _ in csv.DictReader(file))


def test_the_store_is_printed_or_written(
    command: Command, ablation: Make, store_of: Callable[..., Store], tmp_path: Path
) -> None:
    words = ["slotmim/4", "--no-run", "--results", store_of(ablation(0.46)).root]
    code, out, _ = command(*words)
    assert (code, "46.0 [45.6, 46.4] / 46.2 -0.2 =" in out) == (0, True)
    found = json.loads(command(*words, "--json")[1])
    (cell,) = [cell for cell in found["cells"] if cell["ours"] is not None]
    assert (cell["row"][:12], cell["verdict"], cell["published"]) == (
        "SlotMIM row5",
        "agrees",
        "46.2",
    )
    written = tmp_path / "new" / "table.tex"
    code, out, _ = command(*words, "--format", "latex", "--out", written)
    assert (code, out) == (0, f"wrote {written}\n")
    assert r"\toprule" in written.read_text(encoding="utf-8")
    code, _, err = command(*words, "--out", written / "below")
    assert (code, "give another --out" in err) == (2, True)


def test_rows_and_columns_are_chosen_by_name(
    command: Command, ablation: Make, store_of: Callable[..., Store]
) -> None:
    words = ["slotmim/1", "--no-run", "--results", store_of(ablation(0.46)).root, "--json"]
    out = command(*words, "--rows", "DINO", "--rows", "iBOT", "--columns", "ADE20K UperNet")[1]
    cells = json.loads(out)["cells"]
    assert [(cell["row"], cell["metric"]) for cell in cells] == [("DINO", "mIoU"), ("iBOT", "mIoU")]


@pytest.mark.parametrize(
    ("score", "words", "code", "told"),
    [
        (0.46, [], 0, "0 cells differ, 1 agree"),
        (
            0.44,
            [],
            1,
            "row5 (mask; cross + within + slot), ImageNet k-NN (k=20) top-1: 44.",
        ),
        (0.44, ["--tolerance", "2"], 0, "0 cells differ, 1 agree"),
        (0.46, ["--rows", ROW4], 1, "no comparable cell"),
        (0.46, ["--set", "epochs=7"], 1, "no comparable cell"),
    ],
)
def test_check_is_judged_by_comparable_cells(
    command: Command,
    ablation: Make,
    store_of: Callable[..., Store],
    score: float,
    words: list[str],
    code: int,
    told: str,
) -> None:
    root = store_of(ablation(score)).root
    found = command("slotmim/4", "--no-run", "--check", "--results", root, *words)
    assert found[0] == code
    assert told in found[2]
    assert "slotmim/4" in found[1]


def test_a_check_passes_over_what_cannot_be_compared(
    command: Command, ablation: Make, store_of: Callable[..., Store]
) -> None:
    part = ablation(0.2, pretrain=SCENES | {"images": 1000})
    code, out, err = command("slotmim/4", "--no-run", "--check", "--results", store_of(part).root)
    assert (code, "no comparable cell" in err) == (1, True)
    assert "pre-trained on 1,000 of 241,690 images" in out


def test_what_the_store_holds_of_no_use_is_named(
    command: Command, ablation: Make, store_of: Callable[..., Store], tmp_path: Path
) -> None:
    root = store_of(ablation(0.46)).root
    (whole,) = root.glob("slotmim/knn/*")
    twin = root / "other" / "knn" / whole.name
    twin.mkdir(parents=True)
    text = (whole / "result.json").read_text().replace('"value": 0.46', '"value": 0.4599')
    (twin / "result.json").write_text(text.replace('"name": "slotmim"', '"name": "other"'))
    (twin / "outcome.npz").write_bytes((whole / "outcome.npz").read_bytes())
    damaged = root / "slotmim" / "knn" / ("0" * 20)
    damaged.mkdir()
    (damaged / "result.json").write_text("{")
    code, out, err = command("slotmim/4", "--no-run", "--results", root)
    assert (code, "46.0" in out) == (1, True)
    assert "0" * 20 in err
    assert "claim one identity with different scores" in err


# Running


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The matrices that were asked to be run; every cell of them fails."""
    asked: list[Any] = []

    def run(matrix: Any, *_: Any) -> Report:
        asked.append(matrix)
        return Report(failed={"slotmim": "no folder coco"})

    monkeypatch.setattr(matrices, "run", run)
    return asked


def test_what_lacks_is_run_and_the_table_printed_whatever_fails(
    command: Command, ran: list[Any], tmp_path: Path
) -> None:
    words = ["asl/6", "--results", tmp_path, "--rows", "DINO, CIFAR-10", "--seed", "1"]
    code, out, _ = command(*words, "--seed", "2", "--scale", "mini", "--set", "epochs=1")
    assert (code, "asl/6" in out) == (1, True)
    (entry,) = ran[0].entries
    assert (entry.name, entry.train) == (
        "DINO, CIFAR-10",
        "dino@mini_cifar?epochs=1&preset=small:mini",
    )
    assert ran[0].seeds == (1, 2)
    assert all("@mini_cifar" in task for task in entry.tasks)
    assert json.loads(command(*words, "--json")[1])["failed"] == {"slotmim": "no folder coco"}


def test_nothing_is_run_where_nothing_can_be(
    command: Command, ran: list[Any], tmp_path: Path
) -> None:
    assert command("slotmim/2", "--results", tmp_path)[0] == 0
    assert not ran


def test_an_interrupted_table_says_how_it_goes_on(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*_: Any) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(matrices, "run", stop)
    code, _, err = command("slotmim/1", "--results", tmp_path)
    assert (code, "the same command continues" in err) == (130, True)


def test_a_dry_run_names_runs_cells_costs_and_what_is_left_out(
    command: Command, ran: list[Any], tmp_path: Path
) -> None:
    words = ["asl/3", "--dry-run", "--results", tmp_path, "--runs", tmp_path, "--data", tmp_path]
    rows = ["--rows", "MAE", "--rows", "CAE"]
    found = json.loads(command(*words, *rows, "--json")[1])
    assert [model["name"] for model in found["models"]] == ["MAE"]
    assert found["left_out"] == {"CAE": "CAE: never trained here"}
    assert found["totals"]["train_flops"] > 1e19
    out = command(*words, *rows, "--gpu", "a100")[1]
    for told in ("MAE", "A100 hours", "imagenet", "disk", "CAE: never trained here"):
        assert told in out
    assert not ran
    assert not list(tmp_path.iterdir())


# Figures


def test_a_figure_is_drawn_beside_its_grid(
    command: Command, run: Make, store_of: Callable[..., Store], tmp_path: Path
) -> None:
    results = [
        run(
            mini("mae", f"epochs={epochs}"),
            score,
            name=f"mae-{epochs}",
            spec="segknn@mini_ade?size_px=32",
            headline="miou",
            metric=Metric(score, score - 0.02, score + 0.02, 36),
            pretrain={"dataset": "mini_scenes", "effective_epochs": float(epochs)},
        )
        for epochs, score in ((1, 0.2), (2, 0.25), (4, 0.3))
    ]
    words = ["slotmim/fig4", "--no-run", "--scale", "mini", "--results", store_of(*results).root]
    grid = tmp_path / "fig4.csv"
    out = command(*words, "--format", "csv", "--out", grid)[1]
    assert out.split("\n")[:-1] == [
        f"wrote {grid.with_suffix(end)}" for end in (".csv", ".png", ".svg")
    ]
    assert grid.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with grid.open() as file:
        ours = [float(row["ours"]) for row in csv.DictReader(file) if row["ours"]]
    assert ours == [pytest.approx(value) for value in (20, 25, 30)]
    alone = command(*words, "--rows", "MAE, 200", "--out", tmp_path / "one.txt")[1]
    assert alone == f"wrote {tmp_path / 'one.txt'}\n"


# Refusing


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["slotmm/1"], "did you mean 'slotmim'"),
        (["slotmim/44"], "did you mean '4'"),
        (["slotmim/1", "--scale", "min"], "did you mean 'mini'"),
        (["slotmim/1", "--format", "htm"], "did you mean 'html'"),
        (["slotmim/1", "--rows", "DIN"], "did you mean 'DINO'"),
        (["slotmim/1", "--columns", "ADE20K UpperNet"], "did you mean 'ADE20K UperNet'"),
        (["slotmim/1", "--use", "DIN=x"], "did you mean 'DINO'"),
        (["slotmim/1", "--use", "DINO"], "no row 'DINO'"),
        (["slotmim/1", "--no-run", "--use", "DINO=nowhere"], "neither a path"),
        (["slotmim/1", "--use", "DINO=nowhere"], "neither a path"),
        (["slotmim/1", "--set", "epochs", "--no-run"], "KEY=VALUE"),
        (["slotmim/1", "--scale", "mini", "--check"], "mini scale"),
        (["slotmim/fig4", "--no-run", "--out", "fig4.png"], "name it fig4.txt"),
        (["slotmim/1", "--dry-run", "--gpu", "h10"], "did you mean 'h100'"),
    ],
)
def test_bad_requests_are_answered_with_advice(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    advice: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*words)
    assert (code, advice in err) == (2, True), err
    assert not list(tmp_path.iterdir())


# Loading


@pytest.mark.parametrize(
    "words", [[], ["--use", f"{ROW4}=slotmim"], ["--format", "html", "--check"], ["--json"]]
)
def test_printing_a_table_loads_no_torch(
    ablation: Make, store_of: Callable[..., Store], tmp_path: Path, words: list[str]
) -> None:
    store = store_of(ablation(0.46), ablation(0.5, name="slotmim-2"))
    code = (
        "import sys\n"
        f"sys.argv = ['sslbench', 'table', 'slotmim/4', '--no-run', '--results', *{words!r}]\n"
        f"sys.argv.insert(5, {str(store.root)!r})\n"
        "from bench.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code in (None, 0, 1), stop.code\n"
        "loaded = {'torch', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert "48.0" in done.stdout  # the mean of two pre-trainings

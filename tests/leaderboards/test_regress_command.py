"""The command `sslbench regress`, on one model and one task: what it says and what it leaves."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import cli
from tasks.image.knn import Knn

MATRIX = """
tasks = ["knn@mini_objects"]
[[models]]
source = "random:vit_mini_patch4_32?seed=0"
"""


def regress(baseline: Path, *words: object) -> int | str | None:
    """The exit code of the command."""
    command = ["sslbench", "regress", "--baseline", baseline, *words, "--workers", 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(word) for word in command])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code


@pytest.fixture(scope="module")
def made(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a matrix and the baseline that the command recorded of it.

    It declares the mini benchmark of the size that lies there already.
    """
    folder = tmp_path_factory.mktemp("regress")
    (folder / "matrix.toml").write_text(MATRIX)
    declare = ("--matrix", folder / "matrix.toml", "--mini", 300, "--update", "--data", mini)
    assert regress(folder / "baseline.json", *declare) == 0
    return folder


@pytest.fixture
def baseline(made: Path, tmp_path: Path) -> Path:
    """The recorded baseline, to be changed."""
    (tmp_path / "baseline.json").write_bytes((made / "baseline.json").read_bytes())
    return tmp_path / "baseline.json"


def edit(baseline: Path, **cell: Any) -> None:
    values = json.loads(baseline.read_text())
    values["cells"][0].update(cell)
    baseline.write_text(json.dumps(values))


def test_the_same_code_is_no_worse(
    baseline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where SSLBENCH_DATA is a folder of other data: the declared mini benchmark is meant."""
    elsewhere = baseline.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("SSLBENCH_DATA", str(elsewhere))
    keep = baseline.parent / "kept"
    assert regress(baseline, "--json", "--keep", keep) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert (cell["verdict"], cell["p"], cell["note"]) == ("same", 1.0, "")
    assert not list(elsewhere.iterdir())
    assert len(list((keep / "results").rglob("outcome.npz"))) == 1


def test_a_loss_fails_and_can_be_recorded(
    baseline: Path, mini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    perfect = {"value": 1.0, "low": 0.95, "high": 1.0, "n": 64, "interval": "wilson95"}
    edit(baseline, metric=perfect, ids="", values="")
    assert regress(baseline, "--data", mini) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[2].startswith("worse    random:vit_mini_patch4_32  knn@mini_objects")
    assert "1 of 1 cells failed" in out
    assert regress(baseline, "--data", mini, "--update") == 0
    assert json.loads(baseline.read_text())["cells"][0]["metric"]["value"] < 0.95


def test_given_data_are_used_and_a_cell_that_failed_fails_the_gate(
    baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = baseline.read_bytes()
    empty = baseline.parent / "empty"
    empty.mkdir()
    assert regress(baseline, "--data", empty) == 1
    said = capsys.readouterr()
    assert "gone" in said.out
    assert "no folder mini_objects" in said.err
    assert regress(baseline, "--data", empty, "--update") == 1
    assert "1 cells failed" in capsys.readouterr().err
    assert baseline.read_bytes() == before


def test_an_interrupt_judges_nothing_and_records_nothing(
    baseline: Path,
    mini: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = baseline.read_bytes()
    monkeypatch.setattr(Knn, "run", lambda *_: signal.raise_signal(signal.SIGINT))
    for words in ((), ("--update",)):
        assert regress(baseline, "--data", mini, *words) == 130
        said = capsys.readouterr()
        assert said.err.endswith("\ninterrupted: nothing was judged or recorded\n")
        assert "verdict" not in said.out
    assert baseline.read_bytes() == before


def test_what_cannot_be_measured_is_refused_with_advice(
    baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (("--mini", 64), "they go with --update"),
        (("--matrix", baseline), "they go with --update"),
        (("--keep", baseline.parent), "is not empty"),
        (("--update", "--mini", -1), "a number of images is expected"),
    ):
        assert regress(baseline, *words) == 2
        assert said in capsys.readouterr().err
    assert regress(baseline.parent / "none.json") == 2
    assert "--matrix MATRIX.toml --update" in capsys.readouterr().err

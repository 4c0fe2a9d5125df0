"""Tests of the command line: answers, exit codes, one-line errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cli

MODEL = "random:vit_mini_patch4_32"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Runs `sslbench ARGS`; gives exit code, stdout and stderr."""

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["sslbench", *args])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def results(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two cells."""
    from bench.engine import Settings, evaluate
    from bench.store import Store

    root = tmp_path_factory.mktemp("results")
    settings = Settings(data=mini, cache=root / ".cache", workers=0)
    tasks = ["knn@mini_objects,knn@mini_scenes"]
    assert not evaluate([MODEL], tasks, Store(root), settings).failed
    return root


def test_ls_names_everything(call) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = call("ls", "--json")
    listed = json.loads(out)
    assert code == 0
    assert {"mae", "dino", "slotmim"} <= set(listed["methods"])
    assert {"knn", "linear"} <= set(listed["tasks"])
    assert {"imagenet1k", "coco", "mini_objects"} <= set(listed["datasets"])
    assert {"native", "timm", "random"} <= set(listed["families"])
    assert {"slots", "similarity"} <= set(listed["figures"])
    assert all(line for kind in listed.values() for line in kind.values())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("ls", "method"), "methods"),
        (("train", "dinno@mini_objects", "--out", "r"), "dino"),
        (("train", "dino@mini_objects", "--out", "r", "--set", "lr"), "--set KEY=VALUE"),
        (("eval", MODEL, "--tasks", "knn@mini_objects?kk=3"), "k"),
        (("inspect", "nowhere"), "there is no nowhere"),
        (("mini", "m", "--size", "big"), "small"),
        (("board", "--format", "pdf"), ""),
        (("curve", "--task", "knn@mini_objects"), ""),
    ],
)
def test_a_bad_request_is_one_line_and_exit_2(  # type: ignore[no-untyped-def]
    args, words, call, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*args)
    assert code == 2
    assert words in err
    assert err.startswith("sslbench: ")
    assert err.count("\n") == 1
    assert not out
    assert not list(tmp_path.iterdir()), "a refused request leaves nothing behind"


def test_a_missing_data_root_says_what_to_pass(call, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("SSLBENCH_DATA", raising=False)
    code, _, err = call("train", "mae@imagenet1k", "--out", str(tmp_path / "run"))
    assert code == 2
    assert "--data" in err
    assert "SSLBENCH_DATA" in err
    code, _, err = call("train", "mae@imagenet1k", "--out", "r", "--data", str(tmp_path))
    assert code == 2
    assert "train" in err
    assert "val" in err


def test_a_second_eval_runs_nothing_and_says_so(call, results, mini) -> None:  # type: ignore[no-untyped-def]
    args = ("eval", MODEL, "--tasks", "knn@mini_objects", "--data", str(mini))
    code, out, _ = call(*args, "--results", str(results))
    assert code == 0
    assert "nothing to run: all 1 cells are already in" in out


def test_a_failed_cell_gives_exit_1(call, results, tmp_path) -> None:  # type: ignore[no-untyped-def]
    args = ("eval", MODEL, "--tasks", "knn@imagenet1k", "--data", str(tmp_path), "--json")
    code, out, _ = call(*args, "--results", str(results))
    assert code == 1
    assert len(json.loads(out)["failed"]) == 1


@pytest.mark.parametrize("form", ["text", "md", "csv", "latex"])
def test_the_board_prints_in_every_format(form, call, results) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = call("board", "--results", str(results), "--format", form)
    assert code == 0
    assert "mini" in out
    assert "random" in out


def test_the_board_as_a_site_is_a_folder(call, results, tmp_path) -> None:  # type: ignore[no-untyped-def]
    asked = ("board", "--results", str(results), "--format", "html")
    code, _, err = call(*asked)
    assert code == 2
    assert "--out" in err
    assert call(*asked, "--out", str(tmp_path / "site"))[0] == 0
    assert (tmp_path / "site" / "index.html").exists()


def test_the_board_as_json_holds_columns_and_models(call, results) -> None:  # type: ignore[no-untyped-def]
    _, out, _ = call("board", "--results", str(results), "--json")
    shown = json.loads(out)
    assert [c["label"] for c in shown["columns"]] == ["knn@mini_objects", "knn@mini_scenes"]
    assert all(len(model["scores"]) == 2 for model in shown["models"])
    _, out, _ = call("board", "--results", str(results), "--json", "--on", "mini_scenes")
    assert [c["label"] for c in json.loads(out)["columns"]] == ["knn@mini_scenes"]


def test_the_board_of_a_store_with_a_damaged_result_shows_the_rest_and_exits_1(  # type: ignore[no-untyped-def]
    call, results, tmp_path
) -> None:
    shutil.copytree(results, tmp_path / "results")
    (victim, *_) = sorted((tmp_path / "results").glob("[!.]*/*/*/result.json"))
    victim.write_text(victim.read_text().replace('"value": 0.', '"value": NaN, "was": 0.', 1))
    for extra in ((), ("--json",), ("--out", str(tmp_path / "board.md"), "--format", "md")):
        code, out, err = call("board", "--results", str(tmp_path / "results"), *extra)
        assert code == 1
        assert err.startswith("sslbench: ")
        assert victim.parent.name in err
        assert err.count("\n") == 1
        assert out
    shutil.rmtree(victim.parent)
    assert call("board", "--results", str(tmp_path / "results"))[0] == 0


def test_inspect_shows_what_was_loaded(call) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = call("inspect", MODEL, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["arch"] == "vit_mini_patch4_32"
    assert "keys" in facts


def test_doctor_reports_packages_and_data(call, mini) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = call("doctor", "--data", str(mini))
    assert code in (0, 1)
    assert "torch" in out
    assert "mini_objects" in out


def test_a_plugin_file_adds_a_task(mini: Path, tmp_path: Path) -> None:
    file = tmp_path / "first_class.py"
    file.write_text(
        '''"""Predicts the first class whatever it sees."""
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from bench.records import Outcome
from bench.stats import accuracy_metric
from bench.task import Task

@dataclass(frozen=True, kw_only=True)
class FirstClass(Task):
    """Always class 0."""
    version: ClassVar[int] = 1
    headline: ClassVar[str] = "top1"

    def run(self, model, data):
        split = data.labelled("val")
        value = (np.asarray(split.targets) == 0).astype(float)
        return Outcome({"id": np.array(split.ids), "value": value})

    def score(self, outcome):
        return {"top1": accuracy_metric(outcome.columns["value"] > 0)}
'''
    )
    # In a process of its own: a plugin stays registered as long as its process lives.
    command = ["--plugin", str(file), "eval", MODEL, "--tasks", "first_class@mini_objects"]
    options = ["--data", str(mini), "--results", str(tmp_path / "results"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *command, *options],
        check=True,
        capture_output=True,
        text=True,
    )
    value = json.loads(done.stdout)["ran"][0]["metrics"]["top1"]["value"]
    assert 0.01 < value < 0.2

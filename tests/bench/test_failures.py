"""Tests of the notes of failed cells: written whole, gone after a success, and never trusted."""

import json
import os
from pathlib import Path

import pytest

from bench import failures as notes
from bench.failures import Failure, failures, forget, record
from bench.index import summaries
from bench.store import Store

CELL = ("mae", "runs/mae", "knn@mini_objects", 0)


def only(root: Path) -> Failure:
    (found,) = failures(root)
    return found


def test_a_failure_says_what_failed_why_and_when(tmp_path: Path) -> None:
    record(tmp_path, *CELL, "no folder", "mae@mini_objects")
    found = only(tmp_path)
    assert (found.model, found.source, found.task, found.seed) == CELL
    assert (found.error, found.train) == ("no folder", "mae@mini_objects")
    assert found.cell == "mae · knn@mini_objects · seed 0"
    assert found.when.endswith("+00:00")
    assert found.command


def test_the_last_failure_of_a_cell_stands(tmp_path: Path) -> None:
    for reason in ("first", "second"):
        record(tmp_path, *CELL, reason)
    assert only(tmp_path).error == "second"


def test_seeds_tasks_and_models_fail_apart(tmp_path: Path) -> None:
    cells = [("a", "runs/a", "knn@x", 0), ("a", "runs/a", "knn@x", 1), ("a", "runs/a", "knn@y", 0)]
    cells.append(("b", "runs/b", "knn@x", 0))
    for cell in cells:
        record(tmp_path, *cell, "reason")
    assert len(failures(tmp_path)) == 4
    forget(tmp_path, "runs/a", "knn@x", 1)
    left = [(f.model, f.source, f.task, f.seed) for f in failures(tmp_path)]
    assert left == sorted(cell for cell in cells if cell[3] == 0)


def test_a_run_folder_is_the_same_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "results", "mae", "runs/mae", "knn@x", 0, "it is not trained yet")
    (tmp_path / "runs" / "mae").mkdir(parents=True)
    forget(tmp_path / "results", f"{tmp_path}/runs/../runs/mae/", "knn@x", 0)
    assert not failures(tmp_path / "results")


def test_what_is_no_note_is_passed_over(tmp_path: Path) -> None:
    record(tmp_path, *CELL, "reason")
    folder = tmp_path / notes.FOLDER
    whole = json.loads(next(folder.iterdir()).read_text())
    for name, text in {
        "empty": "",
        "cut": json.dumps(whole)[:40],
        "list": "[1]",
        "bytes": "\udcff",
        "newer": json.dumps(whole | {"schema": 2}),
        "lacking": json.dumps({k: v for k, v in whole.items() if k != "task"}),
        "more": json.dumps(whole | {"other": 1}),
        "typed": json.dumps(whole | {"seed": "0"}),
        "flag": json.dumps(whole | {"seed": True}),
        "error": json.dumps(whole | {"error": ["<b>"]}),
        "deep": "[" * 50_000,
        "large": json.dumps(whole | {"error": "x" * 200_000}),
    }.items():
        (folder / f"{name}.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    (folder / "folder.json").mkdir()
    assert only(tmp_path).error == "reason"


def test_the_longest_error_can_be_read_back(tmp_path: Path) -> None:
    record(tmp_path, *CELL, "\N{COLLISION SYMBOL}" * 100_000)
    assert only(tmp_path).error.startswith("\N{COLLISION SYMBOL}")


def test_notes_are_no_results(tmp_path: Path) -> None:
    record(tmp_path, *CELL, "reason")
    store = Store(tmp_path)
    assert not list(store.results())
    assert not summaries(store)
    assert not store.problems


def test_a_store_without_failures_and_a_disk_that_refuses_are_no_errors(tmp_path: Path) -> None:
    assert not failures(tmp_path / "nowhere")
    forget(tmp_path / "nowhere", "runs/mae", "knn@x", 0)
    (tmp_path / "file").write_text("")
    record(tmp_path / "file", *CELL, "reason")
    assert not failures(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]

"""The store: whole results or none, whatever dies, races or fills up meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import NewerSchema, StoreError
from bench.records import Identity, Metric, Outcome, Result
from bench.store import Store, slug

# Writes `count` results from seed `first` on, each marked with the writer in both files.
WRITER = """
import sys, time
from pathlib import Path
import numpy as np
import bench.store
from bench.records import Identity, Metric, Outcome, Result

def cell(seed, writer, model="m"):
    identity = Identity("w", "knn", 1, {}, "d", seed)
    marked = Result(identity, "knn@x", "top1", {"top1": Metric(0.5)}, {"name": model},
                    cost={"writer": writer})
    return marked, Outcome({"id": np.arange(200).astype(str), "value": np.full(200, writer)})

def main(root, writer, first, count, start):
    print("ready", flush=True)
    while not Path(start).exists():
        time.sleep(0.001)
    store = bench.store.Store(root)
    for seed in range(first, first + count):
        store.write(*cell(seed, writer))
"""
START = "\nmain(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5])\n"


def cell(seed: int = 0, model: str = "m", **changes: Any) -> tuple[Result, Outcome]:
    identity = Identity("w", "knn", 1, {}, "d", seed)
    metrics = {"top1": Metric(0.5, 0.4, 0.6, 10, "wilson95")}
    stored = Result(identity, "knn@x", "top1", metrics, {"name": model}, **changes)
    return stored, Outcome({"id": np.array(["a", "b"]), "value": np.array([seed, 1])})


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    stored, outcome = cell(7, "org/model:tag")
    assert not store.has(stored.identity)
    assert list(store.results()) == []
    folder = store.write(stored, outcome)
    assert folder == store.path(stored.identity, "org/model:tag")
    assert folder.relative_to(store.root).parts == ("org_model_tag", "knn", stored.identity.digest)
    assert files(store.root / "org_model_tag" / "knn" / stored.identity.digest) == [
        "outcome.npz",
        "result.json",
    ]
    assert store.has(stored.identity)
    assert store.get(stored.identity) == stored
    assert list(store.results()) == [stored]
    assert store.problems == []
    np.testing.assert_array_equal(store.outcome(stored).columns["value"], [7, 1])


def test_a_stored_result_can_be_read_by_others(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        folder = Store(tmp_path).write(*cell())
    finally:
        os.umask(mask)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "result.json").stat().st_mode & 0o777 == 0o644


def test_the_first_result_of_an_identity_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, outcome = cell(cost={"seconds": 1.0})
    store.write(first, outcome)
    store.write(*cell(cost={"seconds": 2.0}))
    assert list(store.results()) == [first]
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_results_come_in_one_order_and_stores_merge_by_copying(tmp_path: Path) -> None:
    one, two, both = Store(tmp_path / "one"), Store(tmp_path / "two"), Store(tmp_path / "both")
    for seed in range(6):
        (one if seed % 2 else two).write(*cell(seed, f"m{seed % 3}"))
        both.write(*cell(seed, f"m{seed % 3}"))
    shutil.copytree(two.root, one.root, dirs_exist_ok=True)
    assert list(one.results()) == list(both.results())
    assert len(list(both.results())) == 6


# Killed, racing, many at once


def run_writer(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def finish(writers: list[subprocess.Popen[str]]) -> None:
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0


@pytest.mark.parametrize("stage", ["bench.store.Path.write_text", "os.fsync", "os.rename"])
def test_a_killed_writer_leaves_no_result_and_can_be_repeated(tmp_path: Path, stage: str) -> None:
    stop = f"""
import os
def stop(*_, **__):
    print("stopped", flush=True)
    time.sleep(600)
{stage} = stop
bench.store.Store(sys.argv[1]).write(*cell(0, 1))
"""
    writer = run_writer(WRITER + stop, tmp_path)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "stopped\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate(timeout=60)

    store = Store(tmp_path)
    assert files(tmp_path / ".tmp")  # it was in the middle of its work
    assert list(store.results()) == []
    assert store.problems == []
    stored, outcome = cell(0)
    assert not store.has(stored.identity)
    store.write(stored, outcome)
    assert list(store.results()) == [stored]


def test_processes_that_race_for_the_same_results_leave_whole_ones(tmp_path: Path) -> None:
    start = tmp_path / "start"
    root = tmp_path / "results"
    writers = [run_writer(WRITER + START, root, writer, 0, 25, start) for writer in (1, 2)]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    start.touch()
    finish(writers)
    store = Store(root)
    found = list(store.results())
    assert [r.identity.seed for r in sorted(found, key=lambda r: r.identity.seed)] == [*range(25)]
    assert store.problems == []
    for stored in found:  # both files of a result come from one writer
        assert set(store.outcome(stored).columns["value"]) == {stored.cost["writer"]}
    assert list((root / ".tmp").iterdir()) == []


def test_two_processes_fill_one_store(tmp_path: Path) -> None:
    start = tmp_path / "start"
    root = tmp_path / "results"
    start.touch()
    finish([run_writer(WRITER + START, root, i, 60 * i, 60, start) for i in (0, 1)])
    store = Store(root)
    assert sorted(r.identity.seed for r in store.results()) == [*range(120)]
    assert store.problems == []


def test_what_a_killed_process_left_is_swept_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / ".tmp" / "old", tmp_path / ".tmp" / "young"
    for left in (old, young):
        left.mkdir(parents=True)
        (left / "result.json").touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    Store(tmp_path).write(*cell())
    assert [left.name for left in (tmp_path / ".tmp").iterdir()] == ["young"]


# A full disk


def assert_nothing_left(store: Store) -> None:
    assert list(store.results()) == []
    assert store.problems == []
    assert files(store.root) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    real = Path.write_text

    def write_text(self: Path, text: str, encoding: str) -> int:
        real(self, text[:50], encoding)
        return real(Path("/dev/full"), text, encoding)  # the kernel's own error, in mid-write

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(StoreError, match=r"No space left on device; free some space") as caught:
        store.write(*cell())
    assert "\n" not in str(caught.value)
    assert_nothing_left(store)
    monkeypatch.undo()
    store.write(*cell())
    assert len(list(store.results())) == 1


@pytest.mark.parametrize("stage", ["fsync", "rename"])
def test_a_disk_that_fails_late_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, stage, fail)
    with pytest.raises(StoreError, match="No space left"):
        Store(tmp_path).write(*cell())
    assert_nothing_left(Store(tmp_path))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; skips where mounting is not permitted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk_keeps_what_was_stored(tiny_disk: Path) -> None:
    store = Store(tiny_disk)
    first, outcome = cell(0)
    store.write(first, outcome)
    noise = np.random.default_rng(0).standard_normal(100_000)  # 800 kB that do not compress
    second, _ = cell(1)
    with pytest.raises(StoreError, match="No space left on device"):
        store.write(second, Outcome({"id": np.array(["a"])}, {"noise": noise}))
    assert list(store.results()) == [first]
    assert store.problems == []
    third, outcome = cell(2)
    store.write(third, outcome)
    assert len(list(store.results())) == 2


def test_a_root_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    store = Store(tmp_path / "results")
    assert list(store.results()) == []
    with pytest.raises(StoreError, match="give --results a writable folder"):
        store.write(*cell())


# Broken results


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("cut", "not a stored result"),
        ("binary", "result.json cannot be read"),
        ("gone", "result.json cannot be read"),
        ("no outcome", "outcome.npz is missing"),
        ("misplaced", "holds the result of another identity"),
    ],
)
def test_a_broken_result_is_reported_and_replaced(tmp_path: Path, damage: str, said: str) -> None:
    store = Store(tmp_path)
    whole, _ = cell(1)
    store.write(*cell(1))
    stored, outcome = cell(0)
    folder = store.write(stored, outcome)
    text = (folder / "result.json").read_bytes()
    if damage == "cut":
        (folder / "result.json").write_bytes(text[:100])
    elif damage == "binary":
        (folder / "result.json").write_bytes(b"\xff" * 100)
    elif damage == "gone":
        (folder / "result.json").unlink()
    elif damage == "no outcome":
        (folder / "outcome.npz").unlink()
    else:
        (folder / "result.json").write_text(whole.to_json())

    assert list(store.results()) == [whole]
    assert len(store.problems) == 1
    assert store.problems[0].startswith(f"m/knn/{folder.name}: ")
    assert said in store.problems[0]
    assert not store.has(stored.identity)

    store.write(stored, outcome)
    assert store.get(stored.identity) == stored
    assert len(list(store.results())) == 2
    assert store.problems == []
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_a_result_of_a_newer_version_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stored, outcome = cell()
    folder = store.write(stored, outcome)
    text = (folder / "result.json").read_text().replace('"schema": 1', '"schema": 99')
    (folder / "result.json").write_text(text)
    assert list(store.results()) == []
    assert "pip install --upgrade sslbench" in store.problems[0]
    with pytest.raises(NewerSchema, match=f"m/knn/{folder.name}"):
        store.get(stored.identity)
    with pytest.raises(NewerSchema):
        store.write(stored, outcome)
    assert (folder / "result.json").read_text() == text
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_stray_files_are_ignored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(*cell())
    (tmp_path / "notes.txt").touch()
    (tmp_path / "m" / ".DS_Store").touch()
    (tmp_path / "m" / "knn" / "readme.md").touch()
    assert len(list(store.results())) == 1
    assert store.problems == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("timm:vit_small_patch16_224.dino", "timm_vit_small_patch16_224.dino"),
        ("../../etc", "_.._etc"),
        (".tmp", "tmp"),
        ("..", "_"),
        ("", "_"),
        ("modèle 1", "mod_le_1"),
        ("x" * 300, "x" * 120),
    ],
)
def test_a_name_becomes_a_safe_folder_name(name: str, folder: str) -> None:
    assert slug(name) == folder

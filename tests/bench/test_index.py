"""The index says what the folders say, whatever happens to them, to its file or to the disk."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import index, index_file, store
from bench.errors import StoreError
from bench.index import summaries
from bench.records import Identity, Metric, Outcome, Result
from bench.store import Store
from bench.summary import Summary

ROOT = Path(__file__).resolve().parents[2]
QUIET_SECONDS = 0.03
ATTRIBUTES = (
    *("identity", "task_spec", "headline", "metrics", "model", "dataset", "cost", "provenance"),
    "warnings",
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are kept after a moment: tests cannot wait for two seconds each time."""
    monkeypatch.setattr(index, "_QUIET_NS", int(QUIET_SECONDS * 1e9))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of results that were read so far."""
    found: list[str] = []
    real = store.read_result

    def read(folder: str) -> Result:
        found.append(os.path.basename(folder))
        return real(folder)

    monkeypatch.setattr(store, "read_result", read)
    return found


def settle() -> None:
    time.sleep(1.5 * QUIET_SECONDS)


def result(
    seed: int = 0, of: str = "m", task: str = "knn", value: float = 0.5, **changes: Any
) -> Result:
    cells = {"cells": [of]} if task == "linear" else {}
    values: dict[str, Any] = {
        "identity": Identity(f"w-{of}", task, 1, {"k": 20, **cells}, "d", seed),
        "task_spec": f"{task}@x?k=20",
        "headline": "top1",
        "metrics": {"top1": Metric(value, value - 0.1, value + 0.1, 9, "wilson95"), "x": Metric(1)},
        "model": {"name": of, "pretrain": {"epochs": 3, "flops": None}},
        "dataset": {"images": {"train": 5}},
        "cost": {"seconds": 1.5, "shared": [{"what": "features"}]},
        "provenance": {"git_commit": "é"},
        "warnings": ["a warning"] if seed % 3 == 0 else [],
    }
    return Result(**(values | changes))


def write(root: Path, *results: Result) -> list[Path]:
    outcome = Outcome({"id": np.array(["a"])})
    return [Store(root).write(one, outcome) for one in results]


def told(found: Store, results: list[Any]) -> tuple[list[Any], list[str]]:
    """All that can be asked of each result, and the problems."""
    values = [tuple(getattr(one, name) for name in ATTRIBUTES) for one in results]
    return values, found.problems


def agrees(root: Path, **options: Any) -> list[Summary]:
    """The summaries of a store, which say what its folders say."""
    expected, found = Store(root), Store(root)
    given = summaries(found, **options)
    assert told(found, given) == told(expected, list(expected.results()))
    for one in given:
        shown = one.metrics[one.headline]
        assert (one.value, one.low, one.high) == (shown.value, shown.low, shown.high)
        assert one.digest == one.identity.digest
        assert Path(one.folder).is_dir()
    return given


# What a summary says


def test_a_summary_says_what_its_result_says(tmp_path: Path) -> None:
    bare = result(2, "n", metrics={"top1": Metric(0.25)}, cost={}, model={"name": "n"})
    odd = result(5, "o", cost={"seconds": "soon"}, headline="x")
    write(tmp_path, result(0), result(1), result(0, task="linear"), bare, odd)
    settle()
    for found in (agrees(tmp_path), agrees(tmp_path)):  # from the folders, then from the index
        assert [(s.low, s.high, s.seconds) for s in found if s.model["name"] == "n"] == [
            (None, None, None)
        ]
        (strange,) = (s for s in found if s.model["name"] == "o")
        assert (strange.value, strange.seconds) == (1, None)
    assert index_file.load(tmp_path)


def test_a_summary_of_a_result_that_is_not_stored_holds_it() -> None:
    whole = result()
    summary = Summary.of(whole)
    assert told(Store("none"), [summary]) == told(Store("none"), [whole])
    assert summary.full is whole
    assert summary.digest == whole.identity.digest


def test_a_summary_may_head_another_of_its_metrics(tmp_path: Path) -> None:
    metrics = {"top1": Metric(0.5, 0.4, 0.6, 9), "further": Metric(0.25, n=7)}
    write(tmp_path, result(metrics=metrics))
    settle()
    for one in (*summaries(Store(tmp_path)), *summaries(Store(tmp_path)), Summary.of(result())):
        other = one.headed("further" if one.folder else "x")
        assert other is not None
        assert one.headed("top1") is one
        assert one.headed("map") is None
        if one.folder:
            assert (other.value, other.low, other.high, other.n) == (0.25, None, None, 7)
        assert other.headline == other.setting.measurement.headline != one.headline
        assert other.metrics == one.metrics
        assert other.identity == one.identity
        assert other.full.provenance == one.full.provenance


def test_a_folder_damaged_later_is_named_by_who_asks_for_all_of_it(tmp_path: Path) -> None:
    (folder,) = write(tmp_path, result())
    (summary,) = summaries(Store(tmp_path))
    (folder / "result.json").write_text("{")
    assert summary.value == 0.5
    with pytest.raises(StoreError, match=folder.name):
        _ = summary.provenance


def test_results_of_one_model_and_of_one_setting_share_them(tmp_path: Path) -> None:
    write(tmp_path, *(result(s, m) for s in (0, 1) for m in ("a", "b")))
    settle()
    summaries(Store(tmp_path))
    write(tmp_path, result(0, "c"), result(0, "a", "knn2"))
    for _ in range(2):  # known and fresh ones together, then all from the index
        found = agrees(tmp_path)
        assert len({id(one.setting) for one in found}) == 3
        assert len({id(one.model) for one in found}) == 3
        settle()


def test_what_seldom_differs_is_not_taken_for_the_same(tmp_path: Path) -> None:
    write(
        tmp_path,
        result(0, "a"),
        result(1, "a", model={"name": "a", "pretrain": {"epochs": 4}}),
        result(0, "b", task="linear"),
        result(0, "c", task="linear"),  # reads other cells, which are no part of the protocol
        result(0, "d", warnings=["another"]),
    )
    settle()
    found = agrees(tmp_path)
    assert len({id(one.setting) for one in found}) == 5
    assert len({one.setting.measurement for one in found}) == 2
    agrees(tmp_path)


# What is read again


def test_what_is_indexed_is_not_read_again(tmp_path: Path, reads: list[str]) -> None:
    write(tmp_path, *(result(s, m, t) for s in (0, 1) for m in "ab" for t in ("knn", "linear")))
    settle()
    assert len(summaries(Store(tmp_path))) == 8
    assert len(reads) == 8
    assert len(summaries(Store(tmp_path))) == 8
    assert len(reads) == 8
    write(tmp_path, result(2, "b"))
    reads.clear()
    assert len(summaries(Store(tmp_path))) == 9
    assert len(reads) == 3  # all of the one task's folder
    summaries(Store(tmp_path), verify=True)
    assert len(reads) == 3 + 9


def test_an_unchanged_index_is_not_written_again(tmp_path: Path) -> None:
    write(tmp_path, result())
    settle()
    summaries(Store(tmp_path))
    written = (tmp_path / index_file.NAME).stat()
    summaries(Store(tmp_path))
    assert (tmp_path / index_file.NAME).stat() == written
    write(tmp_path, result(1, "n"))  # not to be kept yet
    summaries(Store(tmp_path))
    assert (tmp_path / index_file.NAME).stat() == written


def test_what_changed_a_moment_ago_is_not_trusted(tmp_path: Path, reads: list[str]) -> None:
    # Two changes within a tick of the file system's clock look alike.
    write(tmp_path, result())
    summaries(Store(tmp_path))
    assert index_file.load(tmp_path) == {}
    settle()
    summaries(Store(tmp_path))
    assert len(index_file.load(tmp_path)) == 1
    assert len(reads) == 2


def test_damage_is_told_every_time_until_it_is_mended_in_its_place(tmp_path: Path) -> None:
    folder, *_ = write(tmp_path, result(0), result(0, task="linear"))
    text = (folder / "result.json").read_text()
    (folder / "result.json").write_text(text[:100])
    settle()
    for _ in range(3):
        found = Store(tmp_path)
        assert len(summaries(found)) == 1
        assert len(found.problems) == 1
    (folder / "result.json").write_text(text)  # the folder around it does not change by that
    assert len(agrees(tmp_path)) == 2


def test_a_file_edited_in_its_place_is_noticed_when_all_is_verified(tmp_path: Path) -> None:
    (folder,) = write(tmp_path, result())
    settle()
    summaries(Store(tmp_path))
    (folder / "result.json").write_text("{")
    found = Store(tmp_path)
    assert len(summaries(found)) == 1  # the price of not reading every file
    assert summaries(found, verify=True) == []
    assert "not a stored result" in found.problems[0]
    assert summaries(found) == []  # and what was found then is remembered
    assert len(found.problems) == 1


def test_folders_that_changed_places_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, result(0, "a", value=0.3), result(0, "b", value=0.6))
    a, b, aside = (tmp_path / name for name in ("a", "b", "aside"))
    for folder in (a, b):
        os.utime(folder / "knn", (0, 0))
    settle()
    summaries(Store(tmp_path))
    for source, target in ((a, aside), (b, a), (aside, b)):
        source.rename(target)
    agrees(tmp_path)


def test_a_store_that_moved_keeps_its_index(tmp_path: Path, reads: list[str]) -> None:
    write(tmp_path / "one", result())
    settle()
    summaries(Store(tmp_path / "one"))
    (tmp_path / "one").rename(tmp_path / "two")
    reads.clear()
    (found,) = summaries(Store(tmp_path / "two"))
    assert not reads
    assert found.provenance == {"git_commit": "é"}


# Anything at all


class Life:
    """What may happen to a store, at random."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.aside = root.parent / "aside"
        self.damaged: dict[Path, str] = {}

    def folder(self) -> Path | None:
        folders = sorted(path for path in self.root.glob("[!.]*/*/*") if path.is_dir())
        return self.random.choice(folders) if folders else None

    def add(self) -> None:
        pick = self.random.choice
        one = result(pick(range(4)), pick("abc"), pick(["knn", "linear"]), pick([0.25, 0.75]))
        write(self.root, one)

    def delete(self) -> None:
        if folder := self.folder():
            places = [folder, folder.parent, folder.parent.parent]
            shutil.rmtree(self.random.choice(places))

    def replace(self) -> None:
        """Another result of the same identity in the same place."""
        if (folder := self.folder()) and folder not in self.damaged:
            text = (folder / "result.json").read_text()
            folder.rename(self.aside)
            (self.aside / "result.json").write_text(text.replace('"epochs": 3', '"epochs": 9'))
            self.aside.rename(folder)

    def damage(self) -> None:
        if (folder := self.folder()) and folder not in self.damaged:
            self.damaged[folder] = (folder / "result.json").read_text()
            folder.rename(self.aside)
            if self.random.random() < 0.5:
                (self.aside / "outcome.npz").unlink()
            else:
                (self.aside / "result.json").write_text("{")
            self.aside.rename(folder)

    def mend(self) -> None:
        """In its place, which the folders around it do not show."""
        for folder, text in self.damaged.items():
            if folder.is_dir():
                (folder / "result.json").write_text(text)
                (folder / "outcome.npz").touch()
        self.damaged.clear()

    def rename(self) -> None:
        if folder := self.folder():
            model = folder.parent.parent
            target = self.root / self.random.choice("abcd")
            if not target.exists():
                self.damaged = {}  # their places are others now
                model.rename(target)

    def copy(self) -> None:
        """By hand, under another model's name."""
        if folder := self.folder():
            target = self.root / "copied" / folder.parent.name / folder.name
            if not target.exists():
                shutil.copytree(folder, target)

    def stray(self) -> None:
        for folder in (self.root, self.root / "a", self.root / "a" / "knn"):
            if folder.is_dir():
                (folder / "notes.txt").touch()

    def break_index(self) -> None:
        file = self.root / index_file.NAME
        if file.exists():
            data = bytearray(file.read_bytes())
            match self.random.randrange(3):
                case 0:
                    file.unlink()
                case 1:
                    file.write_bytes(data[: self.random.randrange(len(data))])
                case 2:
                    data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
                    file.write_bytes(data)

    def one_thing(self) -> None:
        things = [self.add] * 4 + [self.delete, self.replace, self.damage, self.mend]
        things += [self.rename, self.copy, self.stray, self.break_index]
        self.random.choice(things)()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_summaries_are_those_of_the_folders(tmp_path: Path, seed: int) -> None:
    life = Life(tmp_path / "results", seed)
    indexed = 0
    for _ in range(60):
        for _ in range(life.random.randrange(3)):
            life.one_thing()
        if life.random.random() < 0.5:
            settle()
        agrees(life.root, verify=life.random.random() < 0.1)
        indexed = max(indexed, len(index_file.load(life.root)))
    assert indexed > 1


# A broken file


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    """A store with two results and a whole index."""
    write(tmp_path, result(0), result(1, "n", value=0.75))
    settle()
    summaries(Store(tmp_path))
    assert len(index_file.load(tmp_path)) == 2
    return tmp_path


def test_no_changed_bit_of_the_index_changes_an_answer(indexed: Path) -> None:
    file = indexed / index_file.NAME
    whole = file.read_bytes()
    dice = random.Random(0)
    for _ in range(400):
        data = bytearray(whole)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        file.write_bytes(data)
        entries = index_file.load(indexed)  # the folders would hide an error
        for folder, (_, found) in entries.items():
            assert folder in {("m", "knn"), ("n", "knn")}
            assert [one.value for one in found] == [0.5 if folder[0] == "m" else 0.75]


def compressed(arrays: dict[str, Any]) -> None:
    """Changes nothing: the archive is compressed."""


def newer(arrays: dict[str, Any]) -> None:
    header = json.loads(arrays["header"].tobytes()) | {"schema": index_file.SCHEMA + 1}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)


def shorter(arrays: dict[str, Any]) -> None:
    arrays["numbers"] = arrays["numbers"][:1]


def pointing_outside(arrays: dict[str, Any]) -> None:
    arrays["shared"] = arrays["shared"] + 1000


def nested(arrays: dict[str, Any]) -> None:
    arrays["header"] = np.frombuffer(b"[" * 100_000 + b"]" * 100_000, np.uint8)


def with_objects(arrays: dict[str, Any]) -> None:
    arrays["counts"] = np.array([print, print], dtype=object)


@pytest.mark.parametrize(
    "change", [compressed, newer, shorter, pointing_outside, nested, with_objects]
)
def test_an_index_that_is_not_ours_is_left_aside_and_written_anew(
    indexed: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    file = indexed / index_file.NAME
    with np.load(file) as stored:
        arrays = dict(stored)
    change(arrays)
    save = np.savez_compressed if change is compressed else np.savez
    save(file, **arrays)
    assert index_file.load(indexed) == {}
    agrees(indexed)
    assert len(index_file.load(indexed)) == 2


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_no_index_at_all_is_written_anew(indexed: Path, content: bytes | None) -> None:
    file = indexed / index_file.NAME
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    agrees(indexed)
    assert len(index_file.load(indexed)) == 2


# A disk that refuses


def test_a_store_that_is_not_there_is_empty_and_stays_away(tmp_path: Path) -> None:
    assert summaries(Store(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_no_store_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "some" / "folder").mkdir(parents=True)
    settle()
    assert agrees(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["some"]


@pytest.mark.parametrize("stage", ["mkdir", "save", "replace"])
def test_a_disk_that_refuses_the_index_changes_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    write(tmp_path, result())
    settle()

    def refuse(*arguments: object, **_: object) -> None:
        if stage == "save":
            Path(str(arguments[0])).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    owner = {"mkdir": Path, "save": index_file, "replace": os}[stage]
    monkeypatch.setattr(owner, stage, refuse)
    assert len(agrees(tmp_path)) == 1
    monkeypatch.undo()
    assert not (tmp_path / index_file.NAME).exists()
    assert not list((tmp_path / ".tmp").glob("*"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own; skips where mounting is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_store_that_is_read_only_is_read(disk: Path) -> None:
    write(disk, result())
    settle()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert len(agrees(disk)) == 1
    assert not (disk / index_file.NAME).exists()


def test_a_full_disk_keeps_the_old_index_and_answers_from_the_folders(disk: Path) -> None:
    write(disk, result())
    settle()
    summaries(Store(disk))
    write(disk, result(0, "n"))
    left = os.statvfs(disk)
    (disk / "noise").write_bytes(b"x" * left.f_bavail * left.f_bsize)
    settle()
    assert len(agrees(disk)) == 2
    assert len(index_file.load(disk)) == 1


# Several processes, killed ones

UPDATER = """
import sys, time
from bench import index
from bench.store import Store
index._QUIET_NS = 1_000_000
print("ready", flush=True)
while True:
    found = Store(sys.argv[1])
    digests = {one.digest for one in index.summaries(found)}
    assert not found.problems, found.problems
    print(len(digests), flush=True)
"""
STOPPED = """
import os, sys, time
from bench import index
from bench.store import Store
def stop(*_):
    print("stopped", flush=True)
    time.sleep(600)
os.replace = stop
index._QUIET_NS = 1_000_000
index.summaries(Store(sys.argv[1]))
"""
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_index import result, write
for seed in range(40):
    write(Path(sys.argv[1]), result(seed, sys.argv[3]))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_processes_that_write_and_index_at_once_agree_in_the_end(tmp_path: Path) -> None:
    root = tmp_path / "results"
    updaters = [start(UPDATER, root) for _ in range(2)]
    writers = [start(WRITER, root, Path(__file__).parent, name) for name in "ab"]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    for updater in updaters:
        assert updater.poll() is None  # still well
        updater.kill()
        out, _ = updater.communicate(timeout=60)
        seen = [int(line) for line in out.split()[1:-1]]  # the last line may be cut
        assert seen == sorted(seen)  # what was there once is never lost
    assert len(agrees(root)) == 80
    settle()
    assert len(agrees(root)) == 80
    assert len(index_file.load(root)) == 2


def test_a_killed_update_leaves_the_old_index_and_is_swept_later(tmp_path: Path) -> None:
    write(tmp_path, result())
    settle()
    summaries(Store(tmp_path))
    write(tmp_path, result(1))
    settle()
    updater = start(STOPPED, tmp_path)
    assert updater.stdout is not None
    assert updater.stdout.readline() == "stopped\n"
    os.kill(updater.pid, signal.SIGKILL)
    updater.communicate(timeout=60)
    (left,) = (tmp_path / ".tmp").iterdir()
    assert len(agrees(tmp_path)) == 2
    old = time.time() - 2 * 24 * 3600
    os.utime(left, (old, old))
    write(tmp_path, result(2))
    assert not left.exists()


def test_neither_torch_nor_pandas_is_imported(tmp_path: Path) -> None:
    write(tmp_path, result())
    code = (
        "import sys\nfrom bench.index import summaries\nfrom bench.store import Store\n"
        "assert len(summaries(Store(sys.argv[1]))) == 1\n"
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)\n"
    )
    done = start(code, tmp_path)
    done.communicate(timeout=60)
    assert done.returncode == 0

"""Provenance says where a number came from, and nothing about who made it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import provenance
from bench.provenance import collect, command_line


def test_collect_says_what_it_promises() -> None:
    found = collect()
    assert sorted(found) == [
        "command_line",
        "device",
        "git_commit",
        "git_dirty",
        "packages",
        "platform",
        "python",
        "started",
    ]
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["numpy"] == metadata.version("numpy")
    assert "pytest" not in found["packages"]  # a tool of development changes no number
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["device"]["cpu"]
    assert datetime.fromisoformat(found["started"]) <= datetime.now(UTC)


def test_the_caller_may_say_when_the_work_started() -> None:
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert collect(started)["started"] == "2026-01-02T01:04:05+00:00"


def test_no_environment_variable_and_no_home_path_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2-secret")
    monkeypatch.setenv("HOME", "/people/ada.lovelace")
    monkeypatch.setattr(
        sys, "argv", ["/people/ada.lovelace/bin/sslbench", "/people/ada.lovelace/run"]
    )
    text = json.dumps(collect())
    assert "hunter2" not in text
    assert "lovelace" not in text
    assert "sslbench ~/run" in text


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["/usr/bin/sslbench", "ls"], "sslbench ls"),
        (["sslbench", "eval", "a b"], "sslbench eval 'a b'"),
        (["sslbench", "/people/ada"], "sslbench ~"),
        (["sslbench", "/people/adam/x"], "sslbench /people/adam/x"),
        (["sslbench", "--data=/people/ada/data"], "sslbench '--data=~/data'"),
        (["sslbench", "x@folder[path=/people/ada/pics]"], "sslbench 'x@folder[path=~/pics]'"),
        (["sslbench", "/people/ada/a b"], "sslbench ~/'a b'"),
        (["sslbench", "--name", ""], "sslbench --name ''"),
    ],
)
def test_the_command_line_hides_the_home(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], line: str
) -> None:
    monkeypatch.setenv("HOME", "/people/ada")
    assert command_line(argv) == line


def test_a_home_that_is_the_root_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert command_line(["sslbench", "/data/x"]) == "sslbench /data/x"


def test_gpus_are_named_where_torch_is_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 2, get_device_name=lambda i: f"gpu {i}"
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]
    assert collect()["device"]["gpus"] == ["gpu 0", "gpu 1"]
    monkeypatch.delitem(sys.modules, "torch")
    assert collect()["device"]["gpus"] == []


def test_collecting_does_not_import_torch() -> None:
    code = (
        "import sys; from bench.provenance import collect; collect(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# The source checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository that holds `bench/provenance.py`, as a source checkout does."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for key in [key for key in os.environ if key.startswith("GIT_")]:
        monkeypatch.delenv(key)
    for place in ("bench/provenance.py", "trainers/loop.py", "readme.md"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "bench", "trainers")
    git(tmp_path, "commit", "-q", "-m", "x")
    provenance._git_state.cache_clear()
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(root), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def state(root: Path) -> tuple[str | None, bool | None]:
    provenance._git_state.cache_clear()
    return provenance._git_state(root)


def test_the_commit_of_a_source_checkout_is_recorded(checkout: Path) -> None:
    assert state(checkout) == (git(checkout, "rev-parse", "HEAD"), False)


def test_changed_and_new_code_make_it_dirty_and_other_files_do_not(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "results").mkdir()
    (checkout / "results" / "x.json").touch()
    assert state(checkout) == (commit, False)
    (checkout / "trainers" / "new_method.py").touch()
    assert state(checkout) == (commit, True)
    (checkout / "trainers" / "new_method.py").unlink()
    (checkout / "trainers" / "loop.py").write_text("2")
    assert state(checkout) == (commit, True)


def test_a_hook_of_another_repository_does_not_mislead(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert state(checkout) == (commit, False)


def test_a_repository_that_only_contains_the_package_is_not_its_source(checkout: Path) -> None:
    git(checkout, "rm", "-q", "--cached", "bench/provenance.py")
    assert state(checkout) == (None, None)


def test_an_installed_package_has_no_commit(tmp_path: Path, checkout: Path) -> None:
    site = checkout / "site-packages"  # inside a repository, but not its top
    (site / "bench").mkdir(parents=True)
    assert state(site) == (None, None)


def test_a_machine_without_git_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert state(checkout) == (None, None)

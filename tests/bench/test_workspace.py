"""A cell's folder: one owner at a time, kept after a failure, gone after success."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.workspace import workspace


def test_it_is_removed_at_the_end_and_kept_with_its_content_after_a_failure(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "work/cell"

    def failing() -> None:
        with workspace(folder) as own:
            assert own == folder
            (folder / "state").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert (folder / "state").read_text() == "1"
    with workspace(folder) as own:
        assert own is not None
        assert (own / "state").read_text() == "1"
    assert not folder.exists()


def test_an_empty_folder_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), workspace(tmp_path / "cell"):
        raise RuntimeError
    assert not (tmp_path / "cell").exists()


def test_a_second_owner_gets_none_and_takes_nothing_away(tmp_path: Path) -> None:
    with workspace(tmp_path / "cell") as own:
        assert own is not None
        (own / "state").write_text("1")
        with workspace(tmp_path / "cell") as other:
            assert other is None
        assert (own / "state").exists()


def test_a_killed_owner_frees_it(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    program = (
        "import sys, time; from pathlib import Path; from bench.workspace import workspace\n"
        f"with workspace(Path({str(folder)!r})) as own:\n"
        "    (own / 'state').write_text('1'); print('ready', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    with workspace(folder) as own:
        assert own is None
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with workspace(folder) as own:
        assert own is not None
        assert (own / "state").exists()


def test_a_disk_that_cannot_lock_costs_the_continuing_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusing(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    monkeypatch.setattr(fcntl, "flock", refusing)
    with workspace(tmp_path / "cell") as own:
        assert own is None
    assert "No locks available" in capsys.readouterr().err


def test_only_what_is_open_for_writing_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def as_on_a_network(descriptor: int, how: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", as_on_a_network)
    with workspace(tmp_path / "work/cell") as own:
        assert own is not None
    assert not list((tmp_path / "work").iterdir())

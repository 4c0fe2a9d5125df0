"""Progress: plain lines with rate and ETA in logs, a bar on terminals, nothing on other ranks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bench import progress
from bench.errors import SSLBenchError
from bench.progress import Progress, say, track


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "_now", clock)
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    monkeypatch.delenv("RANK", raising=False)
    return clock


Capture = pytest.CaptureFixture[str]


def lines(capsys: Capture) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""  # stdout belongs to results
    return captured.err.splitlines()


def test_plain_lines_come_every_ten_seconds_with_rate_and_eta(
    clock: Clock, capsys: Capture
) -> None:
    with Progress("features", total=1000) as shown:
        for _ in range(10):
            clock.seconds += 4
            shown.advance(20, loss=0.123456, stage="val")
    assert lines(capsys) == [
        "features: 60/1000 (6 %), 5.0/s, ETA 3:08, loss=0.1235 stage=val",
        "features: 120/1000 (12 %), 5.0/s, ETA 2:56, loss=0.1235 stage=val",
        "features: 180/1000 (18 %), 5.0/s, ETA 2:44, loss=0.1235 stage=val",
        "features: 200/1000 (20 %), in 0:40, 5.0/s, loss=0.1235 stage=val",
    ]


def test_what_takes_under_a_second_is_not_worth_a_line(clock: Clock, capsys: Capture) -> None:
    assert list(track(range(3), label="fast")) == [0, 1, 2]
    assert lines(capsys) == []


def test_work_without_a_known_end_shows_no_eta(clock: Clock, capsys: Capture) -> None:
    def items() -> Iterator[int]:
        for item in range(3):
            clock.seconds += 11
            yield item

    assert list(track(items(), label="stream")) == [0, 1, 2]
    assert lines(capsys)[0] == "stream: 1, 0.1/s"
    assert progress._live is None


def test_a_resumed_piece_of_work_does_not_count_towards_the_rate(clock: Clock) -> None:
    shown = Progress("epochs", total=100, done=90)
    clock.seconds += 20
    shown.advance(5)
    assert shown.rate == pytest.approx(0.25)
    assert shown.line() == "epochs: 95/100 (95 %), 0.2/s, ETA 0:20"


def test_it_ends_once_and_by_itself_at_the_total(clock: Clock, capsys: Capture) -> None:
    shown = Progress("a", total=2)
    clock.seconds += 3723
    shown.advance(2)
    shown.advance(1)
    shown.close()
    assert lines(capsys) == ["a: 2/2 (100 %), in 1:02:03, 0.0/s"]


def test_a_failure_inside_shows_how_far_it_got(clock: Clock, capsys: Capture) -> None:
    def fail() -> None:
        with Progress("a", total=4) as shown:
            clock.seconds += 2
            shown.advance()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert lines(capsys) == ["a: 1/4 (25 %), in 0:02, 0.5/s"]


def test_nothing_to_do_is_no_division_by_zero(clock: Clock, capsys: Capture) -> None:
    assert list(track([], label="empty")) == []
    assert Progress("a", total=0).line() == "a: 0/0, 0.0/s"


# Who may speak, and how


def speak(clock: Clock) -> None:
    say("a message")
    with Progress("a", total=2) as shown:
        clock.seconds += 30
        shown.advance(1)


@pytest.mark.parametrize(("rank", "count"), [("0", 3), ("1", 0), ("7", 0), ("", 3), ("odd", 3)])
def test_only_rank_zero_speaks(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: Capture, rank: str, count: int
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())  # type: ignore[arg-type]
    monkeypatch.setenv("RANK", rank)
    speak(clock)
    assert len(lines(capsys)) == count


@pytest.mark.parametrize(("rank", "count"), [(0, 3), (1, 0)])
def test_an_initialised_process_group_knows_the_rank(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: Capture, rank: int, count: int
) -> None:
    group = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: rank
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(distributed=group))  # type: ignore[arg-type]
    monkeypatch.setenv("RANK", "5")
    speak(clock)
    assert len(lines(capsys)) == count


def test_mode_none_is_silent(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "none")
    speak(clock)
    assert lines(capsys) == []


def test_an_unknown_mode_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plane")
    with pytest.raises(SSLBenchError, match="SSLBENCH_PROGRESS is 'plane'; did you mean 'plain'"):
        Progress("a")


def test_a_log_gets_plain_lines_without_being_asked(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delenv("SSLBENCH_PROGRESS")
    speak(clock)
    assert lines(capsys)[0] == "a message"


def test_bars_share_the_screen_and_give_it_back(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "bar")
    monkeypatch.delenv("RANK", raising=False)
    for _ in track(range(2), label="outer [red]"):
        for _ in track(range(3), label="inner"):
            pass
        say("between [bold]")
    assert progress._live is None
    shown = "\n".join(lines(capsys))
    assert "between [bold]" in shown
    assert "outer [red]" in shown
    assert "2/2" in shown


def test_a_narrow_terminal_shows_count_and_all_fields(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "bar")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("RANK", raising=False)
    fields = {f"part_{i}": float(i) for i in range(9)}
    with Progress("train", total=4) as shown:
        shown.advance(3, **fields)
    screen = "\n".join(lines(capsys))
    assert "3/4" in screen
    assert all(f"{name}={i}" in screen for i, name in enumerate(fields))


def test_a_failure_gives_the_screen_back(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "bar")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ZeroDivisionError):
        [1 / item for item in track([1, 0], label="a")]
    del capsys
    assert progress._live is None


def test_plain_lines_import_neither_rich_nor_torch() -> None:
    code = (
        "import sys; from bench.progress import track; list(track(range(3), label='a'));"
        "print(sorted({'rich', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

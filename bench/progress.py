"""Progress for people and for logs: a bar on a terminal, plain lines with rate and ETA elsewhere.

Everything goes to stderr, from rank 0 only. `SSLBENCH_PROGRESS=none|plain|bar` overrides the
choice. rich is imported when a bar is drawn, never otherwise.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from bench.errors import SSLBenchError, nearest

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

T = TypeVar("T")
Field = float | int | str

MODES = ("none", "plain", "bar")
_LINE_SECONDS = 10.0  # a log of a day's run stays below 10,000 lines
_WORTH_SECONDS = 1.0  # what took less deserves no line of its own
_now = time.monotonic

# rich draws one live display per console, so all bars of the process share it
_live: RichProgress | None = None
_live_users = 0


def track(iterable: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
    """The items, counted while they pass; `total` defaults to the length where there is one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(label, total) as progress:
        for item in iterable:
            yield item
            progress.advance()


def say(message: str) -> None:
    """Prints one line to stderr, above any bar; silent on other ranks and with mode `none`."""
    mode = _mode()
    if mode == "none":
        return
    if _live is not None:
        _live.console.print(message, markup=False, highlight=False, soft_wrap=True)
    else:
        print(message, file=sys.stderr, flush=True)


class Progress:
    """Counts work towards a total and shows it.

    `done` is where a resumed piece of work starts: it counts as progress, not towards the rate.
    Ends by itself at the total; work without one, or that may stop early, goes in a `with` block.

    Example:
        with Progress("features", total=50_000) as progress:
            for images in loader:
                progress.advance(len(images), loss=0.5)
    """

    def __init__(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.label = label
        self.total = total
        self.done = done
        self.fields: dict[str, Field] = {}
        self._first = done
        self._start = self._last_line = _now()
        self._mode = _mode()
        self._task = _open_bar(self) if self._mode == "bar" else None
        self._closed = False

    def advance(self, n: int = 1, **fields: Field) -> None:
        """Counts `n` more; `fields` are shown beside the count until they are given anew."""
        self.done += n
        self.fields |= fields
        if self._closed:
            return
        if self.total is not None and self.done >= self.total:
            self.close()
        elif self._task is not None:
            _update_bar(self, self._task)
        elif self._mode == "plain" and _now() - self._last_line >= _LINE_SECONDS:
            self._last_line = _now()
            print(self.line(), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Shows the final state, in a log only after work of a second; later calls do nothing."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None:
            _close_bar(self, self._task)
        elif self._mode == "plain" and _now() - self._start >= _WORTH_SECONDS:
            print(self.line(final=True), file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Items a second since this object was made; 0 before the first."""
        seconds = _now() - self._start
        return (self.done - self._first) / seconds if seconds > 0 else 0.0

    def line(self, final: bool = False) -> str:
        """`features: 120/1000 (12 %), 40.0/s, ETA 0:22, loss=0.5`."""
        count = f"{self.done}"
        if self.total is not None:
            count = f"{self.done}/{self.total}"
            if self.total:
                count += f" ({100 * self.done / self.total:.0f} %)"
        parts = [f"{self.label}: {count}" if self.label else count]
        if final:
            parts.append(f"in {_clock(_now() - self._start)}")
        parts.append(f"{self.rate:.1f}/s")
        if not final and self.total is not None and self.rate > 0:
            parts.append(f"ETA {_clock((self.total - self.done) / self.rate)}")
        if self.fields:
            parts.append(_field_text(self.fields))
        return ", ".join(parts)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _mode() -> str:
    if _rank() != 0:
        return "none"
    asked = os.environ.get("SSLBENCH_PROGRESS", "")
    if not asked:
        return "bar" if sys.stderr.isatty() else "plain"
    if asked not in MODES:
        raise SSLBenchError(f"SSLBENCH_PROGRESS is {asked!r}; {nearest(asked, MODES)}")
    return asked


def _rank() -> int:
    """The rank of this process, without importing torch to ask."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    text = os.environ.get("RANK", "")
    return int(text) if text.isdecimal() else 0


def _clock(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _field_text(fields: dict[str, Field]) -> str:
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in fields.items()
    )


def _open_bar(progress: Progress) -> TaskID:
    global _live, _live_users
    if _live is None:
        _live = _new_live()
        _live.start()
        atexit.register(_live.stop)  # gives the cursor back whatever happens
    _live_users += 1
    return _live.add_task(
        progress.label, total=progress.total, completed=progress.done, rate="", fields_text=""
    )


def _update_bar(progress: Progress, task: TaskID) -> None:
    if _live is not None:
        _live.update(
            task,
            completed=progress.done,
            rate=f"{progress.rate:.1f}/s",
            fields_text=_field_text(progress.fields),
        )


def _close_bar(progress: Progress, task: TaskID) -> None:
    global _live, _live_users
    _update_bar(progress, task)
    _live_users -= 1
    if _live is None:
        return
    if _live_users:
        _live.remove_task(task)  # an inner bar: one for each epoch would fill the screen
    else:
        _live.stop()
        atexit.unregister(_live.stop)
        _live = None


def _new_live() -> RichProgress:
    from rich.console import Console
    from rich.padding import Padding
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Bars(RichProgress):
        """Bars with their fields in lines of their own, which no width cuts off."""

        def get_renderables(self) -> Iterator[RenderableType]:
            for task in self.tasks:
                yield self.make_tasks_table([task])
                if task.fields["fields_text"]:
                    yield Padding(Text(task.fields["fields_text"]), (0, 0, 0, 2))

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )

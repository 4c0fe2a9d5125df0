"""Worker processes with one simulator and one renderer each, and a watchdog over them.

OpenGL drivers hang and crash, in silence and for hours. A worker that does not answer in time is
named, ended and replaced, and what it was asked is asked again: episodes are deterministic.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from bench import gl
from bench.errors import DataError, SSLBenchError
from bench.progress import say
from tasks.robot.cloning.operator import Command, Demonstrate, Operator, Sight, Watch
from tasks.robot.simulators.rules import Rules
from tasks.robot.simulators.simulator import Frame

#: One thread in each worker: there are as many workers as cores.
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS"), "1")
_TRIES = 3  # of one command, the last with the other back-end


@dataclass(frozen=True)
class Patience:
    """Seconds that a worker may take: to start, to answer, and for each decision that it plays."""

    start: float = 180.0
    answer: float = 60.0
    decision: float = 5.0


class Worker(Protocol):
    """One simulator that takes commands."""

    @property
    def frame(self) -> Frame:
        """What it has drawn last; the next command draws over it."""

    def ask(self, commands: Sequence[Command]) -> None:
        """Sends a command. Those before it are what the same simulator must have done already."""


@dataclass(eq=False)
class _Process:
    """A worker process; `asked` is what to ask its successor."""

    crew: Crew
    number: int
    backend: str
    asked: Sequence[Command] = ()
    failures: int = 0
    busy: bool = False
    deadline: float = 0.0
    process: Any = field(default=None, repr=False)
    pipe: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        side = self.crew.rules.frame_px
        context = multiprocessing.get_context("spawn")
        self._shared = context.RawArray(ctypes.c_uint8, side**2 * 3)
        pixels = np.frombuffer(memoryview(self._shared), np.uint8)
        self._frame: Frame = pixels.reshape(side, side, 3)

    @property
    def frame(self) -> Frame:
        return self._frame

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, self._shared, self.crew.rules, self.crew.sight)
        name = f"{self.crew.rules.suite} worker {self.number}"
        self.process = context.Process(target=_serve, args=arguments, name=name, daemon=True)
        with _environment({gl.VARIABLE: self.backend, **_THREADS}):
            self.process.start()
        theirs.close()

    def ask(self, commands: Sequence[Command]) -> None:
        self.asked = commands
        self.failures = 0
        self._send(commands[-1:])

    def ask_again(self) -> None:
        """Asks all that the old process was asked of the episode."""
        self._send(self.asked)

    def allowed(self, commands: Sequence[Command]) -> float:
        """Seconds that the worker, as it is now, may take to answer."""
        patience = self.crew.patience
        seconds = patience.answer + (patience.start if self.process is None else 0.0)
        if isinstance(commands[-1], Demonstrate | Watch) or len(commands) > 1:
            seconds += patience.decision * self.crew.rules.decisions
        return seconds

    def _send(self, commands: Sequence[Command]) -> None:
        seconds = self.allowed(commands)
        if self.process is None:
            self.start()
        self.deadline = time.monotonic() + seconds
        self.busy = True
        try:
            self.pipe.send(list(commands))
        except OSError:  # it is dead: found when it is waited for
            self.deadline = 0.0

    def stop(self) -> None:
        """Ends the process in the midst of its work; the next command starts a new one."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
        self.process, self.busy = None, False

    def end(self) -> None:
        """Lets the process close its renderer, and stops it when it does not."""
        if self.process is not None and self.process.is_alive() and not self.busy:
            with suppress(OSError):
                self.pipe.send(None)
                self.process.join(5)
        self.stop()


@dataclass(eq=False)
class _Here:
    """The same without a process: commands are obeyed when they are waited for."""

    crew: Crew
    asked: Sequence[Command] = ()
    busy: bool = False

    def __post_init__(self) -> None:
        gl.settle(self.crew.backend)
        side = self.crew.rules.frame_px
        self.frame: Frame = np.zeros((side, side, 3), np.uint8)
        self.operator = Operator(self.crew.rules, self.crew.sight, self.frame)

    def ask(self, commands: Sequence[Command]) -> None:
        self.asked, self.busy = commands[-1:], True

    def end(self) -> None:
        self.operator.simulator.close()


class Crew:
    """Simulators of one task, in `count` processes, or in this one for 0.

    A context manager: outside of it no process is left, whatever happened inside. `notes` tells
    what a reader of the results should know, such as frames that another back-end drew.

    Raises:
        DataError: no OpenGL back-end draws.
    """

    def __init__(
        self, rules: Rules, sight: Sight, count: int, patience: Patience | None = None
    ) -> None:
        self.rules, self.sight, self.count = rules, sight, count
        self.patience = patience or Patience()
        self.backend = _backend(sight)
        self.workers: list[Any] = []
        self.notes: list[str] = []

    def __enter__(self) -> Crew:
        try:
            if self.count == 0:
                self.workers.append(_Here(self))
            for number in range(self.count):
                self.workers.append(_Process(self, number, self.backend))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all workers."""
        while self.workers:
            self.workers.pop().end()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Within, one piece of work; an error in it ends all workers, busy as some may be."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def answers(self) -> Iterator[tuple[Worker, Any]]:
        """(worker, answer) of those that are ready, at least one; waits for it.

        Raises:
            DataError: a command failed for good.
            Exception: what a worker raised.
        """
        busy = [worker for worker in self.workers if worker.busy]
        if self.count == 0:
            for worker in busy:
                worker.busy = False
                answer = [worker.operator.obey(command) for command in worker.asked][-1]
                yield worker, answer
            return
        while True:
            pause = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
            ready = connection.wait([worker.pipe for worker in busy], pause)
            for worker in busy:
                if worker.pipe not in ready and time.monotonic() >= worker.deadline:
                    self._replace(worker, "gave no answer in time")
            found = []
            for worker in busy:
                if worker.pipe in ready:
                    try:
                        found.append((worker, worker.pipe.recv()))
                    except (EOFError, OSError):
                        self._replace(worker, "died")
            if found:
                for worker, _ in found:
                    worker.busy = False
                for worker, answer in found:
                    if isinstance(answer, _Failure):
                        answer.again()
                    yield worker, answer
                return

    def _replace(self, worker: _Process, what: str) -> None:
        """Ends a worker that hangs or died, and asks a new one the same."""
        worker.failures += 1
        last = worker.asked[0] if worker.asked else None
        seed = getattr(last, "seed", "?")
        told = (
            f"{self.rules.suite} {self.rules.name}: the worker {worker.process.pid} (rendering "
            f"with {worker.backend}) {what} at the episode of seed {seed}"
        )
        others = [name for name in gl.BACKENDS if name != worker.backend]
        if worker.failures >= _TRIES:
            mends = "fewer --workers, or --workers 0"
            if self.sight == "frame" and worker.backend == self.backend:  # no other was tried
                needs = f" (after {gl.mend(others[0])})" if gl.failure(others[0]) else ""
                mends = f"{gl.VARIABLE}={others[0]}{needs}, {mends}"
            raise DataError(f"{told}, for the {_TRIES}rd time: try {mends}")
        if worker.failures == _TRIES - 1 and len(gl.candidates()) > 1:
            other = next((name for name in others if not gl.failure(name)), worker.backend)
            if self.sight == "frame" and other != worker.backend:
                self.notes.append(
                    f"{self.rules.name}: some frames were drawn with {other}, the others with "
                    f"{worker.backend}, which did not answer"
                )
            worker.backend = other
        say(f"{told}; a new one takes its place")
        worker.stop()
        worker.ask_again()


@dataclass(frozen=True)
class _Failure:
    """An error in a worker, on its way to the parent."""

    error: SSLBenchError | None
    text: str

    def again(self) -> None:
        """Raises it here."""
        if self.error is not None:
            raise self.error
        raise RuntimeError(f"in a worker process:\n{self.text}")


def _serve(pipe: Any, shared: Any, rules: Rules, sight: Sight) -> None:
    """The life of a worker process: it obeys until it is told to end, or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    canvas = np.frombuffer(shared, np.uint8).reshape(rules.frame_px, rules.frame_px, 3)
    operator: Operator | None = None
    try:
        while (commands := pipe.recv()) is not None:
            try:
                if operator is None:
                    operator = Operator(rules, sight, canvas)
                answer = [operator.obey(command) for command in commands][-1]
            except SSLBenchError as error:
                answer = _Failure(error, "")
            except Exception:
                answer = _Failure(None, traceback.format_exc())
            pipe.send(answer)
    except (EOFError, OSError):
        pass
    finally:
        if operator is not None:
            operator.simulator.close()


def _backend(sight: Sight) -> str:
    """The first back-end that draws; where none does, none, for a crew that need not draw."""
    try:
        return gl.backend()
    except DataError:
        if sight == "frame":
            raise
        return "disabled"


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Within, processes are started with these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

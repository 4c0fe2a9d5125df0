"""Fills the cells of one model: what tasks share is computed once, and each cell stands alone.

All that cells need is looked at before anything runs. Tasks that read the same images through the
same transform share one frozen pass, and probes that train on the same crops one stream.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench import failures, plan
from bench.errors import SSLBenchError
from bench.plan import Request
from bench.probing import Probe, run_probes
from bench.progress import say
from bench.recording import Cell, charge, result_of, shown, with_class_names
from bench.records import Identity, Outcome
from bench.sharing import SharedPass, shared_passes
from bench.store import Store
from bench.task import TaskData
from bench.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.checkpoint import LoadedModel
    from bench.engine import Report


class Filling:
    """The cells of one model and seed; the data of any data set leads to that of the others."""

    def __init__(self, model: LoadedModel, data: TaskData, store: Store, report: Report) -> None:
        self.model, self.data, self.store, self.report = model, data, store, report

    def fill(self, wanted: Sequence[Request]) -> None:
        """Make every cell that the store lacks; what goes wrong fails its own cells only.

        Cells that read others come last, so that these are not made for them once more.
        """
        cells = [cell for request in wanted if (cell := self._open(request))]
        for shared in shared_passes(self.model, cells):
            self._pass(shared)
        streams: dict[str, list[tuple[Cell, Probe]]] = {}
        readers: list[Cell] = []
        for cell in cells:
            with self._guarded(cell):
                if cell.request.task.cells(cell.data):
                    readers.append(cell)
                    continue
                with cell.timed():
                    probe = cell.request.task.probe(self.model, cell.data)
                if probe is None:
                    self._make(cell)
                else:
                    streams.setdefault(probe.stream.key, []).append((cell, probe))
        for group in streams.values():
            self._train(group)
        for cell in readers:
            if all(made.identity != cell.identity for made in self.report.ran):
                with self._guarded(cell):
                    self._make(cell)

    def outcome(self, model: LoadedModel, request: Request, data: TaskData) -> Outcome:
        """The outcome of a cell that another one reads: from the store, or made and stored."""
        identity, name = plan.identity(model, request, data), self._name(request)
        if (old := self.store.get(identity)) is not None:
            return self.store.outcome(old)
        if name in self.report.failed:
            raise SSLBenchError(f"it reads {name}, which failed: {self.report.failed[name]}")
        return self._make(Cell(request, data, identity, name))

    def _open(self, request: Request) -> Cell | None:
        """The cell, unless it is stored or cannot be."""
        data = self.data.beside(request.spec.dataset)
        data.runner = self.outcome
        name = self._name(request)
        try:
            identity = plan.identity(self.model, request, data)
            if (old := self.store.get(identity)) is None:
                return Cell(request, data, identity, name)
            self.report.stood.append(old)
            self._forget(request)
            _sweep(self._place(data, identity))
        except Exception as error:
            self._fail(request, error)
        return None

    def _name(self, request: Request) -> str:
        return f"{self.model.record.name} · {request.text} · seed {self.data.seed}"

    def _pass(self, shared: SharedPass[Cell]) -> None:
        """One frozen pass for all cells that read it; a failure is met again by each of them."""
        data = shared.users[0].data
        try:
            reads = {"vectors": shared.vectors, "tokens": shared.tokens}
            made = data.prepare(self.model, shared.split, shared.transform, **reads)
        except Exception:  # also a device without memory: some cells may need less
            return
        if made:
            names = ", ".join(dict.fromkeys(cell.request.spec.name for cell in shared.users))
            what = f"{shared.split.name} {shared.split.split}, {shared.transform.id}"
            say(f"one pass over {what}: {made['images']} images for {names}")
            charge(shared.users, f"pass over {what}", made["seconds"])

    def _train(self, group: Sequence[tuple[Cell, Probe]]) -> None:
        """Trains the probes of one stream together."""
        cells, probes = [cell for cell, _ in group], [probe for _, probe in group]
        stream = probes[0].stream
        what = f"{stream.split.name} {stream.split.split}, {stream.transform.id}"
        if len(group) > 1:
            names = ", ".join(cell.request.spec.name for cell in cells)
            say(f"one stream of {what} trains {names}")
        self._reset_peak(cells[0].data)
        with ExitStack() as rest:
            held = [rest.enter_context(ExitStack()) for _ in cells]
            folders = [
                own.enter_context(self._folder(cell)) for own, cell in zip(held, cells, strict=True)
            ]
            cells[0].data.skipped.clear()
            clock = time.perf_counter()
            try:
                found = run_probes(probes, self.model, cells[0].data, folders)
            except Exception as error:  # of the stream itself, so of every one of them
                found = [error] * len(group)
            seconds = time.perf_counter() - clock
            if len(group) > 1:
                charge(cells, f"stream of {what}", seconds)
            else:
                cells[0].seconds += seconds
            for own, cell, outcome in zip(held, cells, found, strict=True):
                cell.skipped += [t for t in cells[0].data.skipped if t not in cell.skipped]
                with self._guarded(cell), own:  # the folder of one that fails stays
                    if isinstance(outcome, Exception):
                        raise outcome
                    self._keep(cell, outcome)

    def _make(self, cell: Cell) -> Outcome:
        """Runs a task and stores what came out, with a folder to continue in after a kill."""
        data = cell.data
        self._reset_peak(data)
        with self._folder(cell) as folder:
            before, data.workspace = data.workspace, folder
            try:
                with cell.timed():
                    outcome = cell.request.task.run(self.model, data)
            finally:
                data.workspace = before
            self._keep(cell, outcome)
        return outcome

    @staticmethod
    def _reset_peak(data: TaskData) -> None:
        if data.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()

    @staticmethod
    def _place(data: TaskData, identity: Identity) -> Path:
        return data.cache.root / "work" / identity.digest

    def _folder(self, cell: Cell) -> AbstractContextManager[Path | None]:
        return workspace(self._place(cell.data, cell.identity))

    def _keep(self, cell: Cell, outcome: Outcome) -> None:
        """Scores and stores an outcome."""
        result = result_of(self.model, cell, outcome)
        split = cell.data.open(cell.request.task.needs[-1])
        self.store.write(result, with_class_names(outcome, split))
        self.report.ran.append(result)
        self._forget(cell.request)
        say(f"{cell.name}: {shown(result)} in {cell.seconds:.1f} s")
        for text in result.warnings:
            say(f"  warning: {text}")

    @contextmanager
    def _guarded(self, cell: Cell) -> Iterator[None]:
        """A defect of a task or a library must not take the other cells with it."""
        try:
            yield
        except Exception as error:
            self._fail(cell.request, error)

    def _fail(self, request: Request, error: Exception) -> None:
        """Notes a failed cell for the report, and for whoever looks at the store later."""
        name, record = self._name(request), self.model.record
        self.report.fail(name, error)
        failures.record(
            self.store.root,
            record.name,
            record.source,
            request.text,
            self.data.seed,
            self.report.failed[name],
            str((record.pretrain or {}).get("spec") or ""),
        )

    def _forget(self, request: Request) -> None:
        failures.forget(self.store.root, self.model.record.source, request.text, self.data.seed)


def _sweep(folder: Path) -> None:
    """Removes what a cell left that was killed between storing its result and removing this."""
    if folder.exists():
        with workspace(folder):
            pass

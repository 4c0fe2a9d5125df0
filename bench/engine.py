"""Runs cells in this process; a failing cell never stops the others."""

import json
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench import failures, plan
from bench.backbone import Backbone
from bench.checkpoint import LoadedModel, load_model
from bench.errors import SpecError, SSLBenchError
from bench.features import PRECISIONS, FeatureCache
from bench.filling import Filling
from bench.network import Network
from bench.plan import Request
from bench.progress import say
from bench.records import KeyReport, Metric, Outcome, Result
from bench.store import Store
from bench.task import TaskData
from bench.transforms import InputSpec

KNOWN = ", ".join(PRECISIONS)


@dataclass(frozen=True)
class Settings:
    """How cells are run; only ``precision``, ``seeds`` and ``skip_bad`` can change a number.

    Attributes:
        data: data root, by default the environment's.
        cache: folder of the feature cache.
        seeds: a cell is made for each.
        device: ``cpu``, ``cuda``, or empty for the best there is.
        batch_size: images a forward pass takes.
        workers: processes that load images, and those that simulate robots.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        skip_bad: unreadable images that are left out instead of failing the cell.
    """

    data: Path | None = None
    cache: Path = Path("results/.cache")
    seeds: tuple[int, ...] = (0,)
    device: str = ""
    batch_size: int = 128
    workers: int = 2
    precision: str = plan.FULL_PRECISION
    skip_bad: int = 0

    def __post_init__(self) -> None:
        wrong = [
            (self.precision not in PRECISIONS, f"precision {self.precision}: one of {KNOWN}"),
            (self.batch_size < 1, f"batch size {self.batch_size}: 1 or more"),
            (self.workers < 0, f"workers {self.workers}: 0 or more"),
            (self.skip_bad < 0, f"skip-bad {self.skip_bad}: 0 or more"),
            (
                self.device.partition(":")[0] not in ("", "cpu", "cuda"),
                f"device {self.device}: cpu or cuda",
            ),
        ]
        for is_wrong, why in wrong:
            if is_wrong:
                raise SpecError(why)


@dataclass
class Report:
    """What became of a request.

    Attributes:
        trained: run folders of models trained now.
        ran: results made now.
        stood: results that the store already had.
        failed: name of each failed cell, with the reason.
    """

    trained: list[Path] = field(default_factory=list)
    ran: list[Result] = field(default_factory=list)
    stood: list[Result] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def fail(self, cell: str, error: Exception) -> None:
        """Notes why a cell, or a whole model, could not be had; of a defect the trace is shown."""
        if isinstance(error, SSLBenchError):
            self.failed[cell] = str(error)
        else:
            self.failed[cell] = f"{type(error).__name__}: {error}"
            traceback.print_exception(error, file=sys.stderr)
        reasons = list(self.failed.values())
        told = reasons.count(self.failed[cell]) > 1
        say(f"failed {cell}: {'for the same reason' if told else self.failed[cell]}")

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "trained": list(map(str, self.trained)),
            "ran": [json.loads(result.to_json()) for result in self.ran],
            "stood": [json.loads(result.to_json()) for result in self.stood],
            "failed": self.failed,
        }

    def summary(self, results: Path) -> str:
        """What happened, in a few lines; cells that failed for one reason stand together."""
        made, stood, trained = len(self.ran), len(self.stood), len(self.trained)
        lines = [f"{made} {'cell' if made == 1 else 'cells'} run, {stood} already in {results}"]
        if not made and not self.failed:
            lines = [f"nothing to run: all {stood} cells are already in {results}"]
        if trained:
            lines.insert(0, f"{trained} {'model' if trained == 1 else 'models'} trained")
        cells: dict[str, list[str]] = {}
        for cell, reason in self.failed.items():
            cells.setdefault(reason, []).append(cell)
        lines += [f"failed: {'; '.join(names)}: {reason}" for reason, names in cells.items()]
        if made or stood:
            lines.append(f"next: sslbench board --results {results}")
        return "\n".join(lines)


class Evaluation:
    """Evaluates models one after the other; the splits stay open between them.

    Attributes:
        report: what became of all that was asked for so far.

    Raises:
        SpecError: the device is not there.
    """

    def __init__(self, store: Store, settings: Settings | None = None) -> None:
        self.store, self.settings = store, settings or Settings()
        best_device(self.settings.device)
        self.report = Report()
        self._cache = FeatureCache(self.settings.cache)
        self._spaces: list[TaskData] = []

    def fill(self, source: str, wanted: Sequence[Request]) -> None:
        """Fill the cells of a model that the store lacks; what goes wrong fails its cells only."""
        if not wanted:
            return
        try:
            model = load_model(source)
        except Exception as error:
            self.fail(source, source, [request.text for request in wanted], error)
            return
        if not self._spaces:
            seeds = self.settings.seeds
            self._spaces = [task_data(wanted[0], s, self.settings, self._cache) for s in seeds]
        for data in self._spaces:
            Filling(model, data, self.store, self.report).fill(wanted)

    def fail(
        self, model: str, source: str, tasks: Sequence[str], error: Exception, train: str = ""
    ) -> None:
        """Notes why these cells of a model could not even be begun."""
        name = f"{model} · {tasks[0]}" if len(tasks) == 1 else model
        self.report.fail(name, error)
        reason = self.report.failed[name]
        for task in tasks:
            for seed in self.settings.seeds:
                failures.record(self.store.root, model, source, task, seed, reason, train)


def evaluate(
    models: Sequence[str], tasks: Sequence[str], store: Store, settings: Settings | None = None
) -> Report:
    """Fill the cells ``models`` x ``tasks`` x seeds of ``store`` that are not there yet.

    Raises:
        SpecError: a task text is wrong; nothing has run then. Whatever goes wrong later, in a
            model, in the data or in a task, fails its own cells only.
    """
    wanted = plan.requests(tasks)
    evaluation = Evaluation(store, settings)
    for source in models:
        evaluation.fill(source, wanted)
    return evaluation.report


def task_data(request: Request, seed: int, settings: Settings, cache: FeatureCache) -> TaskData:
    """The splits of one data set and what tasks share of them."""
    return TaskData(
        parts=request.spec.dataset,
        data_root=settings.data,
        cache=cache,
        seed=seed,
        device=best_device(settings.device),
        batch_size=settings.batch_size,
        workers=settings.workers,
        precision=settings.precision,
        skip_bad=settings.skip_bad,
    )


def score_backbone(
    vit: Network, spec: InputSpec, tasks: str, data: Path | None
) -> dict[str, float]:
    """Headline metrics of a network in memory, without a store; for evaluation during training.

    Args:
        vit: the network; its training mode and the random generators are left as they were.
        spec: its input contract.
        tasks: comma list of task specs.
        data: data root.

    Returns:
        One value a task, under the task's text.
    """
    training, device = vit.training, next(vit.parameters()).device
    backbone = Backbone(vit, spec)
    model = LoadedModel.of(
        backbone, KeyReport(0, 0), name="online", source="memory", family="native", arch="online"
    )
    scores: dict[str, float] = {}
    try:
        with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
            cache = FeatureCache(Path(folder))
            settings = Settings(data=data, device=str(device), workers=0)
            for request in plan.requests([tasks]):
                data_of_task = task_data(request, 0, settings, cache)
                outcome: Outcome = request.task.run(model, data_of_task)
                metric: Metric = request.task.score(outcome)[request.task.headline]
                scores[request.text] = metric.value
    finally:
        vit.train(training)
    return scores


def best_device(asked: str = "") -> str:
    """``asked``, else ``cuda`` where there is one, else ``cpu``.

    Raises:
        SpecError: ``cuda`` is asked for and there is none.
    """
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise SpecError(f"--device {asked}: this machine has no such device that works, use cpu")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")

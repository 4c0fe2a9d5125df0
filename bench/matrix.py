"""Matrices: models x tasks x seeds, with models that are still to be trained among them.

`bench.matrix_file.read` reads one from TOML, `bench.matrix_plan.plan` says what it would take, and
`run` fills it. Importing this needs no torch.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import registry
from bench.disk import locked
from bench.errors import SpecError, SSLBenchError, TrainingError
from bench.progress import say
from bench.spec import parse, parse_list

if TYPE_CHECKING:
    from bench.engine import Evaluation, Report, Settings
    from bench.plan import Request
    from bench.store import Store

INTERRUPTED = 130  # the exit code of a command that a signal ended


@dataclass(frozen=True)
class Entry:
    """A model and what it is evaluated on.

    Attributes:
        name: in messages and plans.
        tasks: comma lists of task specs, as `sslbench eval --tasks` takes them.
        train: how it is pre-trained, `METHOD@DATASET?key=value`.
        source: a model that is there, as `sslbench eval` takes it. Exactly one of the two is given.
    """

    name: str
    tasks: tuple[str, ...]
    train: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if bool(self.train) == bool(self.source):
            found = "both" if self.train else "neither"
            raise SpecError(f"{self.name}: found {found} of train and source, give one of them")


@dataclass(frozen=True)
class Matrix:
    """Cells to be filled: each entry's tasks, with every seed of the evaluation."""

    entries: tuple[Entry, ...]
    seeds: tuple[int, ...] = (0,)


def canonical(train: str) -> str:
    """What a training spec trains, whatever it says of how: its checkpoint's `pretrain["spec"]`.

    Two specs of one canonical text are one run.
    """
    text: str = registry.attribute("trainers.recipe:canonical")(parse(train))
    return text


def run_folder(runs: Path, train: str) -> Path:
    """Where the run of a training spec lies: `runs/METHOD-<8 hex of its canonical text's sha256>`.

    So a model that several matrices and tables name is trained once.
    """
    digest = hashlib.sha256(canonical(train).encode()).hexdigest()
    return runs / f"{parse(train).name}-{digest[:8]}"


def is_trained(folder: Path) -> bool:
    """Whether a run folder holds its product."""
    return (folder / "checkpoint" / "checkpoint.json").is_file()


def run(matrix: Matrix, store: Store, settings: Settings, runs: Path) -> Report:
    """Train what lacks, evaluate, and go on after every failure; see `bench.failures`.

    Args:
        matrix: its seeds are used, those of `settings` are not.
        store: where results go; what is there is not run again.
        settings: how cells are run; `skip_bad` holds for training too.
        runs: folder of the run folders; partly trained ones are continued.

    Raises:
        SpecError: the device is not there.
        KeyboardInterrupt: SIGINT or SIGTERM came; the same call continues.
    """
    from bench.engine import Evaluation

    evaluation = Evaluation(store, replace(settings, seeds=matrix.seeds))
    with _terminable():
        for number, entry in enumerate(matrix.entries, 1):
            what = entry.train or entry.source
            name = f"{entry.name}: " if entry.name != what else ""
            say(f"[{number}/{len(matrix.entries)}] {name}{what}")
            _fill(evaluation, entry, runs)
    return evaluation.report


def _fill(evaluation: Evaluation, entry: Entry, runs: Path) -> None:
    """Train and evaluate one model."""
    wanted, refused = requests_of(entry)
    source = model = entry.source
    trained = ""
    try:
        if entry.train:
            trained, folder = canonical(entry.train), run_folder(runs, entry.train)
            source, model = str(folder), folder.name
            if wanted:  # nothing is trained for tasks that there are not
                _train(entry.train, folder, evaluation)
    except Exception as error:
        if isinstance(error, SSLBenchError) and error.exit_code == INTERRUPTED:
            raise KeyboardInterrupt from error
        tasks = [*(request.text for request in wanted), *refused]
        evaluation.fail(model or entry.name, source, tasks, error, trained)
        return
    for task, reason in refused.items():
        evaluation.fail(model, source, [task], reason, trained)
    evaluation.fill(source, wanted)


def requests_of(entry: Entry) -> tuple[list[Request], dict[str, SSLBenchError]]:
    """The tasks of an entry, and why those of its texts that are none are refused."""
    from bench import plan

    wanted: dict[str, Request] = {}
    refused: dict[str, SSLBenchError] = {}
    for text in entry.tasks:
        try:
            specs = parse_list(text)
        except SSLBenchError as error:
            refused[text] = error
            continue
        for spec in specs:
            try:
                request = plan.request(spec)
                wanted.setdefault(request.text, request)
            except SSLBenchError as error:
                refused[str(spec)] = error
    return list(wanted.values()), refused


def _train(train: str, folder: Path, evaluation: Evaluation) -> None:
    """Leave a trained run in the folder, unless it holds one.

    Raises:
        TrainingError: the run there is of another spec, or of other defaults.
    """
    settings = evaluation.settings
    # One of several processes trains; the others wait for it and find the run done.
    with locked(folder.with_name(f".{folder.name}"), f"trains {folder.name}"):
        if changed := registry.attribute("trainers.loop:changed_settings")(train, folder):
            raise TrainingError(
                f"{folder} was trained with other settings ({'; '.join(changed)}): a preset or a "
                "default has changed since; move the folder away to train anew"
            )
        if is_trained(folder):
            return
        resume = (folder / "config.json").exists()
        start = registry.attribute("trainers.loop:train")
        start(train, folder, data=settings.data, resume=resume, skip_bad=settings.skip_bad)
        evaluation.report.trained.append(folder)


@contextmanager
def _terminable() -> Iterator[None]:
    """Within, SIGTERM ends as Ctrl-C does: what is being written is finished or removed."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: leave signals alone
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

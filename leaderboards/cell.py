"""One stored cell: found by model and task, told in full, its predictions and masks written."""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench import registry, spec
from bench.errors import SpecError, StoreError, nearest
from bench.figure import files_of, publish
from bench.records import Outcome, Result
from bench.spec import Spec
from bench.store import Store
from bench.summary import Scored
from leaderboards.models import trained_as, without_seed

__all__ = ["StoredCell", "explain", "find", "of_model", "of_task"]

S = TypeVar("S", bound=Scored)


@dataclass(frozen=True, eq=False)
class StoredCell:
    """A result with its outcome, and the folder where both lie."""

    result: Result
    outcome: Outcome
    folder: Path


def explain(
    store: Store,
    model: str,
    task: str,
    identity: str = "",
    predictions: Path | None = None,
    confusion: Path | None = None,
    masks: Path | None = None,
) -> tuple[str, dict[str, Any]]:
    """What there is to say of one cell, as text and as JSON values.

    Args:
        store: where it lies.
        model: name of the model, with or without its seed, or the start of it; or what was
            evaluated (a run folder or another source), or how it was trained (`METHOD@DATASET...`).
        task: spec of the task, in any spelling of its options.
        identity: start of the digest, where several cells fit.
        predictions: CSV to write, one row a sample.
        confusion: PNG to write, with a CSV of the counts beside it.
        masks: folder to write, with the masks that the cell predicted.

    Raises:
        StoreError: no cell fits, or several; a file is there already, or cannot be written.
        SpecError: a wrong option of the task, or files that the outcome cannot fill.
    """
    from leaderboards.explanation import as_json, as_text

    found = find(store, model, task, identity)
    files = _files(found, predictions, confusion)
    with _masks(found, masks, files):
        publish(files, "another path")
    written = [str(path) for path in (*files, *([masks] if masks is not None else []))]
    text = "\n".join([as_text(found), *(f"wrote {path}" for path in written)])
    return text, {**as_json(found), "files": written}


def _masks(
    found: StoredCell, folder: Path | None, files: Collection[Path]
) -> contextlib.AbstractContextManager[None]:
    """Writes the masks when the block that it guards ends well; before it all is checked."""
    if folder is None:
        return contextlib.nullcontext()
    from leaderboards import masks

    masks.refuse_taken(folder)
    own = folder.absolute()
    if clash := [p for p in files if own in (p.absolute(), *p.absolute().parents)]:
        raise SpecError(f"{clash[0]} is in --masks {folder}, which must be a folder of its own")
    return masks.staged(folder, masks.masks(found.outcome, found.result.task_spec))


def _files(
    found: StoredCell, predictions: Path | None, confusion: Path | None
) -> dict[Path, bytes]:
    """The content of each file that was asked for; nothing is drawn for a path that is taken."""
    paths: list[Path] = []
    if confusion is not None:
        if confusion.suffix.lower() not in ("", ".png"):
            raise SpecError(f"--confusion {confusion}: it is a picture, write FILE.png")
        paths += files_of(confusion, (".png", ".csv"), "another --confusion").values()
    if predictions is not None:
        if predictions in paths:
            raise SpecError(
                f"--predictions {predictions}: the counts of --confusion go there; give another"
            )
        if predictions.exists():
            raise StoreError(f"{predictions} exists: choose another --predictions, or delete it")
    files: dict[Path, bytes] = {}
    if predictions is not None:
        from leaderboards.predictions import table

        files[predictions] = table(found.outcome)
    if confusion is not None:
        from leaderboards.confusion import Confusion
        from leaderboards.confusion_page import draw

        counted = Confusion.of(found.outcome, found.result.task_spec)
        files |= dict(zip(paths, (draw(counted, found.result), counted.csv()), strict=True))
    return files


def find(store: Store, model: str, task: str, identity: str = "") -> StoredCell:
    """The one cell of a model and a task; `StoreError` lists the candidates if there is no one."""
    results = list(store.results())
    if not results:
        raise StoreError(
            f"no results in {store.root}: fill it with `sslbench eval MODEL --tasks TASK@DATASET`"
            + _unreadable(store)
        )
    found = of_model(results, model)
    if not found:
        names = {str(result.model["name"]) for result in results}
        raise StoreError(f"no model {model!r} in {store.root}; {nearest(model, names)}")
    fitting = of_task(found, task)
    if not fitting:
        specs = {result.task_spec for result in found}
        raise StoreError(
            f"no cell {task} of {model} in {store.root}; {nearest(task, specs)}{_unreadable(store)}"
        )
    chosen = [result for result in fitting if result.identity.digest.startswith(identity)]
    if len(chosen) != 1:
        raise StoreError(_several(chosen or fitting, f"{task} of {model}", identity))
    (result,) = chosen
    folder = store.path(result.identity, str(result.model["name"]))
    return StoredCell(result, store.outcome(result), folder)


def of_model(results: Sequence[S], asked: str) -> list[S]:
    """The results of the model: the first reading of its name under which there are some."""
    place = Path(asked.rstrip("/"))
    folder = (place.parent if place.name == "checkpoint" else place).name
    readings: tuple[Callable[[S], bool], ...] = (
        lambda result: result.model["name"] == asked,
        lambda result: str(result.model.get("source", "")).rstrip("/") == asked.rstrip("/"),
        lambda result: result.model["name"] == folder,
        lambda result: without_seed(str(result.model["name"])) == asked,
        lambda result: asked in trained_as(result),
        lambda result: str(result.model["name"]).startswith(asked),
    )
    for reads in readings:
        if found := [result for result in results if reads(result)]:
            return found
    return []


def of_task(results: Sequence[Result], asked: str) -> list[Result]:
    """The results of the task, as it is written or else in its shortest form.

    One without a data set is looked for on all of them, one without options then with any.
    """
    found = [(spec.parse(result.task_spec), result) for result in results]
    written, shortest = spec.parse(asked), _shortest(asked)
    if not written.dataset:
        found = [(Spec(stored.name, (), stored.options), result) for stored, result in found]
    for wanted in (written, shortest):
        if exact := [result for stored, result in found if stored == wanted]:
            return exact
    if written.options or written.dataset:
        return []
    return [result for stored, result in found if stored.name == written.name]


def _shortest(text: str) -> Spec:
    """The spec with only what differs from the task's defaults, as results keep it."""
    asked = spec.parse(text)
    if asked.name not in registry.names("task"):
        return asked  # of a plug-in, or misspelt: then no cell has it
    task = spec.bind(registry.load("task", asked.name), dict(asked.options))
    return Spec(asked.name, asked.dataset, spec.unbind(task))


def _several(results: Sequence[Result], asked: str, identity: str) -> str:
    lines = [
        f"  {result.identity.digest[:10]}  {result.model['name']}  {result.task_spec}"
        f"  seed {result.identity.seed}  {result.headline} "
        f"{result.metrics[result.headline].value:.4f}"
        for result in results
    ]
    why = f"with an identity {identity}…" if identity else "alone"
    head = f"{asked}: no cell is found {why}; name the model and the task in full, or add"
    return "\n".join([f"{head} --identity with the start of one of", *lines])


def _unreadable(store: Store) -> str:
    return f" (not readable: {'; '.join(store.problems[:3])})" if store.problems else ""

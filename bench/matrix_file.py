"""Matrices in TOML files.

results = "results"                                # folders, relative to the working folder
runs = "runs"
seeds = [0, 1]                                     # of the evaluation
tasks = ["knn,linear@mini_objects", "corloc@mini_voc"]

[[models]]
train = "mae@mini_objects?preset=small:mini"
seeds = [0, 1]                                     # of pre-training: two models

[[models]]
source = "timm:vit_small_patch16_224.dino"
name = "DINO"
tasks = ["knn@imagenette"]                         # beside those of all models
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import registry
from bench.dataset import check_part
from bench.errors import SpecError, nearest
from bench.matrix import Entry, Matrix, run_folder
from bench.spec import DatasetPart, parse, with_options

_KEYS = {"results": str, "runs": str, "seeds": int, "tasks": str, "models": dict}
_MODEL_KEYS = {"train": str, "source": str, "name": str, "tasks": str, "seeds": int}
_LISTS = ("seeds", "tasks", "models")
_KINDS = {str: "text", int: "whole numbers", dict: "tables, [[models]]"}


@dataclass(frozen=True)
class Folders:
    """Where a matrix says that things lie."""

    results: Path = Path("results")
    runs: Path = Path("runs")


def read(path: Path) -> tuple[Matrix, Folders]:
    """The matrix of a TOML file, every spec in it checked.

    Raises:
        SpecError: the file cannot be read, or something in it does not exist; its place is named
            ("models[2].train" is of the second model).
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"matrix {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # also bytes that are no text
        raise SpecError(f"matrix {path} is not TOML: {error}") from error
    return matrix_of(values, str(path))


def matrix_of(values: Mapping[str, Any], where: str) -> tuple[Matrix, Folders]:
    """The matrix of what TOML says; `where` begins the place in errors."""
    _check(values, _KEYS, where)
    folders = Folders(**{key: Path(values[key]) for key in ("results", "runs") if key in values})
    shared = tuple(values.get("tasks", ()))
    _check_tasks(shared, f"{where}: tasks")
    models = values.get("models", [])
    if not models:
        raise SpecError(f'{where}: no models; write [[models]] with train = "METHOD@DATASET"')
    entries: list[Entry] = []
    for number, model in enumerate(models, 1):
        entries += _entries(model, shared, f"{where}: models[{number}]")
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"{where}: two models are called {name!r}; give one another name")
    return Matrix(tuple(entries), tuple(values.get("seeds", (0,)))), folders


def _entries(model: Mapping[str, Any], shared: Sequence[str], where: str) -> list[Entry]:
    """The entries of a model, one for each seed of its pre-training."""
    _check(model, _MODEL_KEYS, where)
    train, source = model.get("train", ""), model.get("source", "")
    if bool(train) == bool(source):
        found = "both" if train else "neither"
        raise SpecError(f"{where}: found {found} of train and source, give one of them")
    own = tuple(model.get("tasks", ()))
    _check_tasks(own, f"{where}.tasks")
    tasks = (*shared, *own)
    if not tasks:
        raise SpecError(f'{where}: no tasks, here or above; write tasks = ["TASK@DATASET"]')
    name = model.get("name", "")
    if source:
        _check_source(source, f"{where}.source")
        if "seeds" in model:
            raise SpecError(f"{where}.seeds: a model that is there is not trained; drop seeds")
        return [Entry(name or source, tasks, source=source)]
    _check_training(train, f"{where}.train")
    seeds = model.get("seeds", [])
    if seeds and "seed" in dict(parse(train).options):
        raise SpecError(f"{where}: seeds and the seed of train both say it; drop one")
    specs = {seed: with_options(train, (("seed", str(seed)),)) for seed in seeds} or {0: train}
    return [
        Entry(
            f"{name} seed {seed}" if name and len(specs) > 1 else name or _run_name(spec),
            tasks,
            train=spec,
        )
        for seed, spec in specs.items()
    ]


def _run_name(train: str) -> str:
    return run_folder(Path(), train).name


def _check(values: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    """Refuse unknown keys and values of another type, empty lists and repetitions."""
    inside = f"{where}." if where.endswith("]") else f"{where}: "
    for key, value in values.items():
        if key not in kinds:
            raise SpecError(f"{inside}{key}: there is no such key; {nearest(key, kinds)}")
        kind = kinds[key]
        if key not in _LISTS:
            if type(value) is not kind:
                raise SpecError(f"{inside}{key}: found {value!r}, expected {_KINDS[kind]}")
            continue
        expected = f"a list of {_KINDS[kind]}"
        if not isinstance(value, list) or any(type(item) is not kind for item in value):
            raise SpecError(f"{inside}{key}: found {value!r}, expected {expected}")
        if key == "seeds" and (not value or min(value) < 0 or len(set(value)) < len(value)):
            raise SpecError(f"{inside}{key}: found {value}, expected different numbers from 0 on")


def _check_tasks(texts: Sequence[str], where: str) -> None:
    from bench.plan import requests

    for text in texts:
        with _at(where):
            for request in requests([text]):
                _check_data(request.spec.dataset)


def _check_training(train: str, where: str) -> None:
    with _at(where):
        spec = parse(train)
        if not spec.dataset:
            raise SpecError(f"{spec.name} needs a data set: write {spec.name}@DATASET")
        registry.attribute("trainers.loop:resolve")(spec)
        _check_data(spec.dataset)


def _check_source(source: str, where: str) -> None:
    """A prefix must be a family's; that a path is there is for the run to find out."""
    prefix, colon, _ = source.partition(":")
    names = registry.names("family")
    if colon and "/" not in prefix and prefix not in names and not Path(source).exists():
        raise SpecError(f"{where}: no checkpoint family {prefix!r}; {nearest(prefix, names)}")


def _check_data(parts: Sequence[DatasetPart]) -> None:
    for part in parts:
        check_part(part)


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Names the place in what is raised inside."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error

"""What several files ask of the same evaluation, which is run once."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import registry
from bench.engine import Settings, evaluate
from bench.store import Store
from tests.conformance.tasks_on_mini import MODEL, Evaluated, spec_of


@pytest.fixture(scope="session")
def evaluated(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Evaluated]:
    """Evaluates a task by its name; one pass over each data set serves all of them."""
    folder = tmp_path_factory.mktemp("evaluated")
    settings = Settings(data=mini, cache=folder / ".cache", workers=0, device="cpu")

    @functools.cache
    def run(name: str) -> Evaluated:
        spec, store = spec_of(registry.load("task", name)), Store(folder / name)
        return Evaluated(spec, store, settings, evaluate([MODEL], [spec], store, settings))

    return run

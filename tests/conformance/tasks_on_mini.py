"""Every task on its part of the mini benchmark, by one untrained network."""

from dataclasses import dataclass

import pytest

from bench import registry
from bench.engine import Report, Settings
from bench.store import Store
from bench.task import Task

MODEL = "random:vit_mini_patch4_32"
# The tests of a task run in one process, which runs the task once for all of them.
NAMES = [
    pytest.param(name, marks=pytest.mark.xdist_group(f"task-{name}"))
    for name in registry.names("task")
]


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of one task, and what it takes to ask for it again."""

    spec: str
    store: Store
    settings: Settings
    report: Report


def spec_of(cls: type[Task]) -> str:
    """The task on its part of the mini benchmark, short where its defaults would take days."""
    name = cls.__module__.rpartition(".")[2]
    return f"{name}@{cls.mini}" + (f"?{cls.mini_options}" if cls.mini_options else "")

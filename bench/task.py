"""The contract of an evaluation task.

A task is a frozen dataclass: its fields *are* the protocol, so that two cells with the same fields
mean the same experiment. `run` turns a model into an `Outcome` (one row per evaluated sample), and
`score` turns a stored outcome into metrics without touching a model again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench.records import Metric, Outcome
from bench.task_data import TaskData

if TYPE_CHECKING:  # torch stays out: `sslbench ls` and the leaderboards read tasks without it
    from bench.checkpoint import LoadedModel
    from bench.dataset import Split
    from bench.probing import Probe
    from bench.transforms import Transform

__all__ = ["FrozenPass", "Task", "TaskData", "warnings_of", "with_warnings"]

WARNINGS = "warnings"


@dataclass(frozen=True, eq=False)
class FrozenPass:
    """Images whose frozen features a task reads: one pass serves all tasks that name the same.

    `transform` is None for the checkpoint's own evaluation input. `vectors` asks for whole-image
    features, `tokens` for all tokens.
    """

    split: Split
    transform: Transform | None = None
    tokens: bool = False
    vectors: bool = True


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One evaluation protocol; subclasses add the fields and live one to a file.

    Rules that every task keeps:

    - A changed number with unchanged fields raises `version`.
    - The outcome has a column `id`, and `value` holds each sample's share of the headline metric
      wherever that metric is a mean over samples (for accuracies: 1.0 right, 0.0 wrong). Paired
      comparisons rest on this.
    - What the reader of a number must know ("k was clipped", "selected on the test split") goes
      into the outcome through `with_warnings`, and comes back with `warnings_of`.
    - Wrong field values raise SpecError when the task is made, before any model runs.
    """

    version: ClassVar[int]
    headline: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("train", "val")
    mini: ClassVar[str] = "mini_objects"  # the part of the mini benchmark it runs on
    mini_options: ClassVar[str] = ""  # options for the conformance suite: "epochs=1&batch=64"

    @abstractmethod
    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Per-sample outcome of the model under this protocol."""

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        """The frozen passes that `run` reads, announced so that several tasks share them."""
        return ()

    def probe(self, model: LoadedModel, data: TaskData) -> Probe | None:
        """What `run` trains on a stream of frozen features, if that is what it does.

        Probes of equal streams are trained together; `run` is then
        `run_probe(self.probe(model, data), model, data)`.
        """
        return None

    def cells(self, data: TaskData) -> tuple[str, ...]:
        """Specs of other cells of the same model whose outcome `run` reads by `data.cell`."""
        return ()

    def facts(self, data: TaskData) -> dict[str, str]:
        """What changes the numbers beside fields and data, for the identity.

        Such as the manifest of another data set that `run` learns from, or what it takes from the
        data set's name, which is in no manifest.
        """
        return {}

    @abstractmethod
    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """Metrics of a stored outcome; pure, and among them the one named by `headline`."""


def with_warnings(outcome: Outcome, warnings: Iterable[str]) -> Outcome:
    """The same outcome carrying the warnings, so that they are stored with the numbers."""
    texts = [*warnings_of(outcome), *warnings]
    extras = {name: array for name, array in outcome.extras.items() if name != WARNINGS}
    if texts:
        extras[WARNINGS] = np.array(texts, dtype=np.str_)
    return Outcome(columns=outcome.columns, extras=extras)


def warnings_of(outcome: Outcome) -> list[str]:
    """What the task had to say about this outcome; empty when nothing."""
    return [str(text) for text in outcome.extras.get(WARNINGS, ())]

"""What the probes of all tokens share: fields, where images come from, choice and score."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from bench.errors import DataError, SpecError
from bench.records import Metric, Outcome
from bench.task import FrozenPass, Task, TaskData, with_warnings
from tasks.accuracy import accuracies
from tasks.token_protocols import Length, Selection, TokenProtocol

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.streams import Stream
    from bench.transforms import EvalTransform, SquareTransform
    from tasks.token_heads import TokenHead
    from tasks.token_probe import EvaluationTokens, TokenProbe, TokenWatch

Rows = npt.NDArray[np.int64]

CHOICE = 10_000  # held-out images that the choice looks at, at most


@dataclass(frozen=True, kw_only=True)
class TokenTask(Task):
    """A head on all tokens, one copy for each learning rate, all trained in one pass.

    A field that is not None replaces a number of the protocol that the subclass names.

    Attributes:
        selection: what chooses the head: held-out training images, or val (`test`).
        holdout: share of train that is held out, stratified and drawn with the seed, in (0, 0.5].
        evaluations: how often heads are evaluated: evenly spaced, at last after the last epoch.
        size_px: side of the input in pixels; `none` is the checkpoint's own.
        lrs: peak learning rates, each with a head of its own; the batch does not scale them.
        batch: images of a step.
        epochs: passes over the training images; more where they make fewer than `min_steps` steps.
        min_steps: fewest steps; `none` is 0 where `epochs` is given.
        weight_decay: of AdamW, on matrices only.
        warmup: share of the steps in which the rate rises from 0, in [0, 1).
        clip: largest norm of the gradients of one head; 0 does not clip.
    """

    headline: ClassVar[str] = "top1"
    mini_options: ClassVar[str] = "epochs=1&lrs=0.001"

    selection: Selection = "holdout"
    holdout: float = 0.1
    evaluations: int = 5
    size_px: int | None = None
    lrs: tuple[float, ...] | None = None
    batch: int | None = None
    epochs: int | None = None
    min_steps: int | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        numbers = self.numbers()
        wrong = [
            (not numbers.lrs or min(numbers.lrs) <= 0, f"lrs={numbers.lrs} must all be above 0"),
            (numbers.batch < 2, f"batch={numbers.batch} must be at least 2"),
            (numbers.epochs < 1, f"epochs={numbers.epochs} must be at least 1"),
            (numbers.min_steps < 0, f"min_steps={numbers.min_steps} must be 0 or more"),
            (numbers.weight_decay < 0, f"weight_decay={numbers.weight_decay} must be 0 or more"),
            (not 0 <= numbers.warmup < 1, f"warmup={numbers.warmup} is a share: in [0, 1)"),
            (numbers.clip < 0, f"clip={numbers.clip} must be 0 (none) or more"),
            (not 0 < self.holdout <= 0.5, f"holdout={self.holdout} must be in (0, 0.5]"),
            (self.evaluations < 1, f"evaluations={self.evaluations} must be at least 1"),
            *((True, why) for why in self.wrong()),
        ]
        for is_wrong, why in wrong:
            if is_wrong:
                raise SpecError(f"{type(self).__name__.lower()} ({self.label}): {why}")

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the protocol."""

    @abstractmethod
    def published(self) -> TokenProtocol:
        """The protocol, before fields replace its numbers."""

    @abstractmethod
    def wrong(self) -> Sequence[str]:
        """What is wrong with the subclass's own fields."""

    @abstractmethod
    def refusal(self, train: Split) -> str:
        """Why these data are none for the task, and which are; empty when they are."""

    @abstractmethod
    def view(self, model: LoadedModel, data: TaskData) -> EvalTransform | SquareTransform:
        """How images that are not cut at random come to the network."""

    @abstractmethod
    def head(self, model: LoadedModel, classes: int) -> Callable[[], TokenHead]:
        """Makes an untrained head for this backbone."""

    def pair(self, data: TaskData) -> tuple[Split, Split]:
        """Labelled train and val splits; DataError where there is nothing to tell apart."""
        train, test = data.pair()
        if len(train.classes) < 2:
            raise DataError(
                f"{train.name} has {len(train.classes)} class: a classifier needs two or more"
            )
        if why := self.refusal(train):
            raise DataError(f"{train.name}: {why}")
        return train, test

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        """Tokens of the evaluated images, and of train or its held-out slice."""
        train, test = self.pair(data)
        view = self.view(model, data)
        found = [FrozenPass(test, view, tokens=True, vectors=False)]
        if self.numbers().augmentation == "off":
            found.append(FrozenPass(train, view, tokens=True, vectors=False))
        elif self.selection == "holdout":
            _, held = self._slices(train.targets, data.seed)
            piece = self._piece(train, held, data.seed)
            found.append(FrozenPass(piece, view, tokens=True, vectors=False))
        return found

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Trains the sweep and predicts every labelled val image; columns as `score` reads them."""
        from bench.probing import run_probe

        return run_probe(self.probe(model, data), model, data)

    def probe(self, model: LoadedModel, data: TaskData) -> TokenProbe:
        """The sweep, ready to be trained."""
        from tasks.token_probe import EvaluationTokens, TokenProbe, TokenWatch
        from tasks.token_report import outcome_of, remarks
        from tasks.token_sweep import TokenSweep

        numbers, notes = self.numbers(), []
        if self.selection == "test":
            notes.append("selection=test: head and epoch were chosen on the evaluation split")
        train, test = self.pair(data)
        table = data.tokens(model, test, self.view(model, data))
        stream, held_out, length = self._sources(model, train, data, notes)
        build = self.head(model, len(train.classes))
        sweep = TokenSweep(build, numbers, data.seed, data.device, data.precision)
        tests = EvaluationTokens(table, np.arange(len(table)))

        def conclude(watch: TokenWatch) -> Outcome:
            outcome = outcome_of(watch, table.ids, len(train.classes), self.selection)
            return with_warnings(outcome, notes + remarks(watch, self.selection))

        watch = TokenWatch(sweep, tests, held_out)
        return TokenProbe(
            self.label, stream, length.epochs, numbers, watch, self.evaluations, conclude
        )

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`top1`, `top5` of the reported head, `final_top1`, and the test-selected `best_top1`."""
        return accuracies(outcome)

    def numbers(self) -> TokenProtocol:
        """The protocol's numbers with this task's fields in their place."""
        names = {f.name for f in fields(TokenProtocol)} & {f.name for f in fields(self)}
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.batch is not None:
            given["small_batch"] = self.batch
        if self.epochs is not None and self.min_steps is None:
            given["min_steps"] = 0
        return replace(self.published(), **given)

    # ---------------------------------------------------------------- where images come from

    def _sources(
        self, model: LoadedModel, train: Split, data: TaskData, notes: list[str]
    ) -> tuple[Stream, EvaluationTokens | None, Length]:
        """The training images, tokens of those to choose on if there are any, and the length."""
        from bench.streams import Stream
        from bench.transforms import TrainTransform
        from tasks.token_probe import EvaluationTokens

        numbers, view, held_out = self.numbers(), self.view(model, data), None
        if numbers.augmentation == "off":
            table = data.tokens(model, train, view)
            fit, held = self._slices(table.targets, data.seed)
            rows, cut = table.split_rows[fit], view
            if len(held):
                held_out = EvaluationTokens(table, drawn(table.ids, held, CHOICE))
        else:
            rows, held = self._slices(train.targets, data.seed)
            cut = TrainTransform(numbers.augmentation, view.spec.size_px)
            if len(held):
                table = data.tokens(model, self._piece(train, held, data.seed), view)
                held_out = EvaluationTokens(table, np.arange(len(table)))
        length = numbers.length(len(rows), len(train))
        if (asked := numbers.asked(len(train))) > length.batch:
            notes.append(
                f"the batch of {asked} exceeds the {len(rows)} training images; clipped to "
                f"{length.batch}"
            )
        stream = Stream(train, rows, cut, length.batch, length.iterations, data.seed)
        return stream, held_out, length

    def _slices(self, targets: Rows, seed: int) -> tuple[Rows, Rows]:
        """(rows to train on, rows held out), those of `linear`; none out with selection=test."""
        from tasks.feature_batches import held_out_slice

        if self.selection == "test":
            return np.arange(len(targets)), np.arange(0)
        return held_out_slice(targets, self.holdout, seed)

    def _piece(self, train: Split, held: Rows, seed: int) -> Split:
        """The held-out images that the choice looks at: `linear`'s piece where it is not larger."""
        name = f"{train.name}#held_out={self.holdout:g},seed={seed}"
        if len(held) > CHOICE:
            held, name = drawn(train.ids, held, CHOICE), f"{name},n={CHOICE}"
        return train.take(held, name)


def drawn(ids: Sequence[str], rows: Rows, most: int) -> Rows:
    """At most so many of the rows, those whose ids have the smallest sha256, in rising order."""
    if len(rows) <= most:
        return rows
    hashes = [hashlib.sha256(ids[row].encode("utf-8", "surrogateescape")).digest() for row in rows]
    first = sorted(range(len(rows)), key=hashes.__getitem__)[:most]
    return np.sort(rows[first])

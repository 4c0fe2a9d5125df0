"""Linear probing of frozen features, under each published protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from bench.errors import DataError, SpecError
from bench.recipes import blocks_of
from bench.records import Metric, Outcome
from bench.task import FrozenPass, Task, TaskData, with_warnings
from tasks.accuracy import accuracies, columns_of
from tasks.linear_protocols import PROTOCOLS, Augmentation, BatchNorm, Name, Protocol

if TYPE_CHECKING:
    from bench.backbone import Backbone
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.streams import Stream
    from bench.transforms import EvalTransform
    from tasks.probe import EvaluationSet, Pick, SweepProbe, Watch
    from tasks.sweep import HeadSweep


@dataclass(frozen=True, kw_only=True)
class Linear(Task):
    """Top-1 of a linear classifier on frozen features; every head of the sweep trains in one pass.

    The default protocol, `linear_cached`, trains on the stored centre-crop features that k-NN uses:
    cheap, and never comparable with the published protocols (`tasks/linear_protocols.py`), all of
    which forward freshly augmented images at every step. Those are evaluated on the stored features
    too.

    `selection=holdout` (default): the head with the best accuracy on held-out training images after
    the last epoch is reported on val as it is, without training it again on all of train.
    `selection=test` is what the papers' scripts do: all of train, and the best head and epoch on
    val; marked by a warning. Metrics:

    - `top1`, `top5` (more than five classes only): the reported head;
    - `final_top1`: the chosen head after the last epoch (`holdout`: the same as `top1`);
    - `best_top1`: the best over heads and evaluated epochs on val, always test-selected.

    What surprises: a batch beyond the training images is clipped, and the learning rate is scaled
    with the clipped batch; an incomplete last batch is left out, every epoch is shuffled anew.
    `extras` of the outcome hold the accuracies of every head and the reported head's weight and
    bias, with the normalisation folded in.

    Attributes:
        protocol: gives the value of each option that is `none`, unless said otherwise.
        selection: what chooses the head: held-out training images, or val (`test`).
        holdout: share of train that is held out, stratified and drawn with the seed, in (0, 0.5].
        eval_every: epochs between evaluations; there is always one after the last.
        size_px: side of the input in pixels; `none` is the checkpoint's own.
        crop_pct: centre crop over short side, in (0, 1]; `none` is the checkpoint's own.
        tokens: features, each with heads of its own: `cls`, `cls4` (CLS tokens of the last four
            blocks), the patches averaged after the final norm (`avg`) or before it (`avg_fcnorm`),
            or some joined, as in `cls:cls4+avg`. `auto` is `cls` where the checkpoint has a CLS
            token, else `avg`; `linear_dino` has `cls4` up to ViT-S and for Swins, else `cls+avg`.
        lrs: base learning rates, each with a head of its own for every feature.
        batch: images of a step.
        epochs: passes over the training images, unless `epoch_iterations` says how long they are.
        optimizer: `sgd`, or `lars`, which neither scales nor decays biases.
        momentum: of the optimiser.
        weight_decay: of the optimiser, added to the gradient.
        trust: of LARS: gradients are scaled to trust times the length of the weights.
        lr_rule: `scaled` multiplies `lrs` by batch / 256, `absolute` takes them as they are.
        schedule: whether the cosine is read once an `epoch` or at every `iteration`.
        warmup_epochs: epochs of linear warm-up, fewer than `epochs`.
        epoch_iterations: steps of an epoch; 0 makes it one pass over the training images.
        batch_norm: BatchNorm without affine parameters before the heads; `both` tries both.
        init: distribution of the first weights.
        init_std: its standard deviation.
        augmentation: random resized crops and flips of DINO (`rrc_bilinear`), DINOv2
            (`rrc_bicubic`) or MAE (`rrc_tf`); `off` trains on the stored centre crops.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "top1"

    protocol: Name = "linear_cached"
    selection: Literal["holdout", "test"] = "holdout"
    holdout: float = 0.1
    eval_every: int = 10
    size_px: int | None = None
    crop_pct: float | None = None
    tokens: tuple[str, ...] | None = None
    lrs: tuple[float, ...] | None = None
    batch: int | None = None
    epochs: int | None = None
    optimizer: Literal["sgd", "lars"] | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    trust: float | None = None
    lr_rule: Literal["scaled", "absolute"] | None = None
    schedule: Literal["epoch", "iteration"] | None = None
    warmup_epochs: float | None = None
    epoch_iterations: int | None = None
    batch_norm: BatchNorm | None = None
    init: Literal["normal", "trunc_normal"] | None = None
    init_std: float | None = None
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        recipe = self._recipe()
        for token in recipe.tokens:
            if token != "auto":
                blocks_of(token)
        wrong = [
            (not recipe.tokens, "tokens is empty"),
            (not recipe.lrs or min(recipe.lrs) <= 0, f"lrs={recipe.lrs} must all be above 0"),
            (recipe.batch < 2, f"batch={recipe.batch} must be at least 2"),
            (
                not 0 <= recipe.warmup_epochs < recipe.epochs,
                f"warmup_epochs={recipe.warmup_epochs:g} must be below epochs={recipe.epochs}; "
                "set both",
            ),
            (not 0 < self.holdout <= 0.5, f"holdout={self.holdout} must be in (0, 0.5]"),
            (self.eval_every < 1, f"eval_every={self.eval_every} must be at least 1"),
            ((recipe.epoch_iterations or 0) < 0, "epoch_iterations must be 0 or more"),
        ]
        for is_wrong, why in wrong:
            if is_wrong:
                raise SpecError(f"linear ({self.protocol}): {why}")

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        """The evaluated images, and the training images where they are not cut anew."""
        train, test = data.pair()
        transform = data.eval_transform(model, self.size_px, self.crop_pct)
        splits = (train, test) if self._recipe().augmentation == "off" else (test,)
        return [FrozenPass(split, transform) for split in splits]

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Trains the sweep and predicts every labelled val image; columns as `score` reads them."""
        from bench.probing import run_probe

        return run_probe(self.probe(model, data), model, data)

    def probe(self, model: LoadedModel, data: TaskData) -> SweepProbe:
        """The sweep, ready to be trained."""
        from tasks.probe import EvaluationSet, SweepProbe, Watch
        from tasks.sweep import HeadSweep

        recipe, notes = self._resolved(model.backbone)
        train, test = data.pair()
        transform = data.eval_transform(model, self.size_px, self.crop_pct)
        table = data.features(model, test, transform)
        tests = EvaluationSet.of(table, recipe.tokens)
        stream, held_out = self._sources(recipe, model, train, data, transform, notes)
        sweep = HeadSweep(
            recipe, tests.widths, len(train.classes), stream.batch, data.seed, data.device
        )

        def conclude(watch: Watch) -> Outcome:
            final = watch.final()
            reported = watch.best if self.selection == "test" else final
            columns = columns_of(
                *(table.ids, tests.target, reported.prediction, len(train.classes), reported.top5),
                final=final.prediction,
                best=watch.best.prediction,
            )
            outcome = Outcome(columns=columns, extras=watch.table() | reported.extras())
            return with_warnings(outcome, notes + _remarks(recipe, sweep, reported))

        watch = Watch(sweep, tests, held_out)
        return SweepProbe(sweep, stream, recipe, watch, self.eval_every, self.protocol, conclude)

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`top1`, `top5` of the reported head, `final_top1`, and the test-selected `best_top1`."""
        return accuracies(outcome)

    # ---------------------------------------------------------------- the protocol

    def _recipe(self) -> Protocol:
        """The protocol's numbers with this task's fields in their place."""
        names = {f.name for f in fields(Protocol)} & {f.name for f in fields(self)}
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.epochs is not None:
            given["large_epochs"] = None
        return replace(PROTOCOLS[self.protocol], **given)

    def _resolved(self, backbone: Backbone) -> tuple[Protocol, list[str]]:
        """The recipe for one backbone (its tokens and length settled), and what to say of it."""
        recipe, lost = self._recipe().for_backbone(backbone)
        notes = []
        if lost and self.tokens is not None:
            raise SpecError(
                f"linear: this backbone cannot give the tokens {', '.join(lost)} (no CLS token, or "
                f"too few blocks); ask for tokens={':'.join(recipe.tokens)}"
            )
        if lost:
            notes.append(
                f"the backbone cannot give the tokens {', '.join(lost)} of {self.protocol}; "
                f"used {', '.join(recipe.tokens)}"
            )
        if self.selection == "test":
            notes.append("selection=test: head and epoch were chosen on the evaluation split")
        return recipe, notes

    # ---------------------------------------------------------------- where features come from

    def _sources(
        self,
        recipe: Protocol,
        model: LoadedModel,
        train: Split,
        data: TaskData,
        transform: EvalTransform,
        notes: list[str],
    ) -> tuple[Stream, EvaluationSet | None]:
        """The training images, and stored features of the held-out slice if there is one."""
        from bench.streams import Stream
        from bench.transforms import TrainTransform
        from tasks.probe import EvaluationSet

        if recipe.augmentation == "off":
            table = data.features(model, train, transform)
            fit, held = self._slices(table.targets, data.seed)
            held_out = EvaluationSet.of(table, recipe.tokens, held)
            rows, crops = table.split_rows[fit], transform
        else:
            rows, held = self._slices(train.targets, data.seed)
            crops = TrainTransform(recipe.augmentation, transform.spec.size_px)
            if len(held):
                name = f"{train.name}#held_out={self.holdout:g},seed={data.seed}"
                table = data.features(model, train.take(held, name), transform)
                held_out = EvaluationSet.of(table, recipe.tokens)
        batch = _clipped(recipe.batch, len(rows), notes)
        length = recipe.epoch_iterations or len(rows) // batch
        stream = Stream(train, rows, crops, batch, length, data.seed)
        return stream, held_out if len(held) else None

    def _slices(self, targets: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows to train on, rows to choose on); none of the latter with selection=test."""
        from tasks.feature_batches import held_out_slice

        if self.selection == "test":
            return np.arange(len(targets)), np.arange(0)
        return held_out_slice(targets, self.holdout, seed)


def _clipped(batch: int, images: int, notes: list[str]) -> int:
    """The batch, at most all images; says so where it is cut."""
    if images < 2:
        raise DataError(f"{images} training images are too few for a linear probe; give 2 or more")
    if batch > images:
        notes.append(
            f"the batch of {batch} exceeds the {images} training images; clipped to {images}, and "
            "scaled learning rates shrink with it: the probe may be undertrained"
        )
    return min(batch, images)


def _remarks(recipe: Protocol, sweep: HeadSweep, reported: Pick) -> list[str]:
    """What to know of a trained sweep: heads that diverged, a grid that is too short."""
    notes = []
    if diverged := int((~sweep.finite()).sum()):
        notes.append(f"{diverged} of {len(sweep)} heads diverged and were left out")
    lr = sweep.infos[reported.head].lr
    if len(recipe.lrs) > 1 and lr in (min(recipe.lrs), max(recipe.lrs)):
        end = "smallest" if lr == min(recipe.lrs) else "largest"
        notes.append(f"the chosen learning rate {lr:g} is the {end} of the sweep: widen lrs")
    return notes

"""What the fine-tuning tasks share: fields that replace a protocol's numbers, and the run."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from bench.errors import DataError, SpecError
from bench.records import Metric, Outcome
from bench.task import Task, TaskData, with_warnings
from tasks.accuracy import accuracies, columns_of
from tasks.finetune_protocols import Crop, FinetuneProtocol, Schedule, Token, with_fields

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel

_RAND_AUGMENT = re.compile(r"off|rand(-(m|n|w|t|mstd|mmax|inc)[0-9.]+)*")


@dataclass(frozen=True, kw_only=True)
class FinetuneTask(Task):
    """A field that is not None replaces a number of the protocol; subclasses name the protocol.

    Attributes:
        selection: epoch that is reported: the last, or the best on val (`test`).
        eval_every: epochs between evaluations; there is always one after the last.
        size_px: side of the input in pixels; `none` is the checkpoint's own.
        crop_pct: centre crop over short side, in (0, 1]; `none` is the checkpoint's own.
        token: what the head reads: `cls`, or the patches averaged after the final norm (`avg`) or
            before a new one in its place (`avg_fcnorm`).
        lr: peak learning rate, for batches of `lr_per` images.
        lr_per: the rate is multiplied by batch / lr_per; 0 takes it as it is.
        batch: images of a step, an even number.
        epochs: passes over the training images, in which `repeats` counts every copy.
        warmup_epochs: epochs of linear warm-up, fewer than `epochs`.
        warmup_lr: learning rate at which the warm-up starts.
        min_lr: learning rate at which the cosine ends.
        schedule: form of warm-up and cosine. `mae` reads them at every iteration, `beit` too, with
            the peak an iteration earlier; `deit` reads them once an epoch, an epoch late.
        layer_decay: factor of the learning rate from a block to the one before it, in (0, 1]; 1 is
            off.
        weight_decay: of AdamW, on all but 1-D parameters.
        decay_positions: whether weight decay acts on positions and the CLS token too.
        beta2: of AdamW, in [0, 1).
        drop_path: stochastic depth of the last block, to which it rises from 0; in [0, 1).
        head: `linear` is one new layer; `first_layer` puts it behind the first linear layer of the
            pre-training head, where the checkpoint has that.
        head_std: standard deviation of the new layer's first weights.
        auto_augment: RandAugment in timm's words, such as rand-m9-mstd0.5-inc1, or `off`.
        mixup: alpha of mixup; 0 is off.
        cutmix: alpha of CutMix; 0 is off. With both, each batch takes either with equal chance.
        smoothing: of labels, in [0, 1).
        reprob: probability that a rectangle of an image is erased, in [0, 1].
        repeats: augmented copies of an image in a batch.
        crop: `rrc` resized crops, `pad` shifts of the image padded by 4 px, `auto` the latter up to
            32 px.
    """

    headline: ClassVar[str] = "top1"
    mini: ClassVar[str] = "mini_objects[n=96]"
    mini_options: ClassVar[str] = "epochs=1&warmup_epochs=0&batch=32&lr=0.001&lr_per=0&size_px=16"

    selection: Literal["final", "test"] = "final"
    eval_every: int = 10
    size_px: int | None = None
    crop_pct: float | None = None
    token: Token | None = None
    lr: float | None = None
    lr_per: int | None = None
    batch: int | None = None
    epochs: int | None = None
    warmup_epochs: float | None = None
    warmup_lr: float | None = None
    min_lr: float | None = None
    schedule: Schedule | None = None
    layer_decay: float | None = None
    weight_decay: float | None = None
    decay_positions: bool | None = None
    beta2: float | None = None
    drop_path: float | None = None
    head: Literal["linear", "first_layer"] | None = None
    head_std: float | None = None
    auto_augment: str | None = None
    mixup: float | None = None
    cutmix: float | None = None
    smoothing: float | None = None
    reprob: float | None = None
    repeats: int | None = None
    crop: Crop | None = None

    def __post_init__(self) -> None:
        for protocol in self.possible():
            for width in protocol.sizes or (0,):
                recipe = with_fields(protocol, self._given()).for_width(width)
                if why := _wrong(recipe) or self._wrong():
                    raise SpecError(f"{type(self).__name__.lower()} ({self.label}): {why}")

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the protocol."""

    @abstractmethod
    def possible(self) -> Sequence[FinetuneProtocol]:
        """The protocols that `choose` may give, so that wrong fields are found early."""

    @abstractmethod
    def choose(self, data: TaskData) -> tuple[FinetuneProtocol, list[str]]:
        """The protocol for these data, and what is to be said of it."""

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Fine-tunes a copy of the model and predicts every labelled val image."""
        import torch

        from tasks.finetune_batches import TrainBatches
        from tasks.finetune_network import Classifier
        from tasks.finetuning import EvalImages, FineTuner

        train, test = data.pair()
        protocol, notes = self.choose(data)
        recipe = with_fields(protocol, self._given()).for_width(model.backbone.embed_dim)
        transform = data.eval_transform(model, self.size_px, self.crop_pct)
        notes += self._remarks(recipe, model, data)
        batch = _clipped(recipe, len(train), len(train.classes), notes)
        batches = TrainBatches(train, recipe, transform.spec, data, batch)
        generator = torch.Generator().manual_seed(data.seed)
        network = Classifier(
            model.backbone, recipe, len(train.classes), transform.spec.size_px, generator
        )
        tests = EvalImages(test, transform, data)
        history = FineTuner(network, recipe, batches, tests, data).run(self.eval_every, self.label)
        reported = history.best if self.selection == "test" else history.final
        columns = columns_of(
            [test.ids[row] for row in tests.rows],
            tests.target,
            reported["prediction"].numpy(),
            len(train.classes),
            reported["top5"].numpy(),
            final=history.final["prediction"].numpy(),
            best=history.best["prediction"].numpy(),
        )
        extras = {
            "train_loss": np.array(history.loss),
            "evaluated_epochs": np.array(history.epochs),
            "test_accuracy": np.array(history.accuracy),
            "batch": np.array(batch),
            "lr": np.array(recipe.peak(batch)),
        }
        return with_warnings(Outcome(columns=columns, extras=extras), notes)

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`top1`, `top5` as reported, `final_top1`, and the test-selected `best_top1`."""
        return accuracies(outcome)

    def _given(self) -> dict[str, object]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def _wrong(self) -> str:
        if self.beta2 is not None and not 0 <= self.beta2 < 1:
            return f"beta2={self.beta2} must be in [0, 1)"
        if self.head_std is not None and self.head_std < 0:
            return f"head_std={self.head_std} must be 0 or more"
        if self.eval_every < 1:
            return f"eval_every={self.eval_every} must be at least 1"
        return ""

    def _remarks(self, recipe: FinetuneProtocol, model: LoadedModel, data: TaskData) -> list[str]:
        """What to know of the run; SpecError where the backbone cannot do it."""
        notes = []
        if not model.backbone.available(recipe.token):
            raise SpecError(
                f"{self.label} reads the token {recipe.token}, which this backbone lacks: ask for "
                "token=avg_fcnorm"
            )
        if recipe.head == "first_layer" and "head" not in model.backbone.extras:
            notes.append(
                "the checkpoint has no projection head whose first layer could be kept: a plain "
                "linear head was trained instead"
            )
        if self.selection == "test":
            notes.append("selection=test: the epoch was chosen on the evaluation split")
        if data.precision == "fp16":
            notes.append("trained in bf16: gradients would underflow in fp16")
        return notes


def _wrong(recipe: FinetuneProtocol) -> str:
    """What is wrong with the numbers; empty when nothing is."""
    r = recipe
    wrong = [
        (r.lr <= 0, f"lr={r.lr:g} must be above 0"),
        (r.lr_per < 0, f"lr_per={r.lr_per} must be 0 or more"),
        (r.batch < 2 or r.batch % 2 == 1, f"batch={r.batch} must be even, for mixup pairs images"),
        (
            not 0 <= r.warmup_epochs < r.epochs,
            f"warmup_epochs={r.warmup_epochs:g} must be below epochs={r.epochs}; set both",
        ),
        (not 0 < r.layer_decay <= 1, f"layer_decay={r.layer_decay:g} must be in (0, 1]"),
        (not 0 <= r.drop_path < 1, f"drop_path={r.drop_path:g} must be in [0, 1)"),
        (not 0 <= r.smoothing < 1, f"smoothing={r.smoothing:g} must be in [0, 1)"),
        (not 0 <= r.reprob <= 1, f"reprob={r.reprob:g} must be in [0, 1]"),
        (min(r.mixup, r.cutmix) < 0, "mixup and cutmix must be 0 or more"),
        (min(r.warmup_lr, r.min_lr, r.weight_decay) < 0, "rates must be 0 or more"),
        (r.repeats < 1, f"repeats={r.repeats} must be at least 1"),
        (
            not _RAND_AUGMENT.fullmatch(r.auto_augment),
            f"auto_augment={r.auto_augment} must be off, or such as rand-m9-mstd0.5-inc1",
        ),
    ]
    return next((why for is_wrong, why in wrong if is_wrong), "")


def _clipped(recipe: FinetuneProtocol, images: int, classes: int, notes: list[str]) -> int:
    """The batch, at most an epoch and even; says so where it is cut."""
    if classes < 2:
        raise DataError(
            f"fine-tuning tells classes apart, and the training images have {classes}: take a data "
            "set with two or more"
        )
    most = images // 256 * 256 if recipe.repeats > 1 and images >= 256 else images
    most -= most % 2
    if most < 2:
        raise DataError(f"{images} training images are too few to fine-tune on; give 2 or more")
    if recipe.batch > most:
        notes.append(
            f"the batch of {recipe.batch} exceeds an epoch of {images} training images; clipped to "
            f"{most}, and scaled learning rates shrink with it"
        )
    return min(recipe.batch, most)

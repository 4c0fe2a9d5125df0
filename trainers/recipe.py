"""Recipe: all that decides how a run goes; configuration, command line and identity in one."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from bench.errors import SpecError
from bench.spec import Spec
from bench.values import to_text
from trainers.blocks import schedules

Schedule = Literal["dino", "mae"]

# Fields that change how fast a run goes, never what comes out of it.
NEUTRAL = frozenset(
    {"workers", "online", "online_every", "save_seconds", "log_every", "tensorboard"}
)
# What numbers can be, by the names of fields, in the recipes of all methods; first match counts.
RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (r"epochs|crop_pct|(.*_)?temp(erature|_start)?", lambda x: x > 0, "more than 0"),
    (r"prototypes|out_dim", lambda x: x >= 2, "at least 2"),
    (
        r"batch_size|accumulate|log_every|decoder_heads|(.*_)?(dim|hidden)",
        lambda x: x >= 1,
        "at least 1",
    ),
    (
        r"seed|workers|heads|clip|local_(crops|size)|(.*_)?(lr|epochs|weight|decay|sigma)",
        lambda x: x >= 0,
        "at least 0",
    ),
    (r"beta[12]|drop_path", lambda x: 0 <= x < 1, "at least 0 and below 1"),
    (r"(.*_)?momentum", lambda x: 0 <= x <= 1, "0 to 1"),
    (
        r"(.*_)?area",
        lambda x: 0 < x[0] <= x[1] <= 1,
        "two shares of an image, the smaller first, such as 0.2:1.0",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimisation settings shared by all methods; a method adds its own switches in a subclass.

    Attributes:
        arch: backbone, such as ``vit_small_patch16_224``; DINO, iBOT, SOVE and MaSSL also take
            ``swin_tiny_patch4_window14_224``.
        epochs: passes over the training images; a fraction is allowed.
        batch_size: images an optimiser step sees, over all devices and accumulated parts.
        lr: base learning rate, for 256 images.
        lr_rule: how it scales with the batch: ``linear`` (x B/256), ``sqrt`` or ``none``.
        min_lr: where the cosine ends; not scaled.
        warmup_epochs: epochs of linear warm-up.
        schedule: form of warm-up and cosine, see ``trainers.blocks.schedules``.
        beta1: of AdamW.
        beta2: of AdamW.
        weight_decay: at the start.
        weight_decay_end: at the end, along a cosine; None keeps it constant.
        decay_1d: whether biases and other 1-D parameters are decayed too (MoCo v3).
        clip: largest gradient norm; 0 does not clip.
        clip_mode: norm of each ``parameter`` by itself (DINO family) or of all together
            (``global``).
        drop_path: stochastic depth of the student.
        precision: ``32-true`` or ``bf16-mixed``.
        accumulate: parts in which a batch is processed; contrasts, batch statistics, Sinkhorn and
            means over varying numbers of patches see one part at a time.
        crop_pct: centre crop at evaluation, kept with the checkpoint; None leaves it to the size.
        seed: of weights, order, views and masks.
        workers: loader processes.
        online: tasks run during training, for example ``knn@imagenette``; results go to the metrics
            file.
        online_every: epochs between such runs.
        save_seconds: time between saved states.
        log_every: steps between lines of the metrics file.
        tensorboard: whether the metrics go to TensorBoard files too.

    Raises:
        SpecError: a number is outside of what makes sense.
    """

    arch: str = "vit_base_patch16_224"
    epochs: float = 300.0
    batch_size: int = 1024
    lr: float = 5e-4
    lr_rule: Literal["linear", "sqrt", "none"] = "linear"
    min_lr: float = 1e-6
    warmup_epochs: float = 10.0
    schedule: Schedule = "dino"
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.04
    weight_decay_end: float | None = None
    decay_1d: bool = False
    clip: float = 0.0
    clip_mode: Literal["parameter", "global"] = "parameter"
    drop_path: float = 0.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accumulate: int = 1
    crop_pct: float | None = None
    seed: int = 0
    workers: int = 2
    online: str = ""
    online_every: float = 10.0
    save_seconds: float = 120.0
    log_every: int = 10
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or isinstance(value, str):
                continue
            for names, allows, expected in RANGES:
                if re.fullmatch(names, field.name):
                    if not allows(value):
                        raise SpecError(f"{field.name}={to_text(value)}: expected {expected}")
                    break

    def peak_lr(self) -> float:
        """Learning rate after the warm-up, for this batch size."""
        factor = {
            "linear": self.batch_size / 256,
            "sqrt": (self.batch_size / 256) ** 0.5,
            "none": 1.0,
        }
        return self.lr * factor[self.lr_rule]


def canonical(spec: Spec) -> str:
    """What ``spec`` trains: its text without neutral fields and without the first seed written out.

    Two specs of one canonical text are one run; a checkpoint keeps it as ``pretrain["spec"]``.
    """
    options = (pair for pair in spec.options if pair[0] not in NEUTRAL and pair != ("seed", "0"))
    return str(Spec(spec.name, spec.dataset, tuple(options)))


@dataclass(frozen=True)
class Plan:
    """A recipe laid out in steps over a data set of a known size.

    Attributes:
        recipe: the settings.
        images: training images.
        steps_per_epoch: optimiser steps in an epoch; the incomplete last batch is dropped.
        steps: optimiser steps of the whole run.
    """

    recipe: Recipe
    images: int
    steps_per_epoch: int
    steps: int

    @classmethod
    def of(cls, recipe: Recipe, images: int) -> "Plan":
        """Lay out ``recipe`` over ``images``; needs at least one full batch."""
        per_epoch = images // recipe.batch_size
        return cls(recipe, images, per_epoch, max(1, round(recipe.epochs * per_epoch)))

    def epoch(self, step: int) -> float:
        """Epochs done before ``step``."""
        return step / self.steps_per_epoch

    def at_epoch(self, epochs: float) -> int:
        """The step at which ``epochs`` are done."""
        return round(epochs * self.steps_per_epoch)

    def lr(self, step: int) -> float:
        """Learning rate of ``step``."""
        recipe = self.recipe
        warmup = min(self.at_epoch(recipe.warmup_epochs), self.steps)
        return schedules.warmup_cosine(
            step, recipe.peak_lr(), recipe.min_lr, self.steps, warmup, recipe.schedule
        )

    def weight_decay(self, step: int) -> float:
        """Weight decay of ``step``."""
        end = self.recipe.weight_decay_end
        start = self.recipe.weight_decay
        return start if end is None else schedules.cosine(step, start, end, self.steps)

"""ImageNet-9: how much a classifier rests on the background."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bench.errors import DataError, SpecError
from bench.records import Metric, Outcome
from bench.spec import DatasetPart, Spec, parse_dataset
from bench.stats import accuracy_metric, bootstrap_metric
from bench.task import FrozenPass, Task, TaskData, with_warnings
from tasks.linear_protocols import Name

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.feature_table import FeatureTable
    from bench.split import Split
    from bench.transforms import EvalTransform

Ints = npt.NDArray[np.int64]

SAME, RAND = "mixed_same", "mixed_rand"
CHUNK = 4096
_IMAGENET_STEM = re.compile(r"n\d{8}_\d+")


@runtime_checkable
class BackgroundSet(Protocol):
    """What a dataset says beside its images for this task (`bench/data/imagenet9.py`)."""

    trained_on: ClassVar[str]

    def super_classes_of(self, classes: Sequence[str]) -> Ints:
        """Super-class of each class of a head, -1 for none."""


@dataclass(frozen=True, kw_only=True)
class ImageNet9(Task):
    """Accuracy over nine super-classes on images of swapped backgrounds (Xiao et al., 2020).

    The classifier is the reported head of the cell `linear@TRAINED_ON`, which is found in the
    store or made first. The largest of all the head's classes is mapped to a super-class; one that
    belongs to none counts as wrong. A head of fewer classes (`imagenette`) works; super-classes
    that it cannot name are all wrong, with a warning.

    Metrics: the accuracy of each variant, under its name, and `bg_gap`, mixed_same - mixed_rand,
    resampled by foreground. The headline is `mixed_rand`: there only the foreground tells the
    class. Lower is better for `bg_gap`, and neither `only_bg_b` nor `only_bg_t` is to be high:
    they show what is right for the wrong reason.

    What surprises: images are taken whole, neither enlarged nor cropped, at the model's own input
    side; images of another side are resized to it, with a warning. `value` is NaN outside of
    `mixed_rand`, so that paired comparisons rest on the headline.

    Attributes:
        protocol: `linear`'s, under which the head is trained.
        selection: `linear`'s: what chooses the head, held-out training images or val (`test`).
        trained_on: data set that the head is trained on; `auto` is what the dataset says:
            ImageNet-1k, and for the mini benchmark its objects.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = RAND
    needs: ClassVar[tuple[str, ...]] = ("val",)
    mini: ClassVar[str] = "mini_in9"

    protocol: Name = "linear_cached"
    selection: Literal["holdout", "test"] = "holdout"
    trained_on: str = "auto"

    def __post_init__(self) -> None:
        if self.trained_on != "auto":
            parse_dataset(self.trained_on)

    def cells(self, data: TaskData) -> tuple[str, ...]:
        """The linear probe whose head is used."""
        options = {"protocol": self.protocol, "selection": self.selection}
        return (str(Spec("linear", self._trained_on(data), tuple(options.items()))),)

    def facts(self, data: TaskData) -> dict[str, str]:
        """The super-class of each of the head's classes, which a file of the data set may say."""
        named, _ = self._super_classes(data)
        return {"super_classes": hashlib.sha256(named.tobytes()).hexdigest()[:12]}

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        """All variants, whole."""
        return [FrozenPass(data.labelled("val"), self._transform(model, data))]

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Head class and super-class of every image of every variant."""
        split = data.labelled("val")
        (spec,) = self.cells(data)
        head = data.cell(model, spec).extras
        named, notes = self._super_classes(data)
        transform = self._transform(model, data)
        table = data.features(model, split, transform)
        notes += _side_notes(split, table, transform.spec.size_px)
        token = str(head["head_token"][int(head["reported_head"])])
        found = classify(table, token, head["weight"], head["bias"])  # (n,)
        prediction, target = named[found], np.asarray(table.targets, dtype=np.int64)
        correct = prediction == target
        variant, stem = np.array([_variant_and_stem(id_) for id_ in table.ids], dtype=np.str_).T
        if RAND not in variant:
            raise DataError(
                f"{split.name} has no images of {RAND}, the headline: take all variants"
            )
        outcome = Outcome(
            columns={
                "id": np.asarray(table.ids, dtype=np.str_),
                "target": target,
                "prediction": prediction,
                "head_prediction": found,
                "correct": correct,
                "value": np.where(variant == RAND, correct.astype(np.float64), np.nan),
                "variant": variant,
                "stem": stem,
            },
            extras={"head": np.array(spec), "token": np.array(token)},
        )
        if self.selection == "test":
            notes.append("selection=test: the head was chosen on the evaluation split of its data")
        return with_warnings(outcome, notes)

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """The accuracy of every variant, and `bg_gap` with a bootstrap over foregrounds."""
        variant, correct = outcome.columns["variant"], outcome.columns["correct"]
        metrics = {
            str(name): accuracy_metric(correct[variant == name]) for name in np.unique(variant)
        }
        if {SAME, RAND} <= metrics.keys():
            metrics["bg_gap"] = _gap(outcome)
        return metrics

    # ---------------------------------------------------------------- the head

    def _trained_on(self, data: TaskData) -> tuple[DatasetPart, ...]:
        own = _background_set(data).trained_on
        return parse_dataset(own if self.trained_on == "auto" else self.trained_on)

    def _super_classes(self, data: TaskData) -> tuple[Ints, list[str]]:
        """Super-class of each of the head's classes, (c,), and what they cannot name."""
        classes = data.beside(self._trained_on(data)).labelled("train").classes
        named = _background_set(data).super_classes_of(classes)
        lost = [name for i, name in enumerate(data.open("val").classes) if i not in named]
        if not lost:
            return named, []
        note = f"the head has no class of {', '.join(lost)}: all of their images count as wrong"
        return named, [note]

    def _transform(self, model: LoadedModel, data: TaskData) -> EvalTransform:
        return data.eval_transform(model, crop_pct=1.0)


def classify(
    table: FeatureTable, token: str, weight: npt.NDArray[np.floating], bias: npt.ArrayLike
) -> Ints:
    """The largest of the head's classes (n,) for every image, in float64; of equals the lower."""
    x, wide = table.get(token), np.asarray(weight, dtype=np.float64)  # (n, d), (c, d)
    pieces = [
        (np.asarray(x[start : start + CHUNK], dtype=np.float64) @ wide.T + bias).argmax(axis=1)
        for start in range(0, len(x), CHUNK)
    ]
    return np.concatenate(pieces)


def _background_set(data: TaskData) -> BackgroundSet:
    dataset, _, _ = data.open("val").source(0)
    if len(data.parts) > 1 or not isinstance(dataset, BackgroundSet):
        text = "+".join(map(str, data.parts))
        raise SpecError(f"imagenet9 runs on ImageNet-9 alone, not on {text}: imagenet9@imagenet9")
    return dataset


def _variant_and_stem(id_: str) -> tuple[str, str]:
    """(variant, class and source of the foreground) of `<variant>/<class>/<file>`.

    The foreground's is the first ImageNet name in the file's, else what precedes `__`.
    """
    variant, folder, file = id_.split("/")
    found = _IMAGENET_STEM.search(file)
    return variant, f"{folder}/{found[0] if found else file.partition('.')[0].partition('__')[0]}"


def _side_notes(split: Split, table: FeatureTable, side: int) -> list[str]:
    """Says so where images are not of the side that the model takes."""
    size = split.image(split.ids.index(table.ids[0])).size
    if size == (side, side):
        return []
    return [f"images of {size[0]} x {size[1]} pixels were resized to the model's {side}"]


def _gap(outcome: Outcome) -> Metric:
    """Accuracy on mixed_same minus that on mixed_rand.

    A bootstrap over foregrounds where both variants have the same; else the two are independent
    samples, with Newcombe's interval (1998), which is made of their Wilson intervals.
    """
    stems, correct = outcome.columns["stem"], outcome.columns["correct"]
    rows = [np.flatnonzero(outcome.columns["variant"] == name) for name in (SAME, RAND)]
    rows = [mine[np.argsort(stems[mine], kind="stable")] for mine in rows]
    same, rand = (correct[mine] for mine in rows)
    if len(np.unique(stems[rows[0]])) == len(same) and np.array_equal(*(stems[r] for r in rows)):
        return bootstrap_metric(same.astype(np.float64) - rand, np.mean, seed=0)
    one, two = accuracy_metric(same), accuracy_metric(rand)
    gap = one.value - two.value
    down = math.hypot(one.value - one.low, two.high - two.value)
    up = math.hypot(one.high - one.value, two.value - two.low)
    return Metric(gap, gap - down, gap + up, len(same) + len(rand), "wilson95")

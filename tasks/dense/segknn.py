"""Segmentation without training: patches take the labels of their nearest training patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from bench.annotations import Annotations, annotations_of
from bench.errors import DataError, SpecError
from bench.records import Metric, Outcome
from bench.task import FrozenPass, Task, TaskData, with_warnings
from tasks.segknn_protocols import MOST, SEGKNN, VOID_FIRST, Distance, SegknnProtocol, Void, Vote
from tasks.segmentation_metric import (
    COUNTED,
    class_iou,
    image_iou,
    segmentation_metrics,
)

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.transforms import SquareTransform


@dataclass(frozen=True, kw_only=True)
class Segknn(Task):
    """mIoU of semantic segmentation by k nearest patches of frozen features.

    Images are squeezed to a square whatever their aspect. Two published protocols, whose numbers
    must not be mixed:

    - `segknn_capi` (Darcet et al., 2025): 224 px; every training patch is remembered with its block
      of pixel labels, but those that are void for the most part; features are standardised on the
      training images that fit; k of {1, 3, 10, 30} and cosine or L2 distance are chosen on held-out
      training images, which then join the memory; a pixel gets the label that most of the k
      neighbours have at its place in the patch.
    - `segknn_hummingbird` (Balazevic et al., 2023, as measured by open-hummingbird-eval): 512 px,
      or the largest multiple of the patch below; two passes of random crops over train, of which
      10,240,000 patches are remembered with their shares of classes, rare ones more likely; shares
      of the 30 nearest are averaged with softmax(cosine / 0.02) and enlarged bilinearly.

    `miou` is over all pixels together, averaged over the classes that are true or predicted
    somewhere; `miou_void` counts void as a class where it was predicted, as CAPI's script does;
    `macc` and `aacc` are mean class and pixel accuracy (`tasks/segmentation_metric.py`). Intervals
    are bootstraps over images.

    What surprises: `value` is the mean IoU of an image by itself. The mIoU is no mean over images,
    so neither is it the mean of `value`. Searches are exact, and equal distances go to the patch
    that comes first. CAPI searches ADE20K in bfloat16 and draws other held-out images.
    open-hummingbird-eval counts void as class 0 in the memory (`void=zero`; on ADE20K as a class
    of its own, `void=first`), matches predicted classes to true ones (Hungarian), divides by all
    classes of the label set, divides blue by 0.255 and takes labels half a pixel up and left:
    none of it is done here.

    Attributes:
        protocol: gives the value of each option that is `none`, unless said otherwise.
        split: what is predicted: val, or test where the data set has one.
        labels: whether predictions are compared at the size of the `input` (both protocols), or
            resized to the labels' `native` size.
        holdout: share of the training images on which k and distance are chosen, in (0, 0.5]; at
            least one image, drawn with the seed.
        size_px: side of the input in pixels, a multiple of the patch.
        k: neighbours, at most 255; of several the best is chosen.
        distance: between patches: `cosine`, `l2`, or the better of `both`.
        standardize: whether features get mean 0 and variance 1 over the training patches.
        augmentations: passes over train with random crops and colours; 0 for the images as they
            are.
        memory: most patches that are remembered, the same number of each view, rare classes more
            likely; 0 for all.
        vote: `pixels`, for the most frequent label at each pixel, or `soft` shares of classes.
        temperature: of the soft vote, exp(cosine / temperature); above 0.
        void: what pixels of the memory do that have no class: `vote` for none and lose every tie,
            or win it (`first`, as CAPI has it on ADE20K, where it is the default); `skip` the vote;
            or count as class `zero`. Such pixels of val never count.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "miou"
    mini: ClassVar[str] = "mini_ade"
    mini_options: ClassVar[str] = "size_px=32"

    protocol: Literal["segknn_capi", "segknn_hummingbird"] = "segknn_capi"
    split: Literal["val", "test"] = "val"
    labels: Literal["input", "native"] = "input"
    holdout: float = 0.1
    size_px: int | None = None
    k: tuple[int, ...] | None = None
    distance: Distance | None = None
    standardize: bool | None = None
    augmentations: int | None = None
    memory: int | None = None
    vote: Vote | None = None
    temperature: float | None = None
    void: Void | None = None

    def __post_init__(self) -> None:
        n = self.numbers()
        soft = n.vote == "soft"
        wrong = [
            (not 0 < self.holdout <= 0.5, f"holdout={self.holdout} must be in (0, 0.5]"),
            (n.size_px < 1, f"size_px={n.size_px} must be at least 1"),
            (not n.k or min(n.k) < 1 or max(n.k) > MOST, f"k={n.k} must be in 1..{MOST}"),
            (n.augmentations < 0, f"augmentations={n.augmentations} must be 0 or more"),
            (n.memory < 0, f"memory={n.memory} must be 0 (all) or more"),
            (soft and n.distance != "cosine", "a soft vote weighs cosines: distance=cosine"),
            (soft and not n.temperature > 0, f"temperature={n.temperature} must be above 0"),
            (
                not soft and self.temperature is not None,
                "temperature is of the soft vote: vote=soft, or leave it out",
            ),
        ]
        for is_wrong, why in wrong:
            if is_wrong:
                raise SpecError(f"segknn ({self.protocol}): {why}")

    def numbers(self) -> SegknnProtocol:
        """The protocol's numbers with this task's fields in their place."""
        names = {f.name for f in fields(SegknnProtocol)} & {f.name for f in fields(self)}
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(SEGKNN[self.protocol], **given)

    def facts(self, data: TaskData) -> dict[str, str]:
        """The set of labels, and the images that are predicted where they are not val's."""
        facts = {"label_set": annotations_of(data.open("train"), "semantic").label_set}
        return facts if self.split == "val" else {**facts, self.split: data.manifest((self.split,))}

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        """Tokens of the images that are predicted, and of train unless it is cropped at random."""
        view, (train, test, _) = self.view(model), self.images(data)
        splits = [test] if self.numbers().augmentations else [train, test]
        return [FrozenPass(split, view, tokens=True, vectors=False) for split in splits]

    def images(self, data: TaskData) -> tuple[Split, Split, Annotations]:
        """What is remembered, what is predicted, and the classes that both are labelled with."""
        train, test = data.open("train"), data.open(self.split)
        known, asked = (annotations_of(split, "semantic") for split in (train, test))
        if (known.label_set, known.classes) != (asked.label_set, asked.classes):
            raise SpecError(
                f"{train.name}: the labels of train ({known.label_set}) and {self.split} "
                f"({asked.label_set}) are of two sets, whose numbers mean unlike things"
            )
        return train, test, known

    def view(self, model: LoadedModel) -> SquareTransform:
        """The whole image, squeezed; SpecError where patches do not fill the side asked for."""
        from bench.transforms import SquareTransform

        numbers, patch = self.numbers(), model.backbone.patch_size
        side = numbers.side(patch)
        if self.size_px is not None and side != self.size_px:
            near = f"{side} or {side + patch}" if self.size_px > patch else f"{side}"
            raise SpecError(
                f"segknn: size_px={self.size_px} is no multiple of the patch of {patch} px of "
                f"{model.record.name}: take {near}"
            )
        own = model.backbone.input
        spec = replace(own, size_px=side, interpolation=numbers.interpolation)
        return SquareTransform(spec)

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Counts of pixels of every image that is predicted, by class."""
        from tasks.patch_segmentation import PatchSegmentation

        train, test, annotations = self.images(data)
        view, numbers = self.view(model), self.numbers()
        if self.void is None and numbers.void == "vote" and annotations.label_set in VOID_FIRST:
            numbers = replace(numbers, void="first")
        options = (self.labels == "native", self.holdout)
        job = PatchSegmentation(model, data, train, test, view, numbers, annotations, *options)
        choice = job.choose()
        k, distance = choice.best
        rows, counts = job.columns((k, distance))
        if not counts["pixels"].any():
            raise DataError(f"no pixel of {test.name} {self.split} has a class: complete its masks")
        total = {name: counts[name].sum(axis=0) for name in COUNTED}
        value = image_iou(counts)
        hits = counts["intersection"].sum(axis=1) / np.maximum(counts["pixels"], 1)
        columns = {
            "id": np.array([test.ids[row] for row in rows], dtype=np.str_),
            "value": value,
            "accuracy": np.where(counts["pixels"] > 0, hits, np.nan),
            **counts,
        }
        extras = {
            "k": np.array(k),
            "distance": np.array(distance),
            "size_px": np.array(view.spec.size_px),
            "void": np.array(numbers.void),
            "patches": np.array(job.memory.size(np.arange(len(train)))),
            "iou": class_iou(*total.values()),
            "class_names": np.array(annotations.classes, dtype=np.str_),
            "label_set": np.array(annotations.label_set),
            "choice_k": np.array(choice.ks),
            "choice_distance": np.array(choice.distances),
            "choice_miou": choice.miou,
        }
        return with_warnings(Outcome(columns, extras), job.notes)

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`miou`, `miou_void`, `macc` and `aacc`."""
        return segmentation_metrics(outcome.columns)

"""Segmentation by nearest patches: the memory, the choice of k and distance, predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench import dist, subsets
from bench.annotations import Annotations, LabelMap, semantic_of
from bench.errors import DataError
from bench.label_maps import resized_labels
from bench.progress import Progress
from tasks.each_image import Kept, each_image
from tasks.patch_memory import Memory, SampledMemory, TokenMemory
from tasks.patch_predictions import Predictor, Setting
from tasks.patch_scaler import Scaler
from tasks.patch_views import Patches, label_maps, patches_of, plain_patches, random_patches
from tasks.segknn_protocols import SegknnProtocol
from tasks.segmentation_metric import Counts, miou_void, packed_counts, pixel_counts

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.task import TaskData
    from bench.transforms import SquareTransform

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Choice:
    """The k and the distance that predict, and how each did on held-out images.

    Attributes:
        ks: numbers of neighbours; one where nothing was chosen.
        distances: in their order.
        miou: (ks, distances) `miou_void` of the held-out images; NaN where nothing was chosen.
        held: how many images were held out.
    """

    ks: tuple[int, ...]
    distances: tuple[str, ...]
    miou: npt.NDArray[np.float64]
    held: int = 0

    @property
    def best(self) -> Setting:
        """The largest mIoU; of equal ones the smaller k, then the first distance."""
        place = int(np.nanargmax(self.miou.ravel())) if self.held else 0
        k, distance = divmod(place, len(self.distances))
        return self.ks[k], self.distances[distance]


class _Predicted(NamedTuple):
    """Labels (s, s) of the one image `rows` (1,)."""

    rows: Rows
    labels: LabelMap


@dataclass(eq=False)
class PatchSegmentation:
    """One model on one data set under one protocol.

    Attributes:
        model: whose patches.
        data: how to run.
        train: the images that are remembered.
        test: those that are predicted.
        view: makes squares of images.
        numbers: the protocol.
        annotations: the classes.
        native: whether labels are compared at their own size.
        holdout: share of the training images to choose on, where there is a choice.
        notes: what the reader of the numbers must know.
    """

    model: LoadedModel
    data: TaskData
    train: Split
    test: Split
    view: SquareTransform
    numbers: SegknnProtocol
    annotations: Annotations
    native: bool = False
    holdout: float = 0.1
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.annotations.classes)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return self.model.backbone.patch_size

    @cached_property
    def memory(self) -> Memory:
        """The patches of all training images."""
        size_px, numbers = self.view.spec.size_px, self.numbers
        visits = max(numbers.augmentations, 1)
        most = numbers.memory // (len(self.train) * visits) if numbers.memory else 0
        facts = (self.patch, self.classes, numbers)
        device, threads = self.data.device, self.data.workers
        if numbers.augmentations:
            views = random_patches(self.data, self.model, self.train, size_px, visits)
        else:
            table = self.data.tokens(self.model, self.train, self.view)
            maps = label_maps(self.train, table.split_rows, size_px, threads)
            if not 0 < most < patches_of(table):
                return TokenMemory.of(table, maps, *facts, device, self.data.batch_size)
            views = plain_patches(table, maps, self.data.batch_size)
        most = max(most, 1) if numbers.memory else (size_px // self.patch) ** 2
        folder = self._folder("memory")
        with Progress(f"memory of {self.train.name}", len(self.train) * visits) as progress:
            seen = _counted(views, progress)
            return SampledMemory.of(seen, most, *facts, self.data.seed, device, folder)

    @cached_property
    def predictor(self) -> Predictor:
        """What is asked; means and deviations are those of the images that fit."""
        scaler = Scaler()
        if self.numbers.standardize:
            scaler = Scaler.fitted(self.memory.seen(self._slices[0]))
        spec, data = self.view.spec, self.data
        options = (spec.size_px, self.patch, data.batch_size, data.device)
        return Predictor(self.memory, scaler, self.numbers, *options)

    def choose(self) -> Choice:
        """k and distance by mIoU on held-out training images, where there is a choice.

        Patches of the other images vote then. Means and deviations of features are those of the
        other images, here and later.
        """
        numbers, (fit, held) = self.numbers, self._slices
        ks = self._clipped(fit)
        if len(ks) * len(numbers.distances) == 1:
            return Choice(ks, numbers.distances, np.full((1, 1), np.nan), 0)
        kept = Kept(self._folder("choice"))
        # Of several processes only one may have a folder, so all must agree.
        if not all(dist.all_gather_object("choice" in kept.pieces)):
            settings = [(k, name) for k in ks for name in numbers.distances]
            totals = self._held_out(held, fit, settings)
            kept.keep("choice", {"miou": np.array([miou_void(total) for total in totals])})
        miou = kept.pieces["choice"]["miou"].reshape(len(ks), len(numbers.distances))
        if np.isnan(miou).all():
            raise DataError(
                f"no pixel of the {len(held)} held-out images of {self.train.name} has a class: "
                "raise holdout, or give one k and one distance"
            )
        return Choice(ks, numbers.distances, miou, len(held))

    def columns(self, setting: Setting) -> tuple[Rows, dict[str, npt.NDArray[Any]]]:
        """(rows of test, counts of pixels): each readable image predicted under one setting."""
        table = self.data.tokens(self.model, self.test, self.view)

        def batches(rows: Rows) -> Iterator[_Predicted]:
            readable = rows[np.isin(rows, table.split_rows)]
            asked = (table, readable, self._images, [setting])
            for row, found in self.predictor.predictions(*asked):
                yield _Predicted(np.array([row]), found[setting])

        def measure(row: int, batch: _Predicted, _: int) -> Mapping[str, Any]:
            return self._counts(self.test, row, batch.labels)

        return each_image(self.data, self.test, batches, measure, f"segknn {self.test.name}")

    def _held_out(self, held: Rows, fit: Rows, settings: Sequence[Setting]) -> Counts:
        """(settings, 3 * classes + 1) packed counts of all held-out images together."""
        piece = self.train.take(held, f"{self.train.name}#asked={len(held)}")
        table = self.data.tokens(self.model, piece, self.view)
        totals = np.zeros((len(settings), 3 * self.classes + 1), dtype=np.int64)
        share = table.split_rows[dist.shard(len(table))]
        with Progress(f"choose k of {self.train.name}", len(share)) as progress:
            for row, found in self.predictor.predictions(table, share, fit, settings):
                for place, setting in enumerate(settings):
                    counts = self._counts(piece, row, found[setting])
                    one = {name: np.asarray(value)[None] for name, value in counts.items()}
                    totals[place] += packed_counts(one)[0]
                progress.advance()
        return np.asarray(np.sum(dist.all_gather_object(totals), axis=0))

    # ---------------------------------------------------------------- images

    @cached_property
    def _images(self) -> Rows:
        return np.arange(len(self.train))

    @cached_property
    def _slices(self) -> tuple[Rows, Rows]:
        """(images to fit on, images to choose on), drawn with the seed by their ids."""
        if not self.numbers.chooses:
            return self._images, self._images[:0]
        count = max(int(len(self.train) * self.holdout), 1)
        if len(self.train) < 2:
            raise DataError(
                f"{self.train.name} has {len(self.train)} training image: none can be held out to "
                "choose k and distance on; give one k and one distance"
            )
        held = subsets.uniform(self.train.ids, count, self.data.seed)
        return np.setdiff1d(self._images, held), held

    def _size(self, images: Rows) -> int:
        size = self.memory.size(images)
        if not size:
            raise DataError(
                f"none of the patches of {len(images)} training images of {self.train.name} has a "
                "class, so nothing can be remembered: take images with labels"
            )
        return size

    def _clipped(self, fit: Rows) -> tuple[int, ...]:
        """The numbers of neighbours, as far as there are so many."""
        size = self._size(fit)
        if clipped := [k for k in self.numbers.k if k > size]:
            self.notes.append(
                f"k={', '.join(map(str, clipped))}: there are only {size} patches; used {size}"
            )
        return tuple(sorted({min(k, size) for k in self.numbers.k}))

    def _counts(self, split: Split, row: int, prediction: LabelMap) -> dict[str, Any]:
        """`pixel_counts` of an image: its labels in the size of the prediction, or the reverse."""
        truth = semantic_of(split, row)
        if self.native:
            prediction = resized_labels(prediction, (truth.shape[0], truth.shape[1]))
        else:
            truth = resized_labels(truth, (prediction.shape[0], prediction.shape[1]))
        return pixel_counts(truth, prediction, self.classes)

    def _folder(self, name: str) -> Path | None:
        if self.data.workspace is None:
            return None
        folder = self.data.workspace / f"{name}{dist.rank()}"
        folder.mkdir(exist_ok=True)
        return folder


def _counted(
    views: Iterator[tuple[int, int, Patches, LabelMap]], progress: Progress
) -> Iterator[tuple[int, int, Patches, LabelMap]]:
    for view in views:
        yield view
        progress.advance()

"""Object localisation: the share of images in which LOST's box meets a true one (CorLoc)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.annotations import annotations_of, boxes_of
from bench.errors import DataError, SpecError
from bench.records import Metric, Outcome
from bench.stats import accuracy_metric, bootstrap_metric
from bench.task import Task, TaskData, with_warnings
from bench.voc import XML, voc_boxes
from tasks.frozen import Positions

if TYPE_CHECKING:
    from PIL import Image

    from bench.checkpoint import LoadedModel
    from bench.maps import MapBatch
    from bench.split import Split

SIDES = ("left", "top", "right", "bottom")
BATCH = 32  # images of one size: more would wait decoded, and 32 fill a device


@dataclass(frozen=True, kw_only=True)
class CorLoc(Task):
    """Share of images where the one box that LOST finds meets any true box at IoU >= 0.5.

    LOST (Simeoni et al., 2021; `tasks/lost.py`) reads the keys of the last attention. Images keep
    their size and are padded with zeros, after normalisation, to multiples of the patch; the box is
    cut off at the image. SlotMIM's Tables 1, 4 and 5 cite LOST and publish no rule of their own.

    Metrics: `corloc`, in [0, 1], with Wilson's interval, and `mean_best_iou` with a bootstrap over
    images. `value` is 1 or 0, NaN for images without a true box, which do not count.

    What surprises: a model with random weights may find all patches alike, and its box is then the
    whole image, which meets many large objects. Difficult and truncated objects of VOC count, as in
    LOST. Of patches of equal degree the first in reading order comes first. An image smaller than a
    patch counts as unreadable.

    Attributes:
        k_patches: patches of lowest degree among which the seed looks for votes.
        iou: overlap from which on a box counts as correct.
        positions: how position embeddings meet another grid: as in `dino`, by `size`, or as the
            `model` says.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "corloc"
    needs: ClassVar[tuple[str, ...]] = ("trainval",)
    mini: ClassVar[str] = "mini_voc"

    k_patches: int = 100
    iou: float = 0.5
    positions: Positions = "dino"

    def __post_init__(self) -> None:
        if self.k_patches < 1:
            raise SpecError(f"corloc: k_patches={self.k_patches} must be at least 1")
        if not 0 < self.iou <= 1:
            raise SpecError(f"corloc: iou={self.iou} must be above 0 and at most 1")

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """The box of every trainval image, and how well it meets the best of the true ones."""
        from bench.maps import map_batches
        from bench.transforms import NativeTransform
        from tasks.each_image import each_image
        from tasks.lost import box_ious, lost

        split = data.open("trainval")
        annotations_of(split, "boxes")
        model, patch = self._prepared(model), model.backbone.patch_size
        size = min(BATCH, data.batch_size)

        def batches(rows: npt.NDArray[np.int64]) -> Iterator[MapBatch]:
            native = NativeTransform()
            return map_batches(
                data, model, split, native, "key_last", rows, pad=True, batch_size=size
            )

        def measure(row: int, batch: MapBatch, place: int) -> dict[str, Any]:
            height, width = batch.sizes[place].tolist()
            box = lost(batch.maps[place], self.k_patches).box(patch, (height, width))
            true = boxes_of(split, row)
            best = box_ious(box, true).max() if len(true) else np.nan
            sides = {f"box_{side}": value for side, value in zip(SIDES, box, strict=True)}
            return {"best_iou": np.float64(best), "boxes": len(true), **sides}

        rows, columns = each_image(data, split, batches, measure, f"corloc {split.name}")
        if not columns["boxes"].any():
            raise DataError(f"{split.name} trainval: none of its {len(rows)} images has a box")
        best = columns["best_iou"]
        value = np.where(np.isnan(best), np.nan, best >= self.iou)
        ids = np.asarray(split.ids, dtype=np.str_)[rows]
        outcome = Outcome({"id": ids, "value": value, **columns}, {})
        return with_warnings(outcome, _warnings(split, int(np.isnan(best).sum())))

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`corloc` and `mean_best_iou`."""
        counts = ~np.isnan(outcome.columns["value"])
        best = outcome.columns["best_iou"][counts]
        return {
            "corloc": accuracy_metric(outcome.columns["value"][counts] == 1.0),
            "mean_best_iou": bootstrap_metric(best, np.mean, seed=0),
        }

    def look(self, model: LoadedModel, image: Image.Image, device: str) -> npt.NDArray[np.float64]:
        """(4,) the box that LOST finds in any image: left, top, right, bottom in its pixels."""
        from bench.maps import map_of
        from bench.transforms import NativeTransform
        from tasks.lost import lost

        own = self._prepared(model)
        keys, size = map_of(own, image, NativeTransform(), "key_last", device, pad=True)
        return lost(keys, self.k_patches).box(own.backbone.patch_size, size)

    def _prepared(self, model: LoadedModel) -> LoadedModel:
        """The model with the asked positions; SpecError where it lacks keys of the whole image."""
        from bench.maps import placed

        if not model.backbone.available("key_last"):
            raise SpecError(
                f"{model.record.name} has no attention over the whole image, whose keys corloc "
                "reads: take a ViT"
            )
        return placed(model, self.positions)


def _warnings(split: Split, empty: int) -> Iterator[str]:
    if annotations_of(split, "boxes").boxes is voc_boxes:
        root = split.datasets[0].root
        if not (root / XML).is_dir():
            yield f"no folder {XML}: the true boxes are those of the objects' masks"
    if empty:
        yield f"{empty} images without a box do not count"

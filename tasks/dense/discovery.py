"""Object discovery: how well attention heads or prototypes cover annotated regions (Jaccard)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bench.annotations import LabelMap, annotations_of, objects_of, semantic_of
from bench.errors import DataError, SpecError
from bench.records import Metric, Outcome
from bench.stats import bootstrap_metric
from bench.task import Task, TaskData, with_warnings
from tasks.frozen import Positions
from tasks.jaccard import Bools, Floats, best_ious, kept_cells

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from bench.checkpoint import LoadedModel
    from bench.maps import MapBatch
    from bench.split import Split
    from bench.transforms import SquareTransform

Protocol = Literal["jacc_dino", "jacc_ipvit", "jacc_slotmim"]


@dataclass(frozen=True)
class Values:
    """What a protocol sets: side of the images, share kept of a map, and which maps."""

    size_px: int
    mass: float
    maps: Literal["attn_cls", "proto"]


PROTOCOLS: dict[str, Values] = {
    "jacc_dino": Values(480, 0.6, "attn_cls"),
    "jacc_ipvit": Values(512, 0.9, "attn_cls"),
    "jacc_slotmim": Values(224, 0.99, "proto"),
}
LEAST = 1.0  # summed probability above which a prototype counts as active in an image


@dataclass(frozen=True, kw_only=True)
class Discovery(Task):
    """Mean over images of the mean over regions of the best mask's |m and o| / |m or o|.

    Masks are the heads' attention from CLS to the patches of the last block (`jacc_dino`: DINO's
    Figure 4, iBOT; `jacc_ipvit`: Naseer et al., 2021), or the probabilities of each prototype that
    is active in the image, summed over its patches above 1 (`jacc_slotmim`: SlotMIM's Tables 1, 4
    and 5). Of each map the largest patches that hold `mass` of its sum are kept. Images are
    squeezed to a square, bilinearly; annotations likewise, nearest.

    Metrics: `jaccard`, in [0, 1], with a bootstrap over images, and the mean number of candidate
    masks: `masks`, or `active_slots` (the papers' K-bar) of prototypes. More masks can only raise
    `jaccard`: compare models of about as many. `value` is an image's mean over its regions, NaN for
    images without a region, which do not count.

    What surprises: the public scripts mean to leave out void pixels and do not; all published
    numbers count them as background, and so does the default here. The size of DINO's own
    evaluation is unpublished: 480 px is that of its visualisation. Prototypes have the temperature
    that the checkpoint states, 0.07 for SlotMIM. An image in which no prototype is active has no
    masks, and 0. Where the patch does not divide the side, the rest at the right and the bottom is
    cut off from image and annotation alike.

    Attributes:
        protocol: gives the value of each option that is `none`.
        size_px: side of the square images; 480, 512 and 224 in the three protocols.
        mass: share of a map's sum that its mask keeps; 0.6, 0.9 and 0.99.
        objects: what a region is: all pixels of one class (`semantic`), or of one object.
        void: whether void pixels are `background`, as in the papers, or left out (`ignore`).
        positions: how position embeddings meet another grid: as in `dino` (SlotMIM too; the network
            of `jacc_ipvit` leaves out its shift), by `size`, or as the `model` says.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "jaccard"
    needs: ClassVar[tuple[str, ...]] = ("val",)
    mini: ClassVar[str] = "mini_voc"
    mini_options: ClassVar[str] = "size_px=32"

    protocol: Protocol = "jacc_dino"
    size_px: int | None = None
    mass: float | None = None
    objects: Literal["semantic", "instance"] = "semantic"
    void: Literal["background", "ignore"] = "background"
    positions: Positions = "dino"

    def __post_init__(self) -> None:
        if self.size_px is not None and self.size_px < 1:
            raise SpecError(f"discovery: size_px={self.size_px} must be at least 1")
        if self.mass is not None and not 0 < self.mass <= 1:
            raise SpecError(f"discovery: mass={self.mass} must be above 0 and at most 1")

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """The mean best overlap, the number of regions and of masks of every val image."""
        from bench.maps import map_batches
        from tasks.each_image import each_image

        split = data.open("val")
        background, patch = self._background(split), model.backbone.patch_size
        model = self._prepared(model)

        def batches(rows: npt.NDArray[np.int64]) -> Iterator[MapBatch]:
            return map_batches(data, model, split, self.transform(), self.values.maps, rows)

        def measure(row: int, batch: MapBatch, place: int) -> dict[str, Any]:
            masks = self._masks(batch.maps[place])
            labels = self._labels(split, row, masks.shape[1] * patch)
            found = best_ious(masks, labels, patch, background, self.void == "background")
            mean = found.mean() if len(found) else np.nan
            return {"value": np.float64(mean), "regions": len(found), "candidates": len(masks)}

        rows, columns = each_image(data, split, batches, measure, f"discovery {split.name}")
        if not columns["regions"].any():
            raise DataError(
                f"{split.name} val: none of its {len(rows)} images has a region of "
                f"objects={self.objects}; annotate some of them, or take another data set"
            )
        ids = np.asarray(split.ids, dtype=np.str_)[rows]
        return with_warnings(Outcome({"id": ids, **columns}, {}), self._warnings(columns, patch))

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`jaccard`, and `masks` or `active_slots`."""
        value = outcome.columns["value"]
        count = "active_slots" if self.values.maps == "proto" else "masks"
        return {
            "jaccard": bootstrap_metric(value[~np.isnan(value)], np.mean, seed=0),
            count: bootstrap_metric(outcome.columns["candidates"], np.mean, seed=0),
        }

    def look(self, model: LoadedModel, image: Image.Image, device: str) -> Bools:
        """(n, s, s) masks of the candidates on the square image of `size_px`."""
        from bench.maps import map_of

        own = self._prepared(model)
        maps, (side, _) = map_of(own, image, self.transform(), self.values.maps, device)
        cells, patch = self._masks(maps), own.backbone.patch_size
        rest = side - cells.shape[1] * patch
        masks = cells.repeat(patch, axis=1).repeat(patch, axis=2)
        return np.pad(masks, ((0, 0), (0, rest), (0, rest)))

    @property
    def values(self) -> Values:
        """The protocol's values under the options."""
        own = PROTOCOLS[self.protocol]
        return Values(self.size_px or own.size_px, self.mass or own.mass, own.maps)

    def transform(self) -> SquareTransform:
        """The whole image squeezed to a square, as torchvision's Resize does by default."""
        from bench.transforms import InputSpec, SquareTransform

        return SquareTransform(InputSpec(self.values.size_px, interpolation="bilinear"))

    def _masks(self, maps: Tensor) -> Bools:
        """(n, h, w) from the maps of one image: (heads, h, w), or prototypes (h, w, k)."""
        import torch

        if self.values.maps == "proto":
            active = maps.sum((0, 1), dtype=torch.float64) > LEAST  # (k,)
            maps = maps[..., active].permute(2, 0, 1)
        return kept_cells(maps.cpu().numpy(), self.values.mass)

    def _labels(self, split: Split, row: int, side: int) -> LabelMap:
        """(side, side), from the square of `size_px`; PIL takes the nearest for label images."""
        from bench.label_maps import resized_labels

        read = semantic_of if self.objects == "semantic" else objects_of
        square = (self.values.size_px, self.values.size_px)
        return resized_labels(read(split, row), square)[:side, :side]

    def _background(self, split: Split) -> int | None:
        """The label that is no region; SpecError when the data set lacks the annotations."""
        if self.objects == "instance":
            annotations_of(split, "objects")
            return 0
        classes = annotations_of(split, "semantic").classes
        return classes.index("background") if "background" in classes else None

    def _prepared(self, model: LoadedModel) -> LoadedModel:
        """The model with the asked positions; SpecError where it lacks the maps."""
        from bench.maps import placed

        backbone, name = model.backbone, model.record.name
        if self.values.size_px < backbone.patch_size:
            raise SpecError(
                f"discovery: size_px={self.values.size_px} is smaller than one patch of {name}, "
                f"{backbone.patch_size} px: choose a multiple of it"
            )
        if not backbone.available(self.values.maps):
            raise SpecError(f"{name} {self._refusal(model)}")
        return placed(model, self.positions)

    def _refusal(self, model: LoadedModel) -> str:
        has = model.backbone.available
        if self.values.maps == "proto":
            other = "protocol=jacc_dino reads its attention instead" if has("attn_cls") else ""
            return (
                "has no prototypes of patches, which jacc_slotmim reads: take a run of slotmim, "
                f"slotcon, sove, or ibot with norm_last_layer=true{other and '; ' + other}"
            )
        others = {
            "protocol=jacc_slotmim reads its prototypes": has("proto"),
            "the task corloc reads its keys": has("key_last"),
        }
        told = [text for text, there in others.items() if there]
        return (
            f"has no CLS token that attends to the whole image, which {self.protocol} reads: "
            f"{' and '.join(told) or 'take a ViT with a CLS token'}"
        )

    def _warnings(self, columns: dict[str, Floats], patch: int) -> Iterator[str]:
        side, empty = self.values.size_px, int((columns["regions"] == 0).sum())
        if side % patch:
            yield (
                f"size_px={side} is no multiple of the {patch} px patch: compared on the first "
                f"{side - side % patch} px"
            )
        if empty:
            yield f"{empty} images without a region do not count"
        if none := int((columns["candidates"] == 0).sum()):
            yield f"{none} images have no candidate mask, and a value of 0"

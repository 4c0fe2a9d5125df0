"""Maps of patches for tasks that look at every image once: nothing of them is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.backbone import Backbone
from bench.errors import CheckpointError
from bench.extraction import PRECISIONS, Pass
from bench.feature_file import Rows
from bench.loader import ImageBatch, buckets, image_batches
from bench.positions import PosInterp

if TYPE_CHECKING:
    from PIL import Image

    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.task_data import TaskData
    from bench.transforms import Transform

Positions = Literal["model", "dino", "size"]
Normalise = Callable[[Tensor], Tensor]  # uint8 (b, 3, h, w) -> float32


@dataclass(frozen=True, eq=False)
class MapBatch:
    """Maps of some images of one size, padding included.

    Attributes:
        rows: (b,) their places in the split; out of order where sizes differ.
        maps: (b, h, w, c) float32 on the device; (b, heads, h, w) of `attn_cls`.
        sizes: (b, 2) height and width of each image in pixels, without padding.
    """

    rows: Rows
    maps: Tensor
    sizes: Rows


def placed(model: LoadedModel, positions: Positions) -> LoadedModel:
    """The same model with another interpolation of its positions; `model` keeps its own."""
    old = model.backbone
    if positions in ("model", old.pos_interp):
        return model
    backbone = Backbone(old.vit, old.input, cast(PosInterp, positions), dict(old.extras))
    return replace(model, backbone=backbone.train(old.training))


def map_batches(
    data: TaskData,
    model: LoadedModel,
    split: Split,
    transform: Transform,
    recipe: str,
    rows: Rows | None = None,
    *,
    pad: bool = False,
    normalise: Normalise | None = None,
    batch_size: int | None = None,
    bad: dict[int, str] | None = None,
) -> Iterator[MapBatch]:
    """One forward of each image; those that cannot be read go to `data.leave_out`.

    Args:
        data: how to run.
        model: whose maps.
        split: the images.
        transform: makes their pixels; batches are of one size each.
        recipe: a map recipe such as `patch`, `key_last`, `attn_cls` or `proto`.
        rows: which samples of the split; by default all.
        pad: whether sides that the patch does not divide are filled up with zeros at the right and
            the bottom, after normalisation, instead of being cropped. Images smaller than a patch
            then count as unreadable.
        normalise: in place of the model's own.
        batch_size: in place of that of the data.
        bad: unreadable rows of earlier calls and why, which count too; those of this one are added.

    Raises:
        DataError: more unreadable images than are allowed.
        CheckpointError: a map is not finite.
    """
    chosen = np.arange(len(split)) if rows is None else np.asarray(rows, dtype=np.int64)
    job = Pass(model, split, (recipe,), torch.device(data.device), data.precision)
    patch, size = model.backbone.patch_size if pad else 1, batch_size or data.batch_size
    pin = job.device.type == "cuda"
    bad = {} if bad is None else bad
    first = 1 if transform.ragged else size
    with closing(image_batches(split, transform, chosen, first, data.workers, pin)) as read:
        whole = _no_specks(read, split, patch)
        ragged = buckets(whole, size, lambda image: _filled(image.pixels, patch))
        for bucket in ragged if transform.ragged else ([batch] for batch in read):
            if bucket[0].bad:
                bad.update(bucket[0].bad)
                data.leave_out(bad)
            if not len(bucket[0].rows):
                continue
            change = normalise or model.backbone.input.normalise
            images = [
                _filled_up(change(i.pixels.to(job.device, non_blocking=True)), patch)
                for i in bucket
            ]
            yield MapBatch(
                torch.cat([image.rows for image in bucket]).numpy(),
                _forward(job, torch.cat(images), recipe),
                np.array([i.pixels.shape[2:] for i in bucket for _ in range(len(i.rows))]),
            )


@torch.inference_mode()
def map_of(
    model: LoadedModel,
    image: Image.Image,
    transform: Transform,
    recipe: str,
    device: str,
    pad: bool = False,
) -> tuple[Tensor, tuple[int, int]]:
    """Map (h, w, c) in float32 of any one image, as in `map_batches`, and its (height, width)."""
    backbone = model.backbone.to(device)
    pixels = transform(image)[None]  # (1, 3, h, w)
    images = backbone.input.normalise(pixels.to(device))
    if pad:
        images = _filled_up(images, backbone.patch_size)
    maps = backbone.features(images, [recipe])[recipe].float()
    return maps[0], (pixels.shape[2], pixels.shape[3])


def _filled(pixels: Tensor, patch: int) -> tuple[int, int]:
    """Height and width up to multiples of the patch."""
    height, width = pixels.shape[2:]
    return height + -height % patch, width + -width % patch


def _filled_up(images: Tensor, patch: int) -> Tensor:
    """Normalised (b, 3, h, w) with zeros at the right and the bottom, up to whole patches."""
    height, width = _filled(images, patch)
    return F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))


def _no_specks(images: Iterable[ImageBatch], split: Split, patch: int) -> Iterator[ImageBatch]:
    """Single images, those smaller than a patch as unreadable."""
    for image in images:
        if len(image.rows) and min(image.pixels.shape[2:]) < patch:
            row, (height, width) = int(image.rows[0]), image.pixels.shape[2:]
            why = (
                f"image {split.source(row)[2]} of {split.name} has {width} x {height} pixels, less "
                f"than a patch of {patch} px: enlarge it, or pass --skip-bad N to leave out up to "
                "N such images"
            )
            image = ImageBatch(image.rows[:0], image.pixels[:0], {row: why})
        yield image


def _forward(job: Pass, images: Tensor, recipe: str) -> Tensor:
    """Maps in float32; CheckpointError where they are not finite."""
    dtype = PRECISIONS[job.precision]
    autocast = torch.autocast(job.device.type, dtype, enabled=dtype != torch.float32)
    with job.ready(), torch.inference_mode(), autocast:
        maps = job.model.backbone.features(images, [recipe])[recipe].float()
    if not torch.isfinite(maps).all():
        raise CheckpointError(
            f"{recipe} of {job.model.record.name} is not finite on {job.split.name}: look for NaN "
            "in its weights, or evaluate with --precision fp32"
        )
    return maps

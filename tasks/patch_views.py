"""Images with their labels as a memory of patches sees them: squeezed, or cut and coloured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as colours

from bench.annotations import LabelMap, semantic_of
from bench.errors import CheckpointError
from bench.extraction import Pass
from bench.label_maps import resized_labels
from bench.loader import image_batches
from bench.transforms import Transform, crop_box, image_rng, to_uint8

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.task import TaskData
    from bench.token_table import TokenTable

Rows = npt.NDArray[np.int64]
Patches = npt.NDArray[np.float16]  # (g * g, d)

AREA = (0.5, 2.0)  # of a crop over that of the image; what does not fit is drawn again
RATIO = (3 / 4, 4 / 3)
JITTER = 0.1  # brightness, contrast, saturation by factors in 1 -+ this, hue by this much
CHANCE = 0.5  # of each of the four


def label_maps(split: Split, rows: Rows, size_px: int, threads: int) -> Iterator[LabelMap]:
    """(s, s) labels of the images of a split, squeezed as the images are."""
    with ThreadPoolExecutor(max(threads, 1), thread_name_prefix="labels") as pool:

        def read(row: int) -> LabelMap:
            return resized_labels(semantic_of(split, row), (size_px, size_px))

        for start in range(0, len(rows), 256):  # what is read ahead stays small
            yield from pool.map(read, rows[start : start + 256].tolist())


def patch_batches(table: TokenTable, images: Rows, size: int) -> Iterator[tuple[Rows, Tensor]]:
    """(rows of the split (b,), patches (b, g * g, d) float32 on the device), without CLS."""
    places = np.searchsorted(table.split_rows, images)
    patches = patches_of(table)
    for rows, tokens in table.batches(places, size):
        yield table.split_rows[rows], tokens[:, -patches:]


def patches_of(table: TokenTable) -> int:
    """Patches of each image: the tokens but for CLS, which stands before the square of them."""
    return math.isqrt(table.shape[0]) ** 2


def plain_patches(
    table: TokenTable, maps: Iterator[LabelMap], size: int
) -> Iterator[tuple[int, int, Patches, LabelMap]]:
    """(visit, row, patches, labels) of every image of a table, as it is."""
    for rows, values in patch_batches(table, table.split_rows, size):
        for row, patches in zip(rows.tolist(), values.half().cpu().numpy(), strict=True):
            yield 0, row, patches, next(maps)


def random_view(
    image: Image.Image, labels: LabelMap, size_px: int, rng: np.random.Generator
) -> tuple[Image.Image, LabelMap]:
    """A crop of both, resized to a square; the image's colours are changed first.

    open-hummingbird-eval: brightness, contrast, saturation and hue each with a chance of a half,
    then RandomResizedCrop with areas of 0.5 to 2.
    """
    box = crop_box(image.size, rng, AREA, RATIO)
    for change, centre in (
        (colours.adjust_brightness, 1.0),
        (colours.adjust_contrast, 1.0),
        (colours.adjust_saturation, 1.0),
        (colours.adjust_hue, 0.0),
    ):
        chosen, amount = rng.random() < CHANCE, centre + rng.uniform(-JITTER, JITTER)
        image = change(image, amount) if chosen else image
    left, top, right, bottom = box
    cut = image.crop(box).resize((size_px, size_px), Image.Resampling.BILINEAR)
    return cut, resized_labels(
        np.ascontiguousarray(labels[top:bottom, left:right]), (size_px, size_px)
    )


@dataclass(frozen=True)
class _Views:
    """Stands in for a split in the loader: its images carry their labels as a fourth channel."""

    split: Split
    size_px: int
    seed: int
    places: Rows  # (n, 2): visit, row of the split

    def image(self, place: int) -> Tensor:
        """(4, s, s) uint8; what is drawn depends on the seed, the visit and the row only."""
        visit, row = (int(number) for number in self.places[place])
        rng = image_rng(self.seed, visit, row)
        labels = semantic_of(self.split, row)
        image, cut = random_view(self.split.image(row), labels, self.size_px, rng)
        return torch.cat([to_uint8(image), torch.tensor(cut)[None]])


def random_patches(
    data: TaskData, model: LoadedModel, split: Split, size_px: int, visits: int
) -> Iterator[tuple[int, int, Patches, LabelMap]]:
    """(visit, row, patches, labels) of random views of all images, the whole split a visit."""
    rows = np.arange(len(split))
    places = np.concatenate([np.stack([np.full(len(rows), v), rows], 1) for v in range(visits)])
    job = Pass(model, split, ("patch",), torch.device(data.device), data.precision)
    images = image_batches(
        cast("Split", _Views(split, size_px, data.seed, places)),
        cast(Transform, _as_it_is),
        np.arange(len(places)),
        data.batch_size,
        data.workers,
        pin_memory=job.device.type == "cuda",
    )
    bad: dict[int, str] = {}
    with job.ready():
        for batch in images:
            if batch.bad:
                bad |= {int(places[place, 1]): why for place, why in batch.bad.items()}
                data.leave_out(bad)
            if not len(batch.rows):
                continue
            found = job.features(batch.pixels[:, :3])["patch"]
            if not torch.isfinite(found).all():
                raise CheckpointError(
                    f"patches of {model.record.name} are not finite on {split.name}: look for NaN "
                    "in its weights, or evaluate with --precision fp32"
                )
            found = found.view(len(found), -1, model.backbone.embed_dim).cpu()
            for place, values, view in zip(batch.rows.tolist(), found, batch.pixels, strict=True):
                visit, row = places[place].tolist()
                yield visit, row, values.numpy(), view[3].numpy()


def _as_it_is(view: Tensor) -> Tensor:
    return view

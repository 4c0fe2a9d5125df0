"""Views: which crops a method looks at, and how one image becomes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.transforms import to_uint8
from trainers.blocks.geometry import Box, overlapping_crop
from trainers.blocks.photometric import Photometric

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
MaskSampler = Callable[[np.random.Generator], np.ndarray]  # -> (patches,) bool, True = masked


@dataclass(frozen=True)
class ViewSpec:
    """How one view of an image is made.

    Attributes:
        size_px: side of the square view.
        area: range of the crop's share of the source area.
        ratio: range of the crop's width / height.
        flip: probability of a horizontal flip.
        photometric: colours and blur, a preset of ``trainers.blocks.photometric`` or None.
        interpolation: ``bicubic`` or ``bilinear``.
        overlaps: indices of earlier views of which this one must contain a part.
        min_overlap: least share of this crop's area inside each of ``overlaps``.
        mask: sampler of a token mask, or None.
    """

    size_px: int
    area: tuple[float, float]
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    photometric: Photometric | None = None
    interpolation: str = "bicubic"
    overlaps: tuple[int, ...] = ()
    min_overlap: float = 0.0
    mask: MaskSampler | None = field(default=None, compare=False)


@dataclass
class View:
    """One view: pixels, the source box they came from (in fractions), flip bit and token mask."""

    image: Tensor  # (3, s, s) uint8
    box: np.ndarray  # (4,) float32 x0, y0, x1, y1
    flipped: bool
    mask: np.ndarray | None  # (patches,) bool


@dataclass
class Batch:
    """The views of a batch of images, grouped by view.

    Attributes:
        images: per view (b, 3, s, s); uint8 from the loader, float32 and normalised in ``losses``.
        boxes: (b, views, 4) float32, fractions of the source image.
        flips: (b, views) bool.
        masks: per view (b, patches) bool, True = masked, or None.
        index: (b,) int64 positions in the training split.
    """

    images: list[Tensor]
    boxes: Tensor
    flips: Tensor
    masks: list[Tensor | None]
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on ``device``; copies from pinned memory do not block."""
        return Batch(
            images=[image.to(device, non_blocking=True) for image in self.images],
            boxes=self.boxes.to(device, non_blocking=True),
            flips=self.flips.to(device, non_blocking=True),
            masks=[None if m is None else m.to(device, non_blocking=True) for m in self.masks],
            index=self.index,
        )

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; called by the data loader."""
        return Batch(
            images=[image.pin_memory() for image in self.images],
            boxes=self.boxes.pin_memory(),
            flips=self.flips.pin_memory(),
            masks=[None if m is None else m.pin_memory() for m in self.masks],
            index=self.index,
        )

    def split(self, parts: int) -> list["Batch"]:
        """``parts`` equal slices, in order; the micro-batches of gradient accumulation."""
        size = len(self) // parts
        spans = [slice(i * size, (i + 1) * size) for i in range(parts)]
        return [
            Batch(
                images=[image[span] for image in self.images],
                boxes=self.boxes[span],
                flips=self.flips[span],
                masks=[None if m is None else m[span] for m in self.masks],
                index=self.index[span],
            )
            for span in spans
        ]


def cut_views(
    image: Image.Image, specs: Sequence[ViewSpec], rng: np.random.Generator
) -> list[View]:
    """The views of one image. All randomness comes from ``rng``, so workers do not matter."""
    width, height = image.size
    boxes: list[Box] = []
    views = []
    for spec in specs:
        others = [boxes[i] for i in spec.overlaps]
        box = overlapping_crop(rng, image.size, spec.area, spec.ratio, others, spec.min_overlap)
        boxes.append(box)
        flipped = bool(rng.random() < spec.flip)
        # Cropped before resizing: PIL's resize(box=...) lets the filter see pixels around the box.
        crop = image.crop(box).resize((spec.size_px, spec.size_px), RESAMPLING[spec.interpolation])
        pixels = to_uint8(crop)  # (3, s, s)
        left, top, right, bottom = box
        views.append(
            View(
                image=pixels.flip(2) if flipped else pixels,
                box=np.array(
                    [left / width, top / height, right / width, bottom / height], np.float32
                ),
                flipped=flipped,
                mask=None if spec.mask is None else spec.mask(rng),
            )
        )
    return views


def collate(samples: Sequence[tuple[int, list[View]]]) -> Batch:
    """Stack ``(index, views)`` samples into a ``Batch``."""
    index, lists = zip(*samples, strict=True)
    by_view = list(zip(*lists, strict=True))
    return Batch(
        images=[torch.stack([view.image for view in views]) for views in by_view],
        boxes=torch.from_numpy(np.stack([[view.box for view in views] for views in lists])),
        flips=torch.tensor([[view.flipped for view in views] for views in lists]),
        masks=[
            None if views[0].mask is None else torch.from_numpy(np.stack([v.mask for v in views]))
            for views in by_view
        ],
        index=torch.tensor(index),
    )


def effective_epoch_factor(specs: Sequence[ViewSpec]) -> float:
    """Pixels of all views over pixels of the largest: 3.84 for 2 x 224 + 10 x 96 px, 2 for two
    views.

    This is the accounting of Zhou et al. (iBOT), by which SlotMIM's Figure 4 compares methods.
    """
    largest = max(spec.size_px for spec in specs)
    return sum((spec.size_px / largest) ** 2 for spec in specs)

"""Training batches of a fine-tuning run: order, timm's augmentation, mixup and cutmix.

All that is random depends on the seed, the epoch and the place in it: loader processes, the size of
a forward and a resume change nothing.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data import Mixup, create_transform
from timm.data.auto_augment import RandAugment, posterize
from torch import Tensor
from torchvision import transforms

from bench.decoded import decode_once
from bench.loader import image_batches
from bench.transforms import InputSpec
from tasks.finetune_protocols import PADDED_PX, FinetuneProtocol

if TYPE_CHECKING:
    from bench.decoded import Images
    from bench.split import Split
    from bench.task import TaskData

Rows = npt.NDArray[np.int64]
SoftBatch = tuple[Tensor, Tensor]  # images (b, 3, h, w) normalised, targets (b, c)

_ROUND = 256  # DeiT's repeated augmentation cuts an epoch to a multiple of it
_VIEW, _MIX = 0, 1  # what a random key is for
_GLOBAL = threading.Lock()


def seed_of(*key: int) -> int:
    """A seed of 63 bits from a key."""
    return int(np.random.default_rng(key).integers(2**63))


@contextmanager
def global_draws(*key: int) -> Iterator[None]:
    """Inside, `random`, numpy's and torch's global CPU generators start from `key`; timm draws from
    all three. After, they go on as if untouched. One thread at a time.
    """
    with _GLOBAL:
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        seed = seed_of(*key)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every GPU
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])


def epoch_images(images: int, repeats: int) -> int:
    """Places of an epoch before it is cut into batches: all images, or DeiT's multiple of 256."""
    return images // _ROUND * _ROUND if repeats > 1 and images >= _ROUND else images


def epoch_places(images: int, batch: int, repeats: int, seed: int, epoch: int) -> Rows:
    """(iterations, batch, 2): which (copy, image) stand at each place of an epoch.

    With `repeats` 3 every image of a permutation comes three times in a row until the epoch is full
    (DeiT's RASampler over all its processes): an epoch sees a third of the images. An incomplete
    last batch is left out.
    """
    order = np.random.default_rng((seed, epoch)).permutation(images)
    rows = np.repeat(order, repeats)[: epoch_images(images, repeats)]
    copies = np.tile(np.arange(repeats), images)[: len(rows)]
    iterations = len(rows) // batch
    places = np.stack([copies, rows], axis=1)[: iterations * batch]
    return places.reshape(iterations, batch, 2)


def train_transform(recipe: FinetuneProtocol, spec: InputSpec, size_px: int) -> Any:
    """PIL image -> normalised float tensor (3, size, size): timm's training transform."""
    transform = create_transform(
        input_size=size_px,
        is_training=True,
        color_jitter=None,  # timm turns it off beside auto-augment, which all protocols have
        auto_augment=None if recipe.auto_augment == "off" else recipe.auto_augment,
        interpolation=spec.interpolation,
        re_prob=recipe.reprob,
        re_mode="pixel",
        re_count=1,
        mean=spec.mean,
        std=spec.std,
    )
    if recipe.crop == "pad" or (recipe.crop == "auto" and size_px <= PADDED_PX):
        # The scripts leave out the resize: CIFAR has this size already.
        mode = transforms.InterpolationMode(spec.interpolation)
        resize = transforms.Resize(size_px, mode)
        shift = transforms.RandomCrop(size_px, padding=4)
        transform.transforms[0] = transforms.Compose([resize, shift])
    for step in transform.transforms:
        for op in step.ops if isinstance(step, RandAugment) else ():
            if op.aug_fn is posterize:
                op.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """timm's, with 0 bits a black image, as when the scripts were run; today's Pillow refuses 0."""
    return posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)


class TrainBatches:
    """Batches of augmented and mixed images with soft targets, on the device.

    Mixup draws one coefficient a batch (timm's batch mode; the scripts draw one a process, for
    their share of the batch).
    """

    def __init__(
        self, split: Split, recipe: FinetuneProtocol, spec: InputSpec, data: TaskData, batch: int
    ) -> None:
        self.batch = batch
        self.iterations = epoch_images(len(split), recipe.repeats) // batch
        self._split, self._recipe, self._data, self._spec = split, recipe, data, spec
        self._images = decode_once(split, data.cache.root / "decoded", workers=data.workers)
        self._transform = train_transform(recipe, spec, spec.size_px)
        self._bad: dict[int, str] = {}
        mixing = recipe.mixup > 0 or recipe.cutmix > 0
        self._mixup = Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            prob=1.0 if mixing else 0.0,
            switch_prob=0.5,
            mode="batch",
            label_smoothing=recipe.smoothing,
            num_classes=len(split.classes),
        )

    def epoch(self, epoch: int) -> Iterator[SoftBatch]:
        """The batches of one epoch."""
        data, repeats = self._data, self._recipe.repeats
        places = epoch_places(len(self._split), self.batch, repeats, data.seed, epoch)
        flat = places.reshape(-1, 2)
        views = _Views(self._images, self._transform, (data.seed, epoch), flat)
        targets = torch.from_numpy(self._split.targets[flat[:, 1]])
        loaded = image_batches(
            views,  # type: ignore[arg-type]
            _as_it_is,  # type: ignore[arg-type]
            np.arange(len(flat)),
            min(data.batch_size, self.batch),
            data.workers,
            pin_memory=data.device.startswith("cuda"),
        )
        waiting: list[tuple[Tensor, Tensor]] = []
        current = 0
        for part in loaded:
            self._note({int(flat[place, 1]): why for place, why in part.bad.items()})
            number = part.rows // self.batch  # (b,) the batch that each image belongs to
            for index in number.unique().tolist():
                if index != current:
                    yield from self._mixed(waiting, epoch, current)
                    waiting, current = [], index
                waiting.append((part.pixels[number == index], targets[part.rows[number == index]]))
        yield from self._mixed(waiting, epoch, current)

    def _mixed(
        self, parts: list[tuple[Tensor, Tensor]], epoch: int, iteration: int
    ) -> Iterator[SoftBatch]:
        """One batch from its parts; none where too few images could be read."""
        if not parts:
            return
        device = self._data.device
        images = torch.cat([pixels.to(device, non_blocking=True) for pixels, _ in parts])
        target = torch.cat([classes for _, classes in parts]).to(device)
        even = len(images) // 2 * 2  # mixup pairs images; unreadable ones may leave one over
        if even:
            with global_draws(self._data.seed, epoch, iteration, _MIX):
                mixed: SoftBatch = self._mixup(images[:even], target[:even])
            yield mixed  # outside: the loader's thread draws while the batch is trained on

    def _note(self, bad: dict[int, str]) -> None:
        self._bad |= bad
        if bad:
            self._data.leave_out(self._bad)


@dataclass(frozen=True)
class _Views:
    """Stands in for a split in the loader: its images are the views of an epoch, in their order."""

    images: Images
    transform: Any
    key: tuple[int, int]  # seed, epoch
    places: Rows  # (n, 2): copy, row of the split

    def image(self, place: int) -> Tensor:
        """(3, size, size) float32, normalised."""
        copy, row = (int(number) for number in self.places[place])
        image: Image.Image = self.images.image(row)
        with global_draws(*self.key, row, copy, _VIEW):
            view: Tensor = self.transform(image)
        return view


def _as_it_is(view: Tensor) -> Tensor:
    return view

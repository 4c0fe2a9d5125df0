"""Batches of frozen features for probes, and the slice of train on which a probe is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.errors import DataError
from bench.features import PRECISIONS
from bench.loader import image_batches
from bench.task import TaskData
from bench.transforms import TrainTransform, image_rng
from tasks.memory import as_tensor
from tasks.probe import EvaluationSet

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split

Rows = npt.NDArray[np.int64]
FeatureBatch = tuple[dict[str, Tensor], Tensor]  # token recipe -> (b, d), classes (b,)


def held_out_slice(targets: npt.NDArray[np.int64], share: float, seed: int) -> tuple[Rows, Rows]:
    """(rows to train on, rows held out), both rising: a stratified, seeded share of the samples.

    Samples are shuffled within their class, laid out class after class, and every 1/share-th one
    is held out from a random start. So the total is right to one sample and each class is within
    one of its share, however small the classes are; a class's only sample stays in training.
    """
    if not 0 < share <= 0.5:
        raise DataError(f"holdout={share} must lie above 0 and at most 0.5; 0.1 is usual")
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(targets))
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    places = ((np.arange(int(len(targets) * share) + 1) + rng.random()) / share).astype(np.int64)
    held = by_class[places[places < len(targets)]]
    sizes = np.bincount(targets)
    held = np.sort(held[sizes[targets[held]] > 1])
    if len(targets) * share < 1 or not len(held):
        raise DataError(
            f"{len(targets)} training images are too few to hold out {share:g} of them; raise "
            "holdout, or take selection=test and say so"
        )
    return np.setdiff1d(np.arange(len(targets)), held), held


def epoch_order(
    n: int, batch: int, iterations: int, seed: int, epoch: int
) -> npt.NDArray[np.int64]:
    """(iterations, batch, 2): which (visit, sample) stand at each place of an epoch.

    Full permutations of the n samples one after the other, cut at iterations * batch; `visit`
    counts the permutations of the whole training, so it never repeats for one sample.
    """
    wanted = iterations * batch
    rounds = -(-wanted // n)
    visits = epoch * rounds + np.arange(rounds)
    order = [
        np.stack([np.full(n, visit), np.random.default_rng((seed, visit)).permutation(n)], axis=1)
        for visit in visits
    ]
    return np.concatenate(order)[:wanted].reshape(iterations, batch, 2)


class CachedBatches:
    """Batches of rows of stored features: the images as the cached pass saw them.

    An incomplete last batch is left out; every epoch is shuffled anew.
    """

    def __init__(
        self,
        whole: EvaluationSet,
        rows: Rows,
        batch: int,
        iterations: int | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self._tables = {token: as_tensor(x, device) for token, x in whole.features.items()}
        self._targets = torch.from_numpy(whole.target)
        self._rows, self.batch, self._seed = rows, batch, seed
        self._device = device
        self.iterations = iterations or len(rows) // batch

    def epoch(self, epoch: int) -> Iterator[FeatureBatch]:
        """The batches of one epoch, float32 on the device."""
        order = epoch_order(len(self._rows), self.batch, self.iterations, self._seed, epoch)
        for places in order[..., 1]:
            rows = torch.from_numpy(self._rows[places])
            features = {
                token: table[rows.to(table.device)].to(self._device, torch.float32)  # (b, d)
                for token, table in self._tables.items()
            }
            yield features, self._targets[rows].to(self._device)


class AugmentedBatches:
    """Batches of features of freshly augmented images: one frozen forward for all recipes.

    A batch of the heads (which may be 16,384 images) is forwarded in pieces of the size that fits
    the device. Crops depend on the seed, the visit and the sample only, not on loader processes.
    """

    def __init__(
        self,
        model: LoadedModel,
        split: Split,
        rows: Rows,
        tokens: Sequence[str],
        transform: TrainTransform,
        data: TaskData,
        batch: int,
        iterations: int | None = None,
    ) -> None:
        self._backbone = model.backbone.to(data.device).eval()
        self._split, self._rows, self._transform = split, rows, transform
        self._tokens, self._data, self.batch = tokens, data, batch
        self._device = torch.device(data.device)
        self._bad: dict[int, str] = {}
        self.iterations = iterations or len(rows) // batch

    def epoch(self, epoch: int) -> Iterator[FeatureBatch]:
        """The batches of one epoch, float32 on the device."""
        order = epoch_order(len(self._rows), self.batch, self.iterations, self._data.seed, epoch)
        places = order.reshape(-1, 2)  # (iterations * batch, 2)
        places[:, 1] = self._rows[places[:, 1]]
        targets = torch.from_numpy(self._split.targets[places[:, 1]])
        images = image_batches(
            _Crops(self._split, self._transform, self._data.seed, places),
            _as_it_is,
            np.arange(len(places)),
            self._data.batch_size,
            self._data.workers,
            pin_memory=self._device.type == "cuda",
        )
        pieces: list[FeatureBatch] = []
        current = 0
        for part in images:
            self._note({int(places[place, 1]): why for place, why in part.bad.items()})
            if not len(part.rows):
                continue
            features, target = self._forward(part.pixels), targets[part.rows].to(self._device)
            number = part.rows // self.batch  # (b,) the head batch that each image belongs to
            for index in number.unique().tolist():
                if index != current and pieces:
                    yield _merged(pieces)
                    pieces = []
                current, mine = index, (number == index).to(self._device)
                pieces.append(({token: x[mine] for token, x in features.items()}, target[mine]))
        if pieces:
            yield _merged(pieces)

    def _forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(b, 3, h, w) uint8 -> (b, d) float32 for every recipe."""
        dtype = PRECISIONS[self._data.precision]
        autocast = torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)
        with torch.inference_mode(), autocast:
            images = pixels.to(self._device, non_blocking=True)
            features = self._backbone.features(self._backbone.input.normalise(images), self._tokens)
        return {token: value.float() for token, value in features.items()}

    def _note(self, bad: dict[int, str]) -> None:
        """Unreadable images are left out, up to `skip_bad` different ones."""
        self._bad |= bad
        if len(self._bad) > self._data.skip_bad:
            raise DataError(
                f"{list(self._bad.values())[-1]} [{len(self._bad)} unreadable images, "
                f"{self._data.skip_bad} allowed: mend the files or pass --skip-bad N]"
            )


@dataclass(frozen=True)
class _Crops:
    """Stands in for a split in the loader: its images are the crops of an epoch, in their order."""

    split: Split
    transform: TrainTransform
    seed: int
    places: npt.NDArray[np.int64]  # (n, 2): visit, row of the split

    def image(self, place: int) -> Tensor:
        """(3, size, size) uint8."""
        visit, row = (int(number) for number in self.places[place])
        return self.transform(self.split.image(row), image_rng(self.seed, visit, row))


def _as_it_is(crop: Tensor) -> Tensor:
    return crop


def _merged(pieces: Sequence[FeatureBatch]) -> FeatureBatch:
    names = pieces[0][0]
    features = {token: torch.cat([part[token] for part, _ in pieces]) for token in names}
    return features, torch.cat([target for _, target in pieces])

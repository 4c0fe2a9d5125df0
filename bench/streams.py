"""Training images of frozen probes in their order, and their features batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.decoded import Images, decode_once
from bench.extraction import PRECISIONS
from bench.loader import image_batches
from bench.memory import as_tensor
from bench.split import Split
from bench.token_table import TOKENS
from bench.transforms import EvalTransform, SquareTransform, TrainTransform, Transform, image_rng

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.task import TaskData

Rows = npt.NDArray[np.int64]
FeatureBatch = tuple[dict[str, Tensor], Tensor]  # token recipe -> (b, d) or (b, t, d); classes (b,)


@dataclass(frozen=True, eq=False)
class Stream:
    """Which images of a split a probe trains on, how they are cut, and in which batches.

    `rows` are those of the split; an epoch has `iterations` batches of `batch` images. With a
    transform without randomness the features of the cached pass serve.
    """

    split: Split
    rows: Rows
    transform: TrainTransform | EvalTransform | SquareTransform
    batch: int
    iterations: int
    seed: int

    @cached_property
    def key(self) -> str:
        """Equal for streams that give the same images in the same batches."""
        rows = hashlib.sha256(np.ascontiguousarray(self.rows).tobytes()).hexdigest()
        facts = (self.transform.id, self.batch, self.iterations, self.seed)
        return f"{self.split.manifest} {self.split.images_digest} {rows} {facts}"

    @property
    def fixed(self) -> EvalTransform | SquareTransform | None:
        """The transform, unless each epoch cuts the images anew."""
        return None if isinstance(self.transform, TrainTransform) else self.transform


class Batches(Protocol):
    """A stream that is open for some token recipes."""

    def epoch(self, epoch: int) -> Iterator[FeatureBatch]:
        """The batches of one epoch, float32 on the device."""


def open_stream(
    stream: Stream, recipes: Sequence[str], model: LoadedModel, data: TaskData
) -> Batches:
    """The stream's features under every recipe, one forward an image at most."""
    if stream.fixed is None:
        return ForwardedBatches(stream, recipes, model, data)
    if TOKENS in recipes and not data.tokens(model, stream.split, stream.fixed).stored:
        return ForwardedBatches(stream, recipes, model, data)
    return StoredBatches(stream, recipes, model, data)


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
        np.stack(
            [np.full(n, visit), np.random.default_rng((seed, int(visit))).permutation(n)], axis=1
        )
        for visit in visits
    ]
    return np.concatenate(order)[:wanted].reshape(iterations, batch, 2)


class StoredBatches:
    """Batches of rows of the cached pass: images as every frozen task saw them.

    An incomplete last batch is left out; every epoch is shuffled anew.
    """

    def __init__(
        self, stream: Stream, recipes: Sequence[str], model: LoadedModel, data: TaskData
    ) -> None:
        self._stream, self._device = stream, data.device
        vectors = [recipe for recipe in recipes if recipe != TOKENS]
        self._tables: dict[str, Tensor] = {}
        self._tokens = None
        split_rows = None
        if vectors:
            table = data.features(model, stream.split, stream.fixed)
            self._tables = {recipe: as_tensor(table.get(recipe), data.device) for recipe in vectors}
            split_rows = table.split_rows
        if TOKENS in recipes:
            self._tokens = data.tokens(model, stream.split, stream.fixed)
            split_rows = self._tokens.split_rows
        assert split_rows is not None
        # Rows of the split as rows of the tables, which lack what could not be read.
        self._rows = np.searchsorted(split_rows, stream.rows)
        if not np.isin(stream.rows, split_rows).all():
            raise ValueError("a stream of stored features names images that could not be read")
        self._targets = torch.from_numpy(stream.split.targets)

    def epoch(self, epoch: int) -> Iterator[FeatureBatch]:
        """The batches of one epoch, float32 on the device."""
        s = self._stream
        order = epoch_order(len(s.rows), s.batch, s.iterations, s.seed, epoch)
        for places in order[..., 1]:
            rows = torch.from_numpy(self._rows[places])
            features = {
                recipe: table[rows.to(table.device)].to(self._device, torch.float32)  # (b, d)
                for recipe, table in self._tables.items()
            }
            if self._tokens is not None:
                ((_, features[TOKENS]),) = self._tokens.batches(rows.numpy(), len(rows))
            yield features, self._targets[s.rows[places]].to(self._device)


class ForwardedBatches:
    """Batches of features of freshly cut images: one frozen forward for all recipes.

    A batch of the heads (which may be 16,384 images) is forwarded in pieces of the size that fits
    the device. Crops depend on the seed, the visit and the sample only, not on loader processes.
    """

    def __init__(
        self, stream: Stream, recipes: Sequence[str], model: LoadedModel, data: TaskData
    ) -> None:
        self._backbone = model.backbone.to(data.device).eval()
        self._stream, self._recipes, self._data = stream, recipes, data
        self._device = torch.device(data.device)
        self._bad: dict[int, str] = {}
        self._images = decode_once(stream.split, data.cache.root / "decoded", workers=data.workers)

    def epoch(self, epoch: int) -> Iterator[FeatureBatch]:
        """The batches of one epoch, float32 on the device."""
        s = self._stream
        order = epoch_order(len(s.rows), s.batch, s.iterations, s.seed, epoch)
        places = order.reshape(-1, 2)  # (iterations * batch, 2)
        places[:, 1] = s.rows[places[:, 1]]
        targets = torch.from_numpy(s.split.targets[places[:, 1]])
        images = image_batches(
            cast(Split, _Crops(self._images, s.transform, s.seed, places)),
            cast(Transform, _as_it_is),
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
            number = part.rows // s.batch  # (b,) the head batch that each image belongs to
            for index in torch.unique(number).tolist():
                if index != current and pieces:
                    yield _merged(pieces)
                    pieces = []
                current, mine = index, (number == index).to(self._device)
                pieces.append(({name: x[mine] for name, x in features.items()}, target[mine]))
        if pieces:
            yield _merged(pieces)

    def _forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(b, 3, h, w) uint8 -> (b, d) or (b, t, d) float32 for every recipe."""
        dtype = PRECISIONS[self._data.precision]
        autocast = torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)
        with torch.no_grad(), autocast:  # not inference_mode: heads record graphs of what they read
            images = pixels.to(self._device, non_blocking=True)
            features = self._backbone.features(
                self._backbone.input.normalise(images), self._recipes
            )
        if self._stream.fixed is not None:  # as they would be, had they been stored
            features = {name: value.half() for name, value in features.items()}
        return {name: value.float() for name, value in features.items()}

    def _note(self, bad: dict[int, str]) -> None:
        self._bad |= bad
        if bad:
            self._data.leave_out(self._bad)


@dataclass(frozen=True)
class _Crops:
    """Stands in for a split in the loader: its images are the crops of an epoch, in their order."""

    images: Images
    transform: TrainTransform | EvalTransform | SquareTransform
    seed: int
    places: npt.NDArray[np.int64]  # (n, 2): visit, row of the split

    def image(self, place: int) -> Tensor:
        """(3, size, size) uint8."""
        visit, row = (int(number) for number in self.places[place])
        image = self.images.image(row)
        if isinstance(self.transform, TrainTransform):
            return self.transform(image, image_rng(self.seed, visit, row))
        return self.transform(image)


def _as_it_is(crop: Tensor) -> Tensor:
    return crop


def _merged(pieces: Sequence[FeatureBatch]) -> FeatureBatch:
    names = pieces[0][0]
    features = {name: torch.cat([part[name] for part, _ in pieces]) for name in names}
    return features, torch.cat([target for _, target in pieces])

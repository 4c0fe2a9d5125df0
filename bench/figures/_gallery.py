"""Where the figure `neighbours` searches, and what it finds there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.progress import track
from bench.records import ModelRecord

if TYPE_CHECKING:
    from torch import Tensor

    from bench.checkpoint import LoadedModel
    from bench.photos import Photo
    from bench.split import Split
    from bench.transforms import EvalTransform

BATCH = 32
Pixels = npt.NDArray[np.uint8]  # (s, s, 3)


@dataclass(frozen=True)
class Neighbour:
    """A training image near a query."""

    name: str
    label: str  # empty where there is none
    cosine: float
    row: int  # in the gallery


@dataclass(frozen=True, eq=False)
class Query:
    """An image with its neighbours, the nearest first.

    Attributes:
        voted: the class that they vote for; empty where they have no labels.
        right: whether that is its class; None where either is unknown.
    """

    name: str
    label: str
    pixels: Pixels
    neighbours: tuple[Neighbour, ...]
    voted: str = ""
    right: bool | None = None


@dataclass(frozen=True, eq=False)
class Gallery:
    """The images among which neighbours are searched.

    Attributes:
        title: what they are.
        ids: their names.
        targets: (m,) their classes, -1 without.
        words: names of the classes.
        features: (m, d) float16.
        pixels: how a model sees one of them, by its row.
        queries: whether they are the queries themselves.
    """

    title: str
    ids: Sequence[str]
    targets: npt.NDArray[np.int64]
    words: Sequence[str]
    features: npt.NDArray[Any]
    pixels: Callable[[int], Pixels]
    queries: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """All queries of one model, and how to get the pixels of their neighbours."""

    model: ModelRecord
    token: str
    gallery: Gallery
    queries: tuple[Query, ...]


def forward(model: LoadedModel, pixels: Tensor, token: str, device: str) -> npt.NDArray[Any]:
    """(n, d) float16 features, as the feature cache keeps them."""
    import torch

    found, backbone = [], model.backbone
    with torch.inference_mode():
        for batch in track(torch.split(pixels, BATCH), label=f"neighbours {model.record.name}"):
            images = backbone.input.normalise(batch.to(device))
            found.append(backbone.features(images, [token])[token].half().cpu())
    return torch.cat(found).numpy()


def of_split(
    model: LoadedModel,
    split: Split,
    transform: EvalTransform,
    token: str,
    device: str,
    skip_bad: int,
    folder: Path,
) -> Gallery:
    """The images of a data set; their features lie in the folder as long as it is there."""
    from bench.class_words import class_words
    from bench.features import FeatureCache
    from bench.recipes import blocks_of

    options = {"device": device, "skip_bad": skip_bad}
    cached = FeatureCache(folder)
    features = cached.extract(model, split, transform, blocks_of(token), **options)  # type: ignore[arg-type]
    return Gallery(
        f"{len(features):,} training images of {split.name}",
        features.ids,
        np.asarray(features.targets, dtype=np.int64),
        class_words(split),
        features.get(token),
        lambda row: channels_last(transform(split.image(int(features.split_rows[row])))),
    )


def of_queries(seen: Sequence[Photo], pixels: Tensor, features: npt.NDArray[Any]) -> Gallery:
    """The queries themselves, for images of no data set."""
    none = np.full(len(seen), -1, dtype=np.int64)
    names = [photo.name for photo in seen]
    title, image = f"the {len(seen):,} images given", lambda row: channels_last(pixels[row])
    return Gallery(title, names, none, (), features, image, queries=True)


def is_same(query: Query, place: int, gallery: Gallery, row: int) -> bool:
    """Whether an image of the gallery is the query: by its place, else by its name and pixels."""
    if gallery.queries:
        return row == place
    # Names alone will not do: the splits of a data set may use them twice.
    named = gallery.ids[row] == query.name
    return named and bool(np.array_equal(gallery.pixels(row), query.pixels))


def channels_last(pixels: Tensor) -> Pixels:
    """(3, s, s) -> (s, s, 3)."""
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

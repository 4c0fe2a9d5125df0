"""What a data set says of the pixels of its images: classes, objects, boxes.

A data set that has any of it declares `annotations`; tasks ask by the place of a sample in its
split, so they read every such data set alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from bench.errors import SpecError

if TYPE_CHECKING:
    from bench.dataset import Dataset
    from bench.split import Split

#: Pixels that count neither for nor against a prediction.
VOID = 255

LabelMap = npt.NDArray[np.uint8]  # (h, w)
Boxes = npt.NDArray[np.float64]  # (n, 4) left, top, right, bottom; the last two exclusive


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Readers of one data set's annotations, each called with (dataset, its split, key).

    Attributes:
        label_set: name of the set of pixel classes, such as `ade20k-150`: numbers of two of them
            are never comparable. Empty without `semantic`.
        classes: names of the pixel classes, in the order of their indices; without void.
        semantic: class of each pixel, `VOID` where it has none or does not count.
        objects: number of the object that each pixel belongs to, 0 for background, `VOID`.
        boxes: the objects' boxes in pixels; (0, 4) where there are none.
    """

    label_set: str = ""
    classes: tuple[str, ...] = ()
    semantic: Callable[[Any, str, str], LabelMap] | None = None
    objects: Callable[[Any, str, str], LabelMap] | None = None
    boxes: Callable[[Any, str, str], Boxes] | None = None


def annotations_of(split: Split, kind: str) -> Annotations:
    """The declaration of the one data set of a split; SpecError when it lacks `kind`.

    `kind` is `semantic`, `objects` or `boxes`.
    """
    datasets = split.datasets
    if len(datasets) != 1:
        raise SpecError(
            f"{split.name} joins {len(datasets)} data sets, whose annotations need not agree: "
            "ask for a cell of each"
        )
    found = cast("type[Dataset]", type(datasets[0])).annotations
    if found is None or getattr(found, kind) is None:
        raise SpecError(
            f"{split.name} says nothing of {_WORDS[kind]}; data sets that do: {_others(kind)}"
        )
    return found


def semantic_of(split: Split, index: int) -> LabelMap:
    """(h, w) class of each pixel of a sample's image, `VOID` where none counts."""
    return cast(LabelMap, _read(split, index, "semantic"))


def objects_of(split: Split, index: int) -> LabelMap:
    """(h, w) object of each pixel of a sample's image: 0 background, then 1, 2, ...; `VOID`."""
    return cast(LabelMap, _read(split, index, "objects"))


def boxes_of(split: Split, index: int) -> Boxes:
    """(n, 4) boxes of a sample's objects: left, top, right, bottom in pixels."""
    return cast(Boxes, _read(split, index, "boxes"))


_WORDS = {
    "semantic": "the classes of pixels",
    "objects": "which object a pixel belongs to",
    "boxes": "boxes of objects",
}


def _read(split: Split, index: int, kind: str) -> Any:
    return getattr(annotations_of(split, kind), kind)(*split.source(index))


def _others(kind: str) -> str:
    from bench import registry

    loaded = ((name, registry.load("dataset", name)) for name in registry.names("dataset"))
    names = [name for name, cls in loaded if getattr(cls.annotations, kind, None) is not None]
    return ", ".join(names) or "none"

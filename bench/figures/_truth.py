"""What a data set says of the objects in a photograph, as far as it says anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.annotations import (
    VOID,
    Boxes,
    LabelMap,
    annotations_of,
    boxes_of,
    objects_of,
    semantic_of,
)
from bench.errors import DataError, SpecError

if TYPE_CHECKING:
    from bench.photos import Photo
    from bench.split import Split

Kind = Literal["semantic", "objects", "boxes"]


@dataclass(frozen=True, eq=False)
class Truth:
    """The annotations of one image.

    Attributes:
        labels: (h, w) region of each pixel, or None.
        background: the label that is no region, if there is one.
        names: of the labels; empty for objects without names.
        boxes: (n, 4) left, top, right, bottom in pixels, or None.
        missing: why some of it is not there, although the data set has it.
    """

    labels: LabelMap | None = None
    background: int | None = None
    names: tuple[str, ...] = ()
    boxes: Boxes | None = None
    missing: tuple[str, ...] = ()

    def regions(self, labels: LabelMap) -> list[int]:
        """The labels of regions in a map, in rising order."""
        return [v for v in np.unique(labels).tolist() if v not in (VOID, self.background)]

    def name(self, region: int) -> str:
        """What a region shows."""
        return self.names[region] if region < len(self.names) else f"object {region}"


def truth_of(photo: Photo, objects: Literal["auto", "semantic", "instance"] = "auto") -> Truth:
    """What is known of a photograph; nothing of a file.

    Args:
        photo: the photograph.
        objects: whether regions are all pixels of a class or those of one object; by default
            classes, where the data set has them.

    Raises:
        SpecError: the data set lacks the regions that are asked for by name.
    """
    if photo.sample is None:
        return Truth()
    split, index = photo.sample
    kind: Kind = "objects" if objects == "instance" else "semantic"
    if objects == "auto" and not has(split, "semantic"):
        kind = "objects"
    elif objects != "auto":
        annotations_of(split, kind)
    missing: list[str] = []

    def read(kind: Kind, reader: Callable[[Split, int], Any]) -> Any:
        try:
            return reader(split, index) if has(split, kind) else None
        except DataError as error:  # images of VOC's list for boxes have no masks
            missing.append(str(error))
            return None

    labels = read(kind, semantic_of if kind == "semantic" else objects_of)
    boxes = read("boxes", boxes_of)
    if kind == "objects":
        return Truth(labels, 0, (), boxes, tuple(missing))
    names = annotations_of(split, kind).classes
    background = names.index("background") if "background" in names else None
    return Truth(labels, background, names, boxes, tuple(missing))


def has(split: Split, kind: Kind) -> bool:
    """Whether the data set of a split says this of its images."""
    try:
        annotations_of(split, kind)
    except SpecError:
        return False
    return True

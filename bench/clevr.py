"""Reader of CLEVR's scene files: VTAB's labels "count" and "distance" of each image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError, SpecError, nearest
from bench.json_files import reading
from bench.listed import listed_table, require_paths

Scene = Mapping[str, Any]

LEAST_OBJECTS, MOST_OBJECTS = 3, 10
#: bounds of the distance classes, in the depth units of `pixel_coords` (VTAB)
DEPTHS = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)

#: of each scene and object, what the labels do not need: nearly all of the file
_DROPPED = ("relationships", "directions", "3d_coords", "rotation", "material", "size", "color")


def count_label(scene: Scene) -> int:
    """The number of objects, less 3: 0..7."""
    found = len(scene["objects"])
    if not LEAST_OBJECTS <= found <= MOST_OBJECTS:
        raise ValueError(f"{found} objects, expected {LEAST_OBJECTS} to {MOST_OBJECTS}")
    return found - LEAST_OBJECTS


def distance_label(scene: Scene) -> int:
    """The class of the nearest object's depth: the largest index with `DEPTHS[index] < depth`."""
    depth = min(float(item["pixel_coords"][2]) for item in scene["objects"])
    if not DEPTHS[0] < depth <= DEPTHS[-1]:
        raise ValueError(f"depth {depth:g}, expected above {DEPTHS[0]:g} up to {DEPTHS[-1]:g}")
    return sum(bound < depth for bound in DEPTHS) - 1


LABELS: dict[str, tuple[Callable[[Scene], int], tuple[str, ...]]] = {
    "count": (count_label, tuple(map(str, range(LEAST_OBJECTS, MOST_OBJECTS + 1)))),
    "distance": (
        distance_label,
        tuple(f"{low:g}-{high:g}" for low, high in itertools.pairwise(DEPTHS)),
    ),
}


def scene_labels(scenes: Sequence[Scene], label: str) -> dict[str, int]:
    """File name -> class of each scene; `SpecError` for another label than those of `LABELS`."""
    if label not in LABELS:
        raise SpecError(f"label={label}: {nearest(label, LABELS)}")
    labels: dict[str, int] = {}
    for scene in scenes:
        name = scene["image_filename"]
        if name in labels:
            raise DataError(f"two scenes have the image {name}: unpack CLEVR_v1.0.zip again")
        try:
            labels[name] = LABELS[label][0](scene)
        except ValueError as error:
            raise DataError(
                f"scene {name} has no {label} label ({error}): it is not from CLEVR v1.0"
            ) from error
    return labels


def clevr_table(dataset: Dataset, split: str) -> Table:
    """A split as a table; ids are the file names. The official test images have no scenes."""
    label = dataset.options.get("label", "count")
    scenes = f"scenes/CLEVR_{split}_scenes.json"
    require_paths(dataset, dataset.root, f"images/{split}/", scenes)
    with reading(dataset.root / scenes, "CLEVR scenes", _DROPPED) as content:
        labels = scene_labels(content["scenes"], label)
    folder = dataset.root / "images" / split
    if not labels:
        raise layout_error(type(dataset), folder, f"{scenes} holds no scenes")
    return listed_table(dataset, folder, list(labels.items()), LABELS[label][1], scenes)

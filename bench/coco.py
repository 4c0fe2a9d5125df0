"""Reader of the COCO 2017 layout: as a classification split, and an image's annotations.

COCO has no image-level class. As a classification split, an image's target is the category of its
largest instance (by annotated area; crowds do not count; the lower annotation id wins a tie), and
-1 where it has none: such images serve pre-training and are left out by `Split.labelled`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.dataset import Dataset, Table, layout_error
from bench.json_files import reading
from bench.layouts import file_table, list_folder

WHAT = "COCO annotations"


@dataclass(frozen=True)
class CocoAnnotations:
    """All annotations of a split.

    `images["val2017/000000000139.jpg"]` holds `image` (the official record: id, width, height,
    ...), `instances` (official dicts: bbox as x, y, width, height in pixels, segmentation, area,
    iscrowd, the sparse category_id, id) and `captions` (texts).
    """

    categories: Mapping[int, str]  # sparse category id -> name, in the order of ids
    images: Mapping[str, Mapping[str, Any]]


@lru_cache(maxsize=2)  # the 2017 train file takes about 3 GB once read
def coco_annotations(root: Path, split: str) -> CocoAnnotations:
    """Boxes, masks and captions of each image of a split.

    `dataset, name, key = split.source(index)` gives a sample's place, and
    `coco_annotations(dataset.root, name).images[key]` its annotations. A missing captions file
    gives empty captions; a missing instances file is an error.
    """
    images: dict[str, dict[str, Any]] = {}
    by_id: dict[int, dict[str, Any]] = {}
    with reading(root / f"annotations/instances_{split}2017.json", WHAT) as content:
        for record in content["images"]:
            entry: dict[str, Any] = {"image": record, "instances": [], "captions": []}
            images[f"{split}2017/{record['file_name']}"] = by_id[record["id"]] = entry
        for annotation in content["annotations"]:
            by_id[annotation["image_id"]]["instances"].append(annotation)
        categories = _categories(content)
    captions = root / f"annotations/captions_{split}2017.json"
    if captions.is_file():
        with reading(captions, WHAT) as content:
            for annotation in content["annotations"]:
                if annotation["image_id"] in by_id:  # the captions file may list more images
                    by_id[annotation["image_id"]]["captions"].append(annotation["caption"])
    return CocoAnnotations(categories, images)


def coco_table(dataset: Dataset, split: str) -> Table:
    """A split as a table; ids are the file names.

    The JSON list says which images belong to the split, where there is one (instances, else
    captions, else image_info); without any, all images of the folder count. Without the instances
    file there are no classes and all targets are -1.
    """
    folder = dataset.root / f"{split}2017"
    if not folder.is_dir():
        raise layout_error(type(dataset), dataset.root, f"no folder {folder.name}/")
    sizes = dict(list_folder(folder)[0])
    kinds = ("instances", "captions", "image_info")
    lists = [dataset.root / f"annotations/{kind}_{split}2017.json" for kind in kinds]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        return file_table(dataset, folder, sorted(sizes.items()))
    category_of: dict[str, int] = {}
    categories: dict[int, str] = {}
    with reading(found, WHAT, drop=("segmentation",)) as content:
        names = sorted(record["file_name"] for record in content["images"])
        if found == lists[0]:
            category_of, categories = _largest(content), _categories(content)
    missing = [name for name in names if name not in sizes]
    if missing:
        raise layout_error(
            type(dataset),
            folder,
            f"{len(missing)} of the {len(names)} images that {found.name} lists are not in "
            f"{folder.name}/ ({', '.join(missing[:3])})",
        )
    number = {id_: index for index, id_ in enumerate(categories)}
    targets = [number[category_of[name]] if name in category_of else -1 for name in names]
    files = [(name, sizes[name]) for name in names]
    return file_table(dataset, folder, files, targets, tuple(categories.values()))


def _largest(content: Mapping[str, Any]) -> dict[str, int]:
    """File name -> category id of the largest instance that is not a crowd."""
    best: dict[int, tuple[float, int, int]] = {}
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd"):
            rank = (annotation["area"], -annotation["id"], annotation["category_id"])
            best[annotation["image_id"]] = max(rank, best.get(annotation["image_id"], rank))
    return {
        record["file_name"]: best[record["id"]][2]
        for record in content["images"]
        if record["id"] in best
    }


def _categories(content: Mapping[str, Any]) -> dict[int, str]:
    return dict(sorted((record["id"], record["name"]) for record in content["categories"]))

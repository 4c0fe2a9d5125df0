"""mini_scenes: several objects per image, in the layout of COCO 2017."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.captions import captions
from bench.data.mini.layout import Scene, scenes
from bench.data.mini.materials import MATERIALS, Part
from bench.data.mini.plan import Plan, Report, save_jpeg
from bench.data.mini.polygons import polygons

NAME = "mini_scenes"
# Split, share of the object train images; unlabeled2017 is what COCO+ adds to train2017.
SPLITS: tuple[tuple[str, float], ...] = (
    ("train2017", 0.5),
    ("val2017", 0.8 / 6),
    ("unlabeled2017", 0.5),
)
CHUNK = 400  # images drawn at once
LICENCE = {"id": 1, "name": "as stated by scikit-image and scikit-learn", "url": ""}


def write(folder: Path, plan: Plan, report: Report) -> None:
    """Write the image folders and ``annotations/{instances,captions,image_info}_*.json``."""
    (folder / "annotations").mkdir()
    per_class = {split: plan.per_class(share) for split, share in SPLITS}
    total = sum(per_class.values()) * len(MATERIALS)
    ids = _ids(total, plan)
    first = 0
    for split, many in per_class.items():
        own = ids[first : first + many * len(MATERIALS)]
        (folder / split).mkdir()

        def note(done: int, before: int = first) -> None:
            report(NAME, before + done, total)

        _write_split(folder, split, own, plan, note)
        first += len(own)


def _ids(n: int, plan: Plan) -> NDArray[np.int64]:
    """Image ids like the real ones: sparse, below a million, the splits interleaved."""
    ids: NDArray[np.int64] = (
        plan.rng("scenes/ids").choice(max(600_000, 4 * n), n, replace=False) + 1
    )
    return ids


def _write_split(
    folder: Path, split: str, ids: NDArray[np.int64], plan: Plan, report: Callable[[int], None]
) -> None:
    images: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    sentences: list[dict[str, Any]] = []
    for done, (image_id, scene) in enumerate(
        zip(ids.tolist(), _draw(split, ids, plan), strict=True)
    ):
        file = f"{image_id:012d}.jpg"
        save_jpeg(scene.pixels, folder / split / file)
        images.append(
            {
                "license": 1,
                "file_name": file,
                "coco_url": "",
                "height": plan.scene_px,
                "width": plan.scene_px,
                "date_captured": "2017-01-01 00:00:00",
                "flickr_url": "",
                "id": image_id,
            }
        )
        if split != "unlabeled2017":
            instances += _instances(scene, image_id)
            sentences += [{"image_id": image_id, "caption": text} for text in captions(scene)]
        if (done + 1) % CHUNK == 0 or done + 1 == len(ids):
            report(done + 1)
    _write_annotations(folder / "annotations", split, images, instances, sentences, plan)


def _draw(split: str, ids: NDArray[np.int64], plan: Plan) -> Iterator[Scene]:
    rng = plan.rng(f"scenes/{split}")
    mains = rng.permutation(np.arange(len(ids)) % len(MATERIALS))
    part: Part = "val" if split == "val2017" else "train"
    for start in range(0, len(ids), CHUNK):
        yield from scenes(mains[start : start + CHUNK], part, plan.scene_px, rng)


def _instances(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """One annotation per object; ids are set when the file is written."""
    out = []
    for mask, material in zip(scene.masks, scene.materials, strict=True):
        y, x = np.nonzero(mask)
        left, top = int(x.min()), int(y.min())
        out.append(
            {
                "segmentation": polygons(mask),
                "area": float(mask.sum()),
                "iscrowd": 0,
                "image_id": image_id,
                "bbox": [float(v) for v in (left, top, x.max() + 1 - left, y.max() + 1 - top)],
                "category_id": MATERIALS[material].category_id,
            }
        )
    return out


def _write_annotations(
    folder: Path,
    split: str,
    images: list[dict[str, Any]],
    instances: list[dict[str, Any]],
    sentences: list[dict[str, Any]],
    plan: Plan,
) -> None:
    head: dict[str, Any] = {
        "info": {
            "description": "sslbench mini_scenes",
            "version": str(plan.version),
            "year": 2017,
            "contributor": "sslbench",
            "url": "",
            "date_created": "2017/01/01",
        },
        "licenses": [LICENCE],
        "images": images,
    }
    categories = [
        {"supercategory": m.supercategory, "id": m.category_id, "name": m.name} for m in MATERIALS
    ]
    rng = plan.rng(f"scenes/{split}/annotation ids")
    if split == "unlabeled2017":
        files = {"image_info": {**head, "categories": categories}}
    else:
        files = {
            "instances": {
                **head,
                "annotations": _numbered(instances, rng),
                "categories": categories,
            },
            "captions": {**head, "annotations": _numbered(sentences, rng)},
        }
    for kind, content in files.items():
        (folder / f"{kind}_{split}.json").write_text(json.dumps(content, separators=(",", ":")))


def _numbered(rows: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Give each row an id of its own, sparse, in no order."""
    ids = rng.choice(max(900_000, 4 * len(rows)), len(rows), replace=False) + 1
    return [{**row, "id": int(number)} for row, number in zip(rows, ids, strict=True)]

"""mini_clevr: three to ten objects on a floor, in the layout of CLEVR."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.data.mini.captions import DIGITS
from bench.data.mini.materials import MATERIALS, Part
from bench.data.mini.plan import Plan, Report
from bench.data.mini.shapes import shapes
from bench.data.mini.tabletop import (
    COLOURS,
    FEWEST,
    HALF_HEIGHT,
    MOST,
    NEAREST,
    Tables,
    placed,
    rendered,
    world,
)

NAME = "mini_clevr"
SPLITS: tuple[tuple[Part, float], ...] = (("train", 0.4), ("val", 0.12))
CHUNK = 256  # images drawn at once


def write(folder: Path, plan: Plan, report: Report) -> None:
    """Write ``images/{train,val}/CLEVR_*.png`` and ``scenes/CLEVR_{train,val}_scenes.json``."""
    (folder / "scenes").mkdir()
    kinds = MOST - FEWEST + 1
    sizes = {split: plan.per_class(share, kinds) * kinds for split, share in SPLITS}
    done = 0
    for split, n in sizes.items():
        (folder / "images" / split).mkdir(parents=True)
        rng = plan.rng(f"clevr/{split}")
        counts = FEWEST + rng.permutation(np.arange(n) % kinds)
        edges = np.array(NEAREST)[rng.permutation(np.arange(n) % len(NEAREST))]  # (n, 2)
        nearest = rng.uniform(edges[:, 0], edges[:, 1])
        scenes: list[dict[str, Any]] = []
        for start in range(0, n, CHUNK):
            chunk = slice(start, start + CHUNK)
            tables = placed(counts[chunk], nearest[chunk], split, plan.object_px, rng)
            for row, pixels in enumerate(rendered(tables, split, plan.object_px, rng)):
                index = start + row
                name = f"CLEVR_{split}_{index:06d}.png"
                opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
                Image.fromarray(np.concatenate([pixels, opaque], 2)).save(
                    folder / "images" / split / name
                )
                scenes.append(
                    {
                        "image_index": index,
                        "image_filename": name,
                        "split": split,
                        "objects": _objects(tables, row, split, plan.object_px),
                    }
                )
            report(NAME, done + len(scenes), sum(sizes.values()))
        done += n
        _write_scenes(folder, split, scenes, plan)


def _objects(tables: Tables, row: int, part: Part, height_px: int) -> list[dict[str, Any]]:
    """The objects of one picture, in an order that says nothing."""
    names, digits = list(COLOURS), shapes(part).digits
    out = []
    for i in range(int(tables.counts[row])):
        size = "large" if tables.large[row, i] else "small"
        x, y = float(tables.x[row, i]), float(tables.y[row, i])
        depth = float(tables.depth[row, i])
        out.append(
            {
                "size": size,
                "material": MATERIALS[tables.material[row, i]].name,
                "shape": DIGITS[digits[tables.shape[row, i]]],
                "color": names[tables.colour[row, i]],
                "rotation": float(np.degrees(tables.angle[row, i]) % 360),
                "pixel_coords": [round(x), round(y), depth],
                "3d_coords": world(x / height_px, depth, HALF_HEIGHT[size]),
            }
        )
    return sorted(out, key=lambda thing: thing["3d_coords"])


def _write_scenes(folder: Path, split: str, scenes: list[dict[str, Any]], plan: Plan) -> None:
    content = {
        "info": {
            "split": split,
            "license": "as stated by scikit-image and scikit-learn",
            "version": str(plan.version),
            "date": "2017/01/01",
        },
        "scenes": scenes,
    }
    path = folder / "scenes" / f"CLEVR_{split}_scenes.json"
    path.write_text(json.dumps(content, separators=(",", ":")))

"""mini_ade: the material of each object's pixels, in the layout of ADE20K."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.mini.materials import MATERIALS, Part
from bench.data.mini.plan import Plan, Report, save_jpeg
from bench.data.mini.windows import windows

NAME = "mini_ade"
SPLITS: tuple[tuple[str, Part, float], ...] = (
    ("training", "train", 0.08),
    ("validation", "val", 1 / 30),
)
LEAST = 2  # images of each class
SIZES = ((48, 36), (48, 36), (36, 48), (40, 40))  # width, height in 48ths of a scene's side
REPORT = 100  # images between two reports


def write(folder: Path, plan: Plan, report: Report) -> None:
    """Write ``{images,annotations}/{training,validation}/ADE_*``.

    A material's label is its place + 1. Backgrounds are of no kind that could be told: they are
    0, ADE20K's "other", which no metric counts.
    """
    per_class = [max(LEAST, plan.per_class(share)) for _, _, share in SPLITS]
    total, done = sum(per_class) * len(MATERIALS), 0
    sizes = tuple((w * plan.scene_px // 48, h * plan.scene_px // 48) for w, h in SIZES)
    for (split, part, _), many in zip(SPLITS, per_class, strict=True):
        for kind in ("images", "annotations"):
            (folder / kind / split).mkdir(parents=True)
        rng = plan.rng(f"ade/{split}")
        for number, seen in enumerate(windows(many, sizes, plan.scene_px, part, rng), start=1):
            name = f"ADE_{part}_{number:08d}"
            save_jpeg(seen.pixels, folder / "images" / split / f"{name}.jpg")
            labels = np.array([0, *(seen.materials + 1)], np.uint8)[seen.front]
            Image.fromarray(labels).save(folder / "annotations" / split / f"{name}.png")
            done += 1
            if done % REPORT == 0 or done == total:
                report(NAME, done, total)

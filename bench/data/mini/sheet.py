"""A picture of the mini benchmark: what is in it, with names, boxes and outlines drawn in."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from bench.data.mini import objects, scenes
from bench.errors import DataError

CELL_PX = 96
TEXT_PX = 14
GAP_PX = 6
COLUMNS = 12
PER_CLASS = 4  # object images shown of each class: train, train, val, val
SCENES = 24
COLOURS = ("#ff4040", "#40ff60", "#40a0ff", "#ffe040", "#ff60ff", "#60ffff")


def contact_sheet(folder: Path) -> Image.Image:
    """One picture of ``mini_objects`` and ``mini_scenes`` as written in ``folder``.

    Raises:
        DataError: The data sets are not there.
    """
    for name in (objects.NAME, scenes.NAME):
        if not (folder / name).is_dir():
            raise DataError(f"no {name} in {folder}; write it with: sslbench mini {folder}")
    cells = _object_cells(folder / objects.NAME) + _scene_cells(folder / scenes.NAME)
    rows = -(-len(cells) // COLUMNS)
    pitch = CELL_PX + TEXT_PX + GAP_PX
    sheet = Image.new(
        "RGB", (COLUMNS * (CELL_PX + GAP_PX) + GAP_PX, rows * pitch + GAP_PX), "#181818"
    )
    draw = ImageDraw.Draw(sheet)
    for i, (picture, text) in enumerate(cells):
        x = GAP_PX + i % COLUMNS * (CELL_PX + GAP_PX)
        y = GAP_PX + i // COLUMNS * pitch
        sheet.paste(picture, (x, y))
        draw.text((x, y + CELL_PX), text, fill="white")
    return sheet


def _object_cells(root: Path) -> list[tuple[Image.Image, str]]:
    """The first images of each class, train before val."""
    lines = (root / "LOC_synset_mapping.txt").read_text().splitlines()
    cells = []
    for wnid, name in (line.split(" ", 1) for line in lines):
        for part in ("train", "val"):
            own = sorted((root / part / wnid).iterdir())[: PER_CLASS // 2]
            cells += [(_enlarged(path), f"{name} {part}") for path in own]
    return cells


def _enlarged(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").resize((CELL_PX, CELL_PX), Image.Resampling.NEAREST)


def _scene_cells(root: Path) -> list[tuple[Image.Image, str]]:
    """Scenes of both splits, plain and with annotations, named after the largest object."""
    cells = []
    for split in ("train2017", "val2017"):
        content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        names = {row["id"]: row["name"] for row in content["categories"]}
        by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in content["annotations"]:
            by_image[row["image_id"]].append(row)
        for image in content["images"][: SCENES // 2]:
            picture = _enlarged(root / split / image["file_name"])
            rows = sorted(by_image[image["id"]], key=lambda row: -float(row["area"]))
            label = names[rows[0]["category_id"]]
            cells.append((picture.copy(), f"{label} {split[:-4]}"))
            _annotate(picture, rows, CELL_PX / image["width"])
            cells.append((picture, ", ".join(names[row["category_id"]] for row in rows[1:])[:16]))
    return cells


def _annotate(picture: Image.Image, rows: list[dict[str, Any]], scale: float) -> None:
    draw = ImageDraw.Draw(picture)
    for row, colour in zip(rows, COLOURS, strict=False):
        x, y, width, height = (scale * v for v in row["bbox"])
        draw.rectangle((x, y, x + width - 1, y + height - 1), outline=colour)
        for polygon in row["segmentation"]:
            draw.polygon([scale * v for v in polygon], outline=colour)

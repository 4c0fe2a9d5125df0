"""A picture of the mini benchmark: what is in it, with names, boxes and outlines drawn in."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.data.mini import ade, clevr, davis, in9, objects, oxford, scenes, voc
from bench.data.mini.cells import CELL_PX, COLOURS, COLUMNS, Cell, enlarged, fitted
from bench.data.mini.mask_cells import ade_cells, davis_cells, voc_cells
from bench.errors import DataError
from bench.imagenet9 import VARIANTS
from bench.safe_pickle import load_plain_pickle

TEXT_PX = 14
GAP_PX = 6
TITLE_PX = 26
PER_CLASS = 4  # object images shown of each class: train, train, val, val
SCENES = 24
FLOORS = 12  # CLEVR scenes
FOREGROUNDS = 4  # rows of ImageNet-9 variants
INSTANCES = 4  # rows of queries with what is relevant to them
RELEVANT = (("easy", 4), ("hard", 4), ("junk", 2))  # images shown of each


def contact_sheet(folder: Path) -> Image.Image:
    """One picture of the data sets in ``folder``, those in CIFAR's batches left out.

    Raises:
        DataError: The data sets are not there.
    """
    sections = {
        objects.NAME: ("one object an image; the class is what it is made of", _object_cells),
        scenes.NAME: ("several objects, with boxes and outlines", _scene_cells),
        clevr.NAME: ("how many objects, and how far the nearest (red) is", _floor_cells),
        in9.NAME: (
            "one foreground in each row, with other backgrounds; its mask and super-class",
            _in9_cells,
        ),
        oxford.NAME: ("a query, and what is easy, hard or junk to it", _oxford_cells),
        voc.NAME: ("classes of pixels, then objects with boxes; void is light", voc_cells),
        ade.NAME: ("classes of pixels; void is light", ade_cells),
        davis.NAME: ("videos, with outlines of the numbered objects", davis_cells),
    }
    for name in sections:
        if not (folder / name).is_dir():
            raise DataError(f"no {name} in {folder}; write it with: sslbench mini {folder}")
    drawn = [
        _section(f"{name}: {text}", cells(folder / name))
        for name, (text, cells) in sections.items()
    ]
    sheet = Image.new("RGB", (drawn[0].width, sum(part.height for part in drawn)))
    top = 0
    for part in drawn:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _section(title: str, cells: list[Cell]) -> Image.Image:
    """A title above rows of cells; each row is as high as its highest picture."""
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    heights = [max(cell[0].height for cell in row if cell) for row in rows]
    height = TITLE_PX + sum(heights) + len(rows) * (TEXT_PX + GAP_PX) + GAP_PX
    section = Image.new("RGB", (COLUMNS * (CELL_PX + GAP_PX) + GAP_PX, height), "#181818")
    draw = ImageDraw.Draw(section)
    draw.text((GAP_PX, GAP_PX), title, fill="#ffe040", font=ImageFont.load_default(15))
    bottom = TITLE_PX + GAP_PX
    for row, high in zip(rows, heights, strict=True):
        bottom += high
        for column, cell in enumerate(row):
            if cell is not None:
                x = GAP_PX + column * (CELL_PX + GAP_PX)
                section.paste(cell[0], (x, bottom - cell[0].height))
                draw.text((x, bottom), cell[1], fill="white")
        bottom += TEXT_PX + GAP_PX
    return section


def _object_cells(root: Path) -> list[Cell]:
    """The first images of each class, train before val."""
    lines = (root / "LOC_synset_mapping.txt").read_text().splitlines()
    cells: list[Cell] = []
    for wnid, name in (line.split(" ", 1) for line in lines):
        for part in ("train", "val"):
            own = sorted((root / part / wnid).iterdir())[: PER_CLASS // 2]
            cells += [(enlarged(path), f"{name} {part}") for path in own]
    return cells


def _scene_cells(root: Path) -> list[Cell]:
    """Scenes of both splits, plain and with annotations, named after the largest object."""
    cells: list[Cell] = []
    for split in ("train2017", "val2017"):
        content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        names = {row["id"]: row["name"] for row in content["categories"]}
        by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in content["annotations"]:
            by_image[row["image_id"]].append(row)
        for image in content["images"][: SCENES // 2]:
            picture = enlarged(root / split / image["file_name"])
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


def _floor_cells(root: Path) -> list[Cell]:
    """CLEVR scenes of both splits, plain and with a mark at each object's centre."""
    cells: list[Cell] = []
    for split in ("train", "val"):
        content = json.loads((root / "scenes" / f"CLEVR_{split}_scenes.json").read_text())
        for scene in content["scenes"][: FLOORS // 2]:
            path = root / "images" / split / scene["image_filename"]
            with Image.open(path) as image:
                scale = CELL_PX / image.width
            picture = enlarged(path)
            cells.append((picture.copy(), f"{len(scene['objects'])} objects, {split}"))
            places = sorted(
                (thing["pixel_coords"] for thing in scene["objects"]), key=lambda c: c[2]
            )
            draw = ImageDraw.Draw(picture)
            for i, (x, y, _) in enumerate(places):
                draw.circle((x * scale, y * scale), 3, fill="#ff0000" if i == 0 else "#ffffff")
            cells.append((picture, f"nearest at {places[0][2]:.1f}"))
    return cells


def _in9_cells(root: Path) -> list[Cell]:
    """The variants of one image of some super-classes, and the foreground's mask."""
    cells: list[Cell] = []
    challenge = root / "bg_challenge"
    names = list(in9.SUPER_CLASSES)
    for name in names[:: len(names) // FOREGROUNDS][:FOREGROUNDS]:
        stem = sorted((challenge / "original" / "val" / name).iterdir())[0].stem
        row: list[Cell] = [
            (enlarged(challenge / variant / "val" / name / f"{stem}.JPEG"), variant)
            for variant in VARIANTS
        ]
        mask = np.load(challenge / "fg_mask" / "val" / name / f"{stem}.npy")
        row.append((fitted(Image.fromarray(mask).convert("RGB")), name))
        cells += row + [None] * (COLUMNS - len(row))
    return cells


def _oxford_cells(root: Path) -> list[Cell]:
    """Queries with their regions, the regions cut out, and images of each relevance."""
    truth = load_plain_pickle(root / f"gnd_{oxford.NAME}.pkl")
    cells: list[Cell] = []
    for name, own in list(zip(truth["qimlist"], truth["gnd"], strict=True))[:: oxford.QUERIES][
        :INSTANCES
    ]:
        path = root / "jpg" / f"{name}.jpg"
        with Image.open(path) as image:
            region = fitted(image.convert("RGB").crop(own["bbx"]))
            scale = CELL_PX / max(image.size)
        query = enlarged(path)
        x0, y0, x1, y1 = (scale * v for v in own["bbx"])
        ImageDraw.Draw(query).rectangle((x0, y0, x1 - 1, y1 - 1), outline="#ffe040")
        cells += [(query, "query"), (region, "its bbx")]
        for level, most in RELEVANT:
            found = own[level][:most]
            cells += [(enlarged(root / "jpg" / f"{truth['imlist'][i]}.jpg"), level) for i in found]
            cells += [None] * (most - len(found))
    return cells

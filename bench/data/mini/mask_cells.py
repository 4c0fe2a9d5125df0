"""Cells of the contact sheet for the sets with masks, read as the tasks read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from bench.annotations import VOID, LabelMap, annotations_of, boxes_of, objects_of, semantic_of
from bench.data.mini import ade, davis, voc
from bench.data.mini.cells import CELL_PX, COLOURS, COLUMNS, Cell, fitted
from bench.dataset import open_split
from bench.label_maps import resized_labels, voc_palette

VOC_EACH = 4  # images shown of train and of val
ADE_EACH = 6
VIDEOS = 4


def voc_cells(root: Path) -> list[Cell]:
    """Images of both splits, their classes, and their objects with boxes."""
    cells: list[Cell] = []
    for part in ("train", "val"):
        split = open_split(voc.NAME, part, root.parent)
        for index in range(VOC_EACH):
            classes, objects = semantic_of(split, index), objects_of(split, index)
            numbered = coloured(objects)
            draw = ImageDraw.Draw(numbered)
            scale = CELL_PX / max(objects.shape)
            boxes = boxes_of(split, index)
            for left, top, right, bottom in boxes * scale:
                draw.rectangle((left, top, right - 1, bottom - 1), outline="white")
            found = len(np.unique(classes[(classes != 0) & (classes != VOID)]))
            cells += [
                (fitted(split.image(index)), part),
                (coloured(classes), f"{found} classes"),
                (numbered, f"{len(boxes)} objects"),
            ]
    return cells


def ade_cells(root: Path) -> list[Cell]:
    """Images of both splits, and their classes."""
    cells: list[Cell] = []
    for part in ("train", "val"):
        split = open_split(ade.NAME, part, root.parent)
        names = annotations_of(split, "semantic").classes
        for index in range(ADE_EACH):
            classes = semantic_of(split, index)
            counts = np.bincount(classes[classes != VOID], minlength=len(names))
            cells += [
                (fitted(split.image(index)), part),
                (coloured(classes), names[int(counts.argmax())]),
            ]
    return cells


def davis_cells(root: Path) -> list[Cell]:
    """Each video in a row: its first frame, then frames with outlines."""
    cells: list[Cell] = []
    for part in ("train", "val"):
        split = open_split(davis.NAME, part, root.parent)
        names = [id_.partition("/")[0] for id_ in split.ids]
        for name in list(dict.fromkeys(names))[: VIDEOS // 2]:
            rows = [index for index, own in enumerate(names) if own == name]
            cells.append((fitted(split.image(rows[0])), f"{name[:14]} {part}"))
            room = COLUMNS - 1
            for at in np.unique(np.linspace(0, len(rows) - 1, room).astype(int)):
                row = rows[at]
                cells.append((outlined(split.image(row), objects_of(split, row)), f"frame {at}"))
            cells += [None] * (-len(cells) % COLUMNS)
    return cells


def coloured(labels: LabelMap) -> Image.Image:
    """Labels (h, w) in VOC's colours, at a cell's size."""
    palette = np.array(voc_palette(), np.uint8).reshape(256, 3)
    return fitted(Image.fromarray(palette[labels]))


def outlined(image: Image.Image, objects: LabelMap) -> Image.Image:
    """An image at a cell's size with a line around each object, inside it."""
    large = fitted(image)
    numbers = resized_labels(objects, (large.height, large.width))
    beside = np.pad(numbers, 1, mode="edge")
    edge = np.zeros(numbers.shape, np.bool_)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        height, width = numbers.shape
        edge |= numbers != beside[rows : rows + height, columns : columns + width]
    pixels = np.array(large)
    for number, colour in enumerate(COLOURS, start=1):
        pixels[edge & (numbers == number)] = ImageColor.getrgb(colour)[:3]
    return Image.fromarray(pixels)

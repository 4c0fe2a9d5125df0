"""The page of the figure `discovery`: photograph, masks, box and truth side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Page
from matplotlib.patches import Rectangle

from bench.figures._overlay import Layer, at_size, painted
from bench.figures._sheet import HEAD, LINE, MARGIN, Sheet, fill, lines
from bench.page import GREY, distinct_colours, plain

if TYPE_CHECKING:
    from bench.figures.discovery import Found, Scene

TILE, GAP, NAMES = 1.8, 0.12, 1.45  # inches; the last is the column of names
HEADING, LINE_BELOW, BELOW = 0.22, 0.14, 0.16  # heights: column heads, what is written, the rest
LETTERS = 26  # below a tile
BOX = "#d55e00"  # of Okabe and Ito's colours
MARKS = {True: "✓", False: "✗"}


def discovery_page(found: Found) -> Page:
    """A row an image; the column of the truth only where any image has some."""
    known = any(has_truth(scene) for scene in found.scenes)
    columns = ["image", "masks", "box of LOST", *["truth", "IoU of the best mask"] * known]
    width = 2 * MARGIN + 3 * (TILE + GAP) - GAP + (GAP + TILE + GAP + NAMES) * known
    text = caption(found)
    above = HEAD + LINE * len(lines(text, width)) + HEADING
    heights = [tile(scene)[1] + LINE_BELOW + BELOW for scene in found.scenes]
    page = Sheet(width, above + sum(heights))
    page.head(found.model.name, text)
    for column, head in enumerate(columns):
        page.write(head, place(column), above - HEADING + 0.02, fontsize=8.5, fontweight="bold")
    top = above
    for scene, height in zip(found.scenes, heights, strict=True):
        draw_row(page, scene, found, top, known)
        top += height
    return page.page


def place(column: int) -> float:
    """Where a column begins, in inches."""
    return MARGIN + column * (TILE + GAP)


def tile(scene: Scene) -> tuple[float, float]:
    """Width and height in inches: the image's own aspect in a square."""
    width, height = scene.image.size
    longest = max(width, height)
    return TILE * width / longest, TILE * height / longest


def draw_row(page: Sheet, scene: Scene, found: Found, top: float, known: bool) -> None:
    """The tiles of one image and what stands below them."""
    photo = at_size(scene.image)
    width, height = tile(scene)
    colours = distinct_colours(max(len(scene.regions), len(scene.masks)))
    true = truth_layers(scene, colours)
    pictures = [photo, painted(photo, mask_layers(scene, colours)), photo]
    if known:
        pictures.append(painted(photo, true) if has_truth(scene) else np.ones_like(photo))
    for column, picture in enumerate(pictures):
        axes = page.panel(place(column), top, width, height)
        fill(axes, picture, extent=(0, scene.image.width, scene.image.height, 0))
        if column == 2:
            draw_boxes(axes, nearest_box(scene), "white", 1.0)
            draw_boxes(axes, scene.box[None], BOX, 2.0)
        if column == 3:
            draw_boxes(axes, scene.truth.boxes, "white", 0.8)
    below = top + height + 0.03
    page.write(plain(Path(scene.name).name, LETTERS), place(0), below)
    masks = f"{len(scene.masks)} masks" if len(scene.masks) != 1 else "1 mask"
    if scene.jaccard is None:
        page.write(masks, place(1), below, color=GREY)
    else:
        page.write(f"Jaccard {scene.jaccard:.2f} of {masks}", place(1), below)
    if scene.box_iou is not None:
        right = scene.box_iou >= found.iou
        page.write(f"IoU {scene.box_iou:.2f} {MARKS[right]}", place(2), below)
    if known:
        write_regions(page, scene, colours, top)


def has_truth(scene: Scene) -> bool:
    """Whether anything is known of an image."""
    return scene.truth.labels is not None or scene.truth.boxes is not None


def mask_layers(scene: Scene, colours: npt.NDArray[np.float64]) -> list[Layer]:
    """The best mask of each region, the best fit on top; else all masks, the smallest on top."""
    if not scene.regions:
        order = np.argsort(-scene.masks.sum((1, 2)), kind="stable").tolist()
        return [(scene.masks[mask], colours[mask]) for mask in order]
    if not len(scene.masks):
        return []
    order = np.argsort(scene.ious.max(0), kind="stable").tolist()
    return [(scene.masks[scene.best[region]], colours[region]) for region in order]


def truth_layers(scene: Scene, colours: npt.NDArray[np.float64]) -> list[Layer]:
    """The true regions."""
    labels = scene.truth.labels
    if labels is None:
        return []
    return [(labels == region, c) for region, c in zip(scene.regions, colours, strict=False)]


def draw_boxes(
    axes: Axes, boxes: npt.NDArray[np.float64] | None, colour: str, points: float
) -> None:
    """Boxes in the image's pixels, with a dark line around theirs."""
    for left, top, right, bottom in () if boxes is None else boxes.tolist():
        for line, width in (("black", points + 1), (colour, points)):
            frame = Rectangle((left, top), right - left, bottom - top, fill=False)
            frame.set(edgecolor=line, linewidth=width, joinstyle="miter")
            axes.add_patch(frame)


def nearest_box(scene: Scene) -> npt.NDArray[np.float64]:
    """(1, 4) the true box that the box of LOST meets best; (0, 4) where there is none."""
    if scene.truth.boxes is None or scene.box_ious is None or not len(scene.box_ious):
        return np.zeros((0, 4))
    best = int(scene.box_ious.argmax())
    return scene.truth.boxes[best : best + 1]


def write_regions(page: Sheet, scene: Scene, colours: npt.NDArray[np.float64], top: float) -> None:
    """The names of the true regions in their colours, those that a mask fits best above."""
    best = scene.ious.max(0) if len(scene.ious) else np.zeros(len(scene.regions))
    order = np.argsort(-best, kind="stable").tolist()
    room = int(tile(scene)[1] // LINE_BELOW)
    shown = order if len(order) <= room else order[: room - 1]
    left = place(4)
    for slot, index in enumerate(shown):
        line = top + slot * LINE_BELOW
        page.write("■", left, line, color=colours[index])
        page.write(plain(scene.truth.name(scene.regions[index]), 15), left + 0.12, line)
        page.write(f"{best[index]:.2f}", left + NAMES, line, ha="right")
    if len(order) > len(shown):
        text = f"and {len(order) - len(shown)} more"
        page.write(text, left + 0.12, top + len(shown) * LINE_BELOW, color=GREY)
    if not order:
        text = "no region" if scene.truth.labels is not None else "without masks"
        page.write(text if has_truth(scene) else "not annotated", left, top, color=GREY)


def caption(found: Found) -> str:
    """What is shown, and the means over the images."""
    what = {"attn_cls": "the attention of each head", "proto": "the patches of each prototype"}
    jaccards = [s.jaccard for s in found.scenes if s.jaccard is not None]
    ious = [s.box_iou for s in found.scenes if s.box_iou is not None]
    text = f"Masks: {what[found.maps]} ({found.protocol}, {found.size_px} px)"
    if jaccards:
        text += (
            ", the best for each true region in its colour, the best fit on top; mean Jaccard "
            f"{np.mean(jaccards):.3f} of {len(jaccards)} images"
        )
    else:
        text += ", the smallest on top"
    text += ". Orange: the box of LOST"
    if ious:
        right = sum(iou >= found.iou for iou in ious)
        text += (
            f", right in {right} of {len(ious)} images, where it meets a true one (white) at IoU "
            f"{found.iou:g}"
        )
    return text + "."

"""The page of the figure `davis`: strips of frames, predicted masks over true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure as Page

from bench.annotations import VOID, LabelMap
from bench.figures._overlay import Layer, at_size, painted
from bench.figures._sheet import HEAD, LINE, MARGIN, Sheet, fill, lines
from bench.label_maps import voc_palette
from bench.page import GREY, plain

if TYPE_CHECKING:
    from bench.figures._clips import Clip
    from bench.figures.davis import Found

WIDTH, LABEL, GAP = 9.6, 0.62, 0.05  # inches: the page, the names of the rows, between tiles
IN_A_LINE = 6  # frames
TALLEST, NARROW = 1.7, 1.25  # a tile's height, and the width that two words need below it
NAME, OBJECTS, CAPTION, BELOW = 0.22, 0.16, 0.18, 0.16  # heights of text, and under a strip
OBJECT = 2.2  # width of the numbers of an object
SHARE = 0.4  # of a frame's own colours, so that those of the masks stand out
COLOURS = np.array(voc_palette()).reshape(256, 3) / 255


def davis_page(found: Found, most: int) -> Page:
    """A block a video: its name, its objects' scores, and lines of frames."""
    text = caption(found)
    above = HEAD + LINE * len(lines(text, WIDTH)) + 0.05
    blocks = [Block(clip, most) for clip in found.clips]
    page = Sheet(WIDTH, above + sum(block.height for block in blocks))
    page.head(found.model.name, text)
    top = above
    for block in blocks:
        block.draw(page, top)
        top += block.height
    return page.page


class Block:
    """One video on the page, with `most` of its frames."""

    def __init__(self, clip: Clip, most: int) -> None:
        self.clip = clip
        count = min(most, len(clip.frames))
        places = np.linspace(0, len(clip.frames) - 1, count) if count > 1 else np.zeros(1)
        chosen = places.round().astype(int).tolist()
        columns = -(-count // -(-count // IN_A_LINE))  # lines are about as long
        self.lines = [chosen[i : i + columns] for i in range(0, count, columns)]
        room = (WIDTH - 2 * MARGIN - LABEL + GAP) / max(columns, 4) - GAP
        h, w = clip.masks[0].shape
        width = min(room, TALLEST * w / h)
        self.tile: tuple[float, float] = (width, width * h / w)
        self.in_a_row = int((WIDTH - 2 * MARGIN) // OBJECT)  # objects
        self.lower = CAPTION if width < NARROW else 0.0  # of the scores than the frames' names
        self.strip = 2 * self.tile[1] + GAP + CAPTION + self.lower

    @property
    def height(self) -> float:
        """In inches."""
        rows = -(-len(self.clip.numbers) // self.in_a_row)
        return NAME + OBJECTS * rows + self.strip * len(self.lines) + BELOW

    def draw(self, page: Sheet, top: float) -> None:
        """The block, from there down."""
        clip = self.clip
        page.write(plain(clip.name), MARGIN, top, fontsize=9.5, fontweight="bold")
        top += NAME
        for place, (number, j, f) in enumerate(zip(clip.numbers, *clip.means, strict=True)):
            row, column = divmod(place, self.in_a_row)
            left, line = MARGIN + column * OBJECT, top + row * OBJECTS
            page.write("■", left, line, color=COLOURS[number])
            scores = "not scored" if np.isnan(j) else f"J {j:.2f}   F {f:.2f}"
            page.write(f"object {number}   {scores}", left + 0.13, line)
        top += OBJECTS * -(-len(clip.numbers) // self.in_a_row)
        for frames in self.lines:
            self.draw_strip(page, frames, top)
            top += self.strip

    def draw_strip(self, page: Sheet, frames: Sequence[int], top: float) -> None:
        """A line of frames under the predicted masks, and below under the true ones."""
        width, height = self.tile
        page.write("predicted", MARGIN, top + height / 2 - 0.06, color=GREY)
        page.write("truth", MARGIN, top + height * 1.5 + GAP - 0.06, color=GREY)
        for column, frame in enumerate(frames):
            left = MARGIN + LABEL + column * (width + GAP)
            photo = at_size(self.clip.image(frame))
            for row, labels in enumerate((self.clip.masks[frame], self.clip.truth(frame))):
                picture = painted(photo, mask_layers(labels), colours=SHARE)
                fill(page.panel(left, top + row * (height + GAP), width, height), picture)
            below = top + 2 * height + GAP + 0.03
            page.write(plain(self.clip.frames[frame], 12), left, below)
            score = self.clip.scores[:, :, frame].mean()
            text = "given" if frame == 0 else "" if np.isnan(score) else f"J&F {score:.2f}"
            page.write(text, left + width, below + self.lower, ha="right", color=GREY)


def mask_layers(labels: LabelMap) -> list[Layer]:
    """The objects of a map in the colours of DAVIS."""
    numbers = [v for v in np.unique(labels).tolist() if v not in (0, VOID)]
    return [(labels == number, COLOURS[number]) for number in numbers]


def caption(found: Found) -> str:
    """What is shown, and the mean over all objects."""
    objects = sum(len(clip.numbers) for clip in found.clips)
    sides = " and ".join(str(side) for side in sorted({*found.sizes.values()}))
    text = (
        f"Masks carried on from the first frame, which is given, by frames with a short side of "
        f"{sides} px: {len(found.clips)} of {found.videos} videos of {', '.join(found.sizes)}."
    )
    if found.mean is not None:
        text += f" J&F {found.mean:.3f} in the mean of {objects} objects."
    return text

"""The page of the figure `attention`: a row of maps for each image and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Page

from bench.figures._sheet import HEAD, LINE, MARGIN, Sheet, fill, lifted, lines
from bench.page import GREY, plain

if TYPE_CHECKING:
    from bench.figures.attention import Attention, Found

GAP = 0.06  # inches
TILES = (0.95, 1.45)  # sides of the smallest and the largest
APART = 0.14  # between the photo, the mean and the heads, and between images
NAME, CAPTION, BELOW = 0.22, 0.17, 0.16  # heights of text, and under a row
NARROWEST = 6.8
IN_A_LINE = 8  # heads
LETTERS = 17  # under a photo
COLOURS = "inferno"


@dataclass(frozen=True)
class Layout:
    """Where things lie on the page, in inches.

    Attributes:
        tile: side of a map.
        width: of the page.
        masks: whether a mask lies below each map.
        names: whether each row has its model's name above it.
    """

    tile: float
    width: float
    masks: bool
    names: bool

    @classmethod
    def of(cls, columns: int, masks: bool, names: bool) -> Layout:
        """With tiles as large as a narrow page holds."""
        between = 2 * MARGIN + 2 * APART + (columns - 1) * GAP
        tile = min(max((NARROWEST - between) / (columns + 2), TILES[0]), TILES[1])
        width = max(NARROWEST, between + (columns + 2) * tile)
        return cls(tile, width, masks, names)

    @property
    def line(self) -> float:
        """From one line of heads to the next."""
        return self.tile + CAPTION + (self.tile + GAP if self.masks else 0)

    def row(self, heads: int) -> float:
        """The height of one model's row."""
        return -(-heads // in_a_line(heads)) * self.line + NAME * self.names + BELOW


def attention_page(found: Sequence[Found], figure: Attention) -> Page:
    """All models on the first image, then on the next."""
    drawn = [min(figure.heads, model.heads) for model in found]
    several, images = len(found) > 1, len(found[0].names)
    layout = Layout.of(max(map(in_a_line, drawn)), figure.masks, several)
    block = sum(map(layout.row, drawn)) + APART * several
    text = caption(found, figure)
    above = HEAD + LINE * len(lines(text, layout.width))
    page = Sheet(layout.width, above + images * block)
    page.head("CLS attention of the last block" if several else found[0].model.name, text)
    for image in range(images):
        top = above + image * block
        draw_photo(page, layout, found[0], image, top + NAME * several)
        for model, heads in zip(found, drawn, strict=True):
            if several:
                left = MARGIN + layout.tile + APART
                page.write(plain(model.model.name), left, top + 0.05, fontweight="bold")
            draw_maps(page, layout, model, image, heads, top + NAME * several)
            top += layout.row(heads)
    return page.page


def in_a_line(heads: int) -> int:
    """Heads side by side, so that all lines are about as long."""
    lines = -(-heads // IN_A_LINE)
    return -(-heads // lines)


def draw_photo(page: Sheet, layout: Layout, model: Found, image: int, top: float) -> None:
    """The photograph over its class, or its name where it has none."""
    fill(page.panel(MARGIN, top, layout.tile, layout.tile), model.pixels[image])
    text = model.labels[image] or Path(model.names[image]).name
    page.write(plain(text, LETTERS), MARGIN, top + layout.tile + 0.03)


def draw_maps(
    page: Sheet, layout: Layout, model: Found, image: int, heads: int, top: float
) -> None:
    """The mean of all heads, and the first `heads` of them in lines."""
    tile, photo = layout.tile, model.pixels[image] / 255

    def draw(name: str, place: int, x: float, y: float) -> None:
        attention, mask = model.maps[image, place], model.masks[image, place]
        largest = float(attention.max())
        fill(page.panel(x, y, tile, tile), attention, cmap=COLOURS, vmin=0, vmax=largest)
        if layout.masks:
            y += GAP + tile
            fill(page.panel(x, y, tile, tile), lifted(photo, mask))
        page.write(name, x, y + tile + 0.03)
        share = f"{100 * mask.mean():.0f} %"
        page.write(share, x + tile, y + tile + 0.03, ha="right", color=GREY)

    left = MARGIN + tile + APART
    draw("mean", 0, left, top)
    left += tile + APART
    for head in range(heads):
        row, column = divmod(head, in_a_line(heads))
        draw(f"head {head + 1}", head + 1, left + column * (tile + GAP), top + row * layout.line)


def caption(found: Sequence[Found], figure: Attention) -> str:
    """What is shown."""
    sizes = {(model.pixels.shape[1], model.maps.shape[2]) for model in found}
    looked = " and ".join(f"{size} px ({side} x {side} patches)" for size, side in sorted(sizes))
    fewer = [model.heads for model in found if model.heads > figure.heads]
    return (
        f"Attention from CLS to the patches in the last block, on images of {looked}"
        + f"; the first {figure.heads} of {max(fewer, default=0)} heads" * bool(fewer)
        + ". Each map from none (black) to its own most (yellow)."
        + " Below a map and in per cent:" * figure.masks
        + " In per cent:" * (not figure.masks)
        + f" the fewest patches that hold {100 * figure.mass:g} % of it."
    )

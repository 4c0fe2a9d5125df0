"""Cells of the contact sheet: pictures at one size, with a few words under each."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

CELL_PX = 96
COLUMNS = 12
COLOURS = ("#ff4040", "#40ff60", "#40a0ff", "#ffe040", "#ff60ff", "#60ffff")

Cell = tuple[Image.Image, str] | None  # a picture and what is said under it; None stays empty


def enlarged(path: Path) -> Image.Image:
    """The image of a file at a cell's size."""
    with Image.open(path) as image:
        return fitted(image.convert("RGB"))


def fitted(image: Image.Image) -> Image.Image:
    """The image at a cell's size, its longest side filling it."""
    scale = CELL_PX / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST)

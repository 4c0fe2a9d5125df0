"""Indexed PNGs: the masks of VOC, DAVIS, ADE20K and CamVid, read as labels and never as colours."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.annotations import LabelMap
from bench.errors import DataError
from bench.images import FORMATS, MAX_PIXELS

_INDEXED = ("P", "L", "1")


def voc_palette() -> list[int]:
    """The 256 RGB colours of PASCAL VOC, which DAVIS uses too, flat as PIL takes them.

    Bits 0, 1 and 2 of an index go to the highest bits of red, green and blue, the next three to
    the bits below, and so on.
    """
    colours = np.zeros((256, 3), dtype=np.int64)
    index = np.arange(256)
    for place in range(8):
        for channel in range(3):
            bit = (index >> (3 * place + channel)) & 1
            colours[:, channel] |= bit << (7 - place)
    return [int(value) for value in colours.ravel()]


@cache  # it takes as long as writing a small mask
def _palette() -> bytes:
    return bytes(voc_palette())


def read_label_map(path: Path, image: Path | None = None) -> LabelMap:
    """(h, w) labels of an indexed or grey PNG: its stored values, whatever its palette.

    Args:
        path: the PNG.
        image: the photograph that it belongs to, whose size it must have.

    Raises:
        DataError: it is missing, broken, too large, holds colours, or has another size.
    """
    try:
        with Image.open(path, formats=("PNG", "BMP", "TIFF")) as stored:
            mode, size = stored.mode, stored.size
            if size[0] * size[1] > MAX_PIXELS:
                raise ValueError(f"{size[0]} x {size[1]} pixels, {MAX_PIXELS} allowed")
            labels = np.array(stored) if mode in _INDEXED else None
    except FileNotFoundError:
        raise DataError(f"mask {path} is missing: restore it from the official release") from None
    except Exception as error:  # PIL's plug-ins raise anything
        raise DataError(
            f"cannot read mask {path} ({error or type(error).__name__}): take it from the official "
            "release again"
        ) from error
    if labels is None:
        raise DataError(
            f"mask {path} holds colours (mode {mode}), expected labels in an indexed or grey PNG "
            "(mode P or L): save it with its palette, and take the labels, not their colours"
        )
    if image is not None:
        _check_size(path, size, image)
    return labels.astype(np.uint8)


def _check_size(path: Path, size: tuple[int, int], image: Path) -> None:
    try:
        with Image.open(image, formats=FORMATS) as photograph:
            expected = photograph.size
    except Exception:  # PIL's plug-ins raise anything
        return  # told where the image itself is read
    if size != expected:
        raise DataError(
            f"mask {path} has {size[0]} x {size[1]} pixels, its image {image.name} {expected[0]} x "
            f"{expected[1]}: take both from the same release"
        )


def resized_labels(labels: LabelMap, size: tuple[int, int]) -> LabelMap:
    """(height, width) of `size`: the pixel under each centre, floor((i + 1/2) old / new).

    PIL's nearest, which torchvision takes for label images too; labels of that size come back as
    they are.
    """
    if labels.shape == size:
        return labels
    picture = Image.fromarray(labels).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.array(picture)  # a picture's own memory cannot be written


def index_png(labels: npt.NDArray[np.integer]) -> bytes:
    """A PNG of labels (h, w) below 256 in VOC's palette, as the official evaluators read it."""
    picture = Image.fromarray(labels.astype(np.uint8), "L")
    picture.putpalette(_palette())  # turns it into mode P
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()

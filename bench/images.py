"""Decoding of image files into plain RGB, with every failure named after its file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench.errors import DataError

#: Twice PIL's warning threshold: where PIL itself raises DecompressionBombError. Stated here
#: because imported libraries may switch PIL's own check off for the whole process.
MAX_PIXELS = 178_956_970

#: What photographs are kept in. PIL goes by content, not by name, and knows formats that hand their
#: bytes to other programs (EPS).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# PIL warns from half the limit on, of what is then read all the same. Once for the process:
# `warnings.catch_warnings` around each image would not be safe in threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode(source: bytes | str | Path, name: str = "") -> Image.Image:
    """The image as a new RGB picture, pixels as the official loaders see them.

    Follows the reference pipelines (`PIL.Image.convert("RGB")`): alpha is dropped and not blended,
    EXIF orientation is not applied, an animation gives its first frame. Unlike them, 16-bit greys
    keep their upper byte instead of being clipped to white.

    Args:
        source: the path of an image file, or its bytes.
        name: what to call the image in errors when `source` is bytes.

    Raises:
        DataError: the file is missing, truncated, no image, or larger than `MAX_PIXELS`.
    """
    label = name or (f"{len(source)} bytes" if isinstance(source, bytes) else str(source))
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(stream, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{width} x {height} pixels")
            image.load()
            return _to_rgb(image)
    except FileNotFoundError:
        raise DataError(
            f"image {label} is missing: restore the file, or scan the data set again"
        ) from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"image {label} is over the limit of {MAX_PIXELS / 1e6:.0f} megapixels ({error}): "
            "shrink it, or remove it from the data set"
        ) from error
    except Exception as error:  # PIL's plug-ins raise anything from SyntaxError to struct.error
        raise DataError(
            f"cannot read image {label} ({_reason(error)}): replace the file, or pass "
            "--skip-bad N to leave out up to N such images"
        ) from error


def _reason(error: Exception) -> str:
    # PIL puts the path, or the repr of a buffer, into this one; the path is in our message already.
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    return str(error) or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # "I;16", "I;16B" and, from some files, 32-bit "I"
        grey = np.asarray(image)  # (h, w)
        if grey.size and (grey.max() > 0xFFFF or grey.min() < 0):
            raise ValueError("32-bit grey values, expected 8 or 16 bits")
        return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point grey values of unknown range, expected 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        # PIL warns on the direct way, and warnings stop a run that treats them as errors.
        image = image.convert("RGBA")
    return image.convert("RGB")

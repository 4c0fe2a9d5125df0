"""Boxes of an XML file of VOC's `Annotations/`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from bench.errors import DataError

_ROUNDING_PX = 1.0  # how far a box may reach over the edge: a few corners are not whole numbers


class Box(NamedTuple):
    """An object of an XML file, in pixels from 0; right and bottom are exclusive."""

    name: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.bottom - self.top)


def read_boxes(path: Path) -> tuple[list[Box], int]:
    """The boxes of an XML file in its order, and its bytes; `DataError` names file and object."""
    try:
        content = path.read_bytes()
        # An entity can expand to gigabytes. Zero bytes are UTF-16, in which nothing is found.
        for mark in (b"<!DOCTYPE", b"<!ENTITY", b"\0"):
            if mark in content:
                raise ValueError(f"it holds {mark!r}, expected plain elements")
        tree = ElementTree.fromstring(content)
        width, height = (_number(tree, f"size/{side}") for side in ("width", "height"))
        found = [_box(item, width, height, n) for n, item in enumerate(tree.iterfind("object"), 1)]
    except FileNotFoundError:
        raise DataError(f"{path} is missing: restore it from the official release") from None
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
        raise DataError(
            f"cannot read boxes {path} ({error}): take it from the official release again"
        ) from error
    return found, len(content)


def _box(item: ElementTree.Element, width: float, height: float, number: int) -> Box:
    name = (item.findtext("name") or "").strip()
    # of the object itself: its parts (heads, hands) have boxes of their own
    corners = [_number(item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = corners[0] - 1, corners[1] - 1, corners[2], corners[3]
    inside = left >= -_ROUNDING_PX and right <= width + _ROUNDING_PX
    inside &= top >= -_ROUNDING_PX and bottom <= height + _ROUNDING_PX
    if not (inside and left < right and top < bottom):
        box = " ".join(f"{corner:g}" for corner in corners)
        raise ValueError(
            f"object {number}, {name}: box {box} is none inside {width:g} x {height:g} pixels"
        )
    return Box(name, left, top, right, bottom)


def _number(item: ElementTree.Element, path: str) -> float:
    text = item.findtext(path)
    if text is None:
        raise ValueError(f"{item.tag} without {path}")
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{path} is {text}")
    return value

"""What may be asked of a page of any figure: where its texts and panels lie, and its colours."""

import io
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Page
from matplotlib.transforms import Bbox
from PIL import Image


def clashes(page: Page) -> list[str]:
    """What overlaps: text with text, text with a panel, a panel with a panel, text with the edge.

    Text that belongs to a panel may lie on it.
    """
    canvas = FigureCanvasAgg(page)
    canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in page.texts]
    boxes += [(f"panel {i}", axes.get_window_extent()) for i, axes in enumerate(page.axes)]
    found = [f"{a} on {b}" for (a, x), (b, y) in combinations(boxes, 2) if overlap(x, y)]
    return found + [name for name, box in boxes if not inside(box, page)]


def overlap(a: Bbox, b: Bbox) -> bool:
    """Whether they share more than a pixel each way."""
    shared = np.minimum(a.max, b.max) - np.maximum(a.min, b.min)
    return bool((shared > 1).all())


def inside(box: Bbox, page: Page) -> bool:
    """Whether a box lies on the page."""
    return bool((box.min >= -1).all() and (box.max <= np.array(page.bbox.max) + 1).all())


def texts(page: Page) -> list[str]:
    """All that is written, in the order of writing."""
    return [text.get_text() for text in page.texts] + [
        text.get_text() for axes in page.axes for text in axes.texts
    ]


def tile_pixels(axes: Axes, png: bytes) -> np.ndarray:
    """(h, w, 3) uint8 of the picture where a panel of its page lies."""
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    height, width = picture.shape[:2]
    place = axes.get_position()
    rows = slice(round((1 - place.y1) * height), round((1 - place.y0) * height))
    return picture[rows, slice(round(place.x0 * width), round(place.x1 * width))]

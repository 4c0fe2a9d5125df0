"""The animation of the figure `rollout`: the episodes of a task side by side, task after task."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from bench.figures._overlay import at_size
from bench.figures._rollout_page import GREEN, framed, solved_at, timeline, title
from bench.figures._sheet import resized

if TYPE_CHECKING:
    from bench.figures._sheet import Image
    from bench.figures.rollout import Film, Found, Scene

SIDE, GAP = 256, 8  # pixels: of a frame, between frames
HEAD, BAR, LETTERS = 22, 8, 13  # pixels: of the text above, of the decisions below, of letters
COLOURS = 128  # of a task: 40 kB a page
MILLISECONDS = 100  # 10 frames a second
MOST = 60  # frames of a task; of longer episodes as many, evenly spaced
REST = 1000  # milliseconds of each task's last frame
TO_COME = 0.25  # share of the colour of decisions that are still to come
SAMPLED = 9  # pages from which the colours are chosen


def animation(found: Found) -> bytes:
    """A GIF of all tasks; each has its own colours."""
    width = max(len(scene.films) for scene in found.scenes) * (SIDE + GAP) - GAP
    pages, durations = [], []
    for scene in found.scenes:
        own = list(indexed(scene, width))
        pages += own
        durations += [MILLISECONDS] * (len(own) - 1) + [REST]
    stream = io.BytesIO()
    options = {"save_all": True, "append_images": pages[1:], "loop": 0, "optimize": False}
    pages[0].save(stream, "GIF", duration=durations, disposal=1, **options)
    return stream.getvalue()


def indexed(scene: Scene, width: int) -> Iterator[Pictures.Image]:
    """The pages of a task in the colours that serve them all."""
    last = max(len(film.frames) for film in scene.films) - 1
    chosen = np.linspace(0, last, min(last + 1, MOST)).round().astype(int).tolist()
    pages = [Pictures.fromarray(painted_page(scene, frame, width)) for frame in chosen]
    some = np.concatenate([np.asarray(page) for page in pages[:: -(-len(pages) // SAMPLED)]])
    palette = Pictures.fromarray(some).quantize(COLOURS, Pictures.Quantize.MEDIANCUT)
    kept = np.array([(0, 0, 0), (1, 1, 1), to_rgb(GREEN)])
    colours = (palette.getpalette() or [])[: 3 * COLOURS]
    palette.putpalette(colours + (255 * kept).round().astype(int).ravel().tolist())
    for page in pages:  # without dither, which flickers and is three times as large
        yield page.quantize(palette=palette, dither=Pictures.Dither.NONE)


def painted_page(scene: Scene, frame: int, width: int) -> np.ndarray:
    """uint8 (h, w, 3): a frame of each episode, under what it is, over its decisions."""
    page = np.zeros((HEAD + SIDE + GAP // 2 + BAR, width, 3), np.uint8)
    drawn = Pictures.fromarray(page)
    pen, font = ImageDraw.Draw(drawn), ImageFont.truetype(str(letters()), LETTERS)
    for place, film in enumerate(scene.films):
        left, own = place * (SIDE + GAP), min(frame, len(film.frames) - 1)
        pen.text((left + 2, 3), f"{scene.name}, {title(film)}", "white", font)
        drawn.paste(as_picture(seen(film, own)), (left, HEAD))
        drawn.paste(as_picture(progress(film, own)), (left, HEAD + SIDE + GAP // 2))
    return np.asarray(drawn)


def seen(film: Film, frame: int) -> Image:
    """(SIDE, SIDE, 3) of an episode, with a green border where it is solved."""
    photo = at_size(Pictures.fromarray(film.frames[frame]), SIDE)
    return framed(photo) if solved_at(film, frame) else photo


def progress(film: Film, frame: int) -> Image:
    """(BAR, SIDE, 3) the decisions, dark where they are still to come."""
    colours = timeline(film).copy()  # (1, T, 3)
    colours[:, frame:] = TO_COME
    return np.asarray(resized(colours, (BAR, SIDE)))


def as_picture(image: Image) -> Pictures.Image:
    """The same in 8 bits."""
    return Pictures.fromarray((255 * image).round().astype(np.uint8))


def letters() -> Path:
    """The font that ships with matplotlib, the same on every machine."""
    return Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"

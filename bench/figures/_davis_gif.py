"""The animation of the figure `davis`: one video after the other, masks over the frames."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pictures

from bench.figures._davis_page import COLOURS, SHARE, mask_layers
from bench.figures._overlay import at_size, border, painted
from bench.figures._sheet import resized

if TYPE_CHECKING:
    from bench.figures._clips import Clip
    from bench.figures._sheet import Image
    from bench.figures.davis import Found

LONG, PALETTE = 400, 128  # pixels of the long side, colours beside the masks': 60 kB a frame
MILLISECONDS = 100  # 10 frames a second
MOST = 40  # frames of a video; of longer ones as many, evenly spaced
SAMPLED = 9  # frames from which the colours are chosen


def animation(found: Found) -> bytes:
    """A GIF of all videos; each has its own colours."""
    clips = [list(indexed(clip)) for clip in found.clips]
    width = max(frame.width for clip in clips for frame in clip)
    height = max(frame.height for clip in clips for frame in clip)
    pages = [centred(frame, width, height) for clip in clips for frame in clip]
    stream = io.BytesIO()
    options = {"save_all": True, "append_images": pages[1:], "loop": 0, "optimize": False}
    pages[0].save(stream, "GIF", duration=MILLISECONDS, disposal=1, **options)
    return stream.getvalue()


def indexed(clip: Clip) -> Iterator[Pictures.Image]:
    """The frames of a video in the colours that serve them all."""
    count = min(len(clip.frames), MOST)
    chosen = np.linspace(0, len(clip.frames) - 1, count).round().astype(int).tolist()
    frames = [Pictures.fromarray(painted_frame(clip, frame)) for frame in chosen]
    some = np.concatenate([np.asarray(frame) for frame in frames[:: -(-len(frames) // SAMPLED)]])
    palette = Pictures.fromarray(some).quantize(PALETTE, Pictures.Quantize.MEDIANCUT)
    kept = 255 * np.stack([np.zeros(3), np.ones(3), *COLOURS[list(clip.numbers)]])
    colours = (palette.getpalette() or [])[: 3 * PALETTE] + kept.round().astype(
        int
    ).ravel().tolist()
    palette.putpalette(colours[: 3 * 256])
    for frame in frames:  # without dither, which flickers and is three times as large
        yield frame.quantize(palette=palette, dither=Pictures.Dither.NONE)


def painted_frame(clip: Clip, frame: int) -> np.ndarray:
    """uint8 (h, w, 3): a frame under the predicted masks, the true borders in white."""
    photo = at_size(clip.image(frame), LONG)
    picture: Image = painted(photo, mask_layers(clip.masks[frame]), colours=SHARE)
    truth = resized(clip.truth(frame), photo.shape[:2])
    for number in clip.numbers:
        picture[border(truth == number, 1)] = 1.0
    return (255 * picture).round().astype(np.uint8)


def centred(frame: Pictures.Image, width: int, height: int) -> Pictures.Image:
    """A frame in the middle of a canvas of the animation's size."""
    if frame.size == (width, height):
        return frame
    palette = frame.getpalette() or []
    darkest = int(np.array(palette).reshape(-1, 3).sum(1).argmin())
    page = Pictures.new("P", (width, height), darkest)
    page.putpalette(palette)
    page.paste(frame, ((width - frame.width) // 2, (height - frame.height) // 2))
    return page

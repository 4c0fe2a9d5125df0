"""mini_davis: short videos of moving objects, in the layout of DAVIS-2017."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.data.mini.captions import DIGITS
from bench.data.mini.materials import MATERIALS, Part
from bench.data.mini.motion import MOST, Videos, videos
from bench.data.mini.plan import Plan, Report, save_jpeg
from bench.data.mini.shapes import shapes
from bench.label_maps import index_png

NAME = "mini_davis"
# Part, fewest videos, object train images for each.
PARTS: tuple[tuple[Part, int, int], ...] = (("train", 3, 1000), ("val", 4, 500))
FRAMES = (12, 10, 14)  # of one video after the other
RESOLUTION = "480p"  # the folders' official name; frames are as high as scenes


def write(folder: Path, plan: Plan, report: Report) -> None:
    """Write ``{JPEGImages,Annotations}/480p/<video>/`` and ``ImageSets/2017/{train,val}.txt``."""
    (folder / "ImageSets" / "2017").mkdir(parents=True)
    many = {part: max(least, round(plan.images / each)) for part, least, each in PARTS}
    lengths = {part: [FRAMES[i % len(FRAMES)] for i in range(n)] for part, n in many.items()}
    total, done = sum(map(sum, lengths.values())), 0
    size = (plan.scene_px * 7 // 4, plan.scene_px)
    taken: set[str] = set()
    for part, n in many.items():
        rng = plan.rng(f"davis/{part}")
        counts = rng.permutation(np.arange(n) % MOST) + 1
        drawn = videos(counts, max(FRAMES), size, part, rng)
        names = _names(drawn, n, taken)
        for name in names:
            for kind in ("JPEGImages", "Annotations"):
                (folder / kind / RESOLUTION / name).mkdir(parents=True)
        for time, (pixels, labels) in enumerate(drawn.frames()):
            for row, name in enumerate(names):
                if time < lengths[part][row]:
                    place = f"{RESOLUTION}/{name}/{time:05d}"
                    save_jpeg(pixels[row], folder / "JPEGImages" / f"{place}.jpg")
                    png = index_png(labels[row])
                    (folder / "Annotations" / f"{place}.png").write_bytes(png)
                    done += 1
            report(NAME, done, total)
        listing = "\n".join(sorted(names)) + "\n"
        (folder / "ImageSets" / "2017" / f"{part}.txt").write_text(listing)


def _names(drawn: Videos, n: int, taken: set[str]) -> list[str]:
    """Names such as ``brick-seven``, after the videos' first objects, none of them in ``taken``."""
    digits = shapes(drawn.part).digits
    first = drawn.movers[0]
    names = []
    for row in range(n):
        at = int(np.flatnonzero(first.video == row)[0])
        material = MATERIALS[first.thing.material[at]].name
        stem = f"{material}-{DIGITS[digits[first.thing.shape[at]]]}"
        copies = (stem, *(f"{stem}-{number}" for number in range(2, n + len(taken) + 2)))
        names.append(next(name for name in copies if name not in taken))
        taken.add(names[-1])
    return names

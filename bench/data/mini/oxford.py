"""mini_oxford: retrieval of single things, in the layout of Revisited Oxford.

All of it is drawn from val regions and val scans: retrieval trains nothing.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.captions import DIGITS
from bench.data.mini.materials import MATERIALS, Floats, Ints
from bench.data.mini.plan import Plan, Report, save_jpeg
from bench.data.mini.shapes import shapes
from bench.data.mini.views import VIEWS, Things, seen, things

NAME = "mini_oxford"
LEAST = 4  # instances
IMAGES_EACH = 250  # object train images for each instance
QUERIES = 2  # of each instance
OTHERS = 12  # distractors for each instance
EASY, CHANGED, FAR, TINY, COVERED = (3, 6), (2, 3), (2, 3), (0, 2), (1, 2)  # images of each
NO_EASY = 8  # every so many instances, one has no easy image, as some of Oxford's
SIZES = ((2.0, 1.5), (1.5, 2.0), (2.0, 1.25))  # width, height in sides of an object image
PREFIX = "mini"  # of the names of distractors
RELEVANCE = {
    "easy": "easy", "changed": "hard", "far": "hard", "tiny": "junk", "covered": "junk",
}  # fmt: skip


@dataclass(frozen=True)
class _Pictures:
    """A table of the pictures to draw, one row each."""

    instance: Ints  # -1: a distractor
    kind: list[str]  # key of VIEWS
    size: Ints  # place in SIZES


def write(folder: Path, plan: Plan, report: Report) -> None:
    """Write ``jpg/*.jpg`` and ``gnd_mini_oxford.pkl``."""
    (folder / "jpg").mkdir()
    rng = plan.rng("oxford/val")
    many = max(LEAST, round(plan.images / IMAGES_EACH))
    instances = things(many, "val", rng)
    table = _table(many, rng)
    names = _names(instances, table, rng)
    boxes = _draw(folder / "jpg", instances, table, names, plan, report)
    content = _ground_truth(table, names, boxes, rng)
    (folder / f"gnd_{NAME}.pkl").write_bytes(pickle.dumps(content, protocol=2))


def _table(many: int, rng: np.random.Generator) -> _Pictures:
    rows: list[tuple[int, str]] = []
    for instance in range(many):
        rows += [(instance, "query")] * QUERIES
        for kind, (low, high) in zip(RELEVANCE, (EASY, CHANGED, FAR, TINY, COVERED), strict=True):
            count = int(rng.integers(low, high + 1))
            if kind == "easy" and instance % NO_EASY == NO_EASY - 1:
                count = 0
            rows += [(instance, kind)] * count
    rows += [(-1, "other")] * (OTHERS * many)
    size = rng.integers(0, len(SIZES), len(rows))
    return _Pictures(np.array([row[0] for row in rows]), [row[1] for row in rows], size)


def _names(instances: Things, table: _Pictures, rng: np.random.Generator) -> list[str]:
    """Names such as ``brick_seven_000123`` and ``mini_000124``; no two numbers are the same."""
    numbers = rng.permutation(4 * len(table.kind))[: len(table.kind)] + 1
    digits = shapes("val").digits
    out = []
    for instance, number in zip(table.instance, numbers, strict=True):
        material = MATERIALS[instances.material[instance]].name
        thing = f"{material}_{DIGITS[digits[instances.shape[instance]]]}"
        out.append(f"{PREFIX if instance < 0 else thing}_{number:06d}")
    return out


def _draw(
    folder: Path,
    instances: Things,
    table: _Pictures,
    names: list[str],
    plan: Plan,
    report: Report,
) -> Floats:
    """Write all pictures; gives the boxes (n, 4) of what they show."""
    boxes, done = np.zeros((len(names), 4)), 0
    kinds = np.array(table.kind)
    for kind, view in VIEWS.items():
        for size, sides in enumerate(SIZES):
            rows = np.flatnonzero((kinds == kind) & (table.size == size))
            if not len(rows):
                continue
            rng = plan.rng(f"oxford/val/{kind}/{size}")
            if kind == "other":
                shown = things(len(rows), "val", rng)
            else:
                shown = instances.take(table.instance[rows])
            width, height = (round(side * plan.object_px) for side in sides)
            pictures = seen(shown, view, (width, height), "val", rng)
            boxes[rows] = pictures.boxes
            for row, pixels in zip(rows, pictures.pixels, strict=True):
                save_jpeg(pixels, folder / f"{names[row]}.jpg")
            done += len(rows)
            report(NAME, done, len(names))
    return boxes


def _ground_truth(
    table: _Pictures, names: list[str], boxes: Floats, rng: np.random.Generator
) -> dict[str, Any]:
    """``{imlist, qimlist, gnd}`` in the official form, plain lists and floats throughout."""
    kinds = np.array(table.kind)
    database = rng.permutation(np.flatnonzero(kinds != "query"))
    queries = np.flatnonzero(kinds == "query")
    relevance = np.array([RELEVANCE.get(kind, "") for kind in table.kind])
    gnd = []
    for query in queries:
        own: NDArray[np.bool_] = table.instance[database] == table.instance[query]
        gnd.append(
            {
                "bbx": boxes[query].tolist(),
                **{
                    level: np.flatnonzero(own & (relevance[database] == level)).tolist()
                    for level in ("easy", "hard", "junk")
                },
            }
        )
    return {
        "imlist": [names[row] for row in database],
        "qimlist": [names[row] for row in queries],
        "gnd": gnd,
    }

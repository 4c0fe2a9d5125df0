"""The shapes of the mini benchmark: 1,797 scans of handwritten digits, as signed distances.

scikit-learn ships the scans (8 x 8, 17 grey levels) in the order in which they were collected,
writer after writer. Train shapes are the first 1,400, val shapes the last 397: no scan is in both,
and few writers are.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.data.mini.materials import Floats, Part
from bench.errors import DataError

TRAIN_SCANS = 1400
GRID = 64  # side of a distance map; one scan cell is GRID / CELLS wide
CELLS = 10  # 8 cells of the scan and a margin of one
THICKEN = 0.55  # scan cells added around the pen's line


@dataclass(frozen=True)
class Shapes:
    """Signed distances (positive inside) of thickened scans, in units of the map's side."""

    distance: Floats  # (n, GRID, GRID)
    digits: NDArray[np.int64]  # (n,) the digit that was written
    scans: NDArray[np.int64]  # (n,) row in scikit-learn's table
    centre: Floats  # (n, 2) x, y of the tight box's centre, in map sides from the map's centre
    half: Floats  # (n, 2) half width and half height of the tight box, in map sides
    area: Floats  # (n,) inside / (map side)**2

    def __len__(self) -> int:
        return len(self.digits)


@cache
def shapes(part: Part) -> Shapes:
    """All shapes of a part."""
    grey, digits = _scans()
    rows = np.arange(len(digits))
    rows = rows[:TRAIN_SCANS] if part == "train" else rows[TRAIN_SCANS:]
    distance = np.stack([_distance(grey[row]) for row in rows])  # (n, GRID, GRID)
    centre, half, area = [], [], []
    for inside in distance > 0:
        y, x = np.nonzero(inside)
        low = np.array([x.min(), y.min()]) / GRID - 0.5
        high = (np.array([x.max(), y.max()]) + 1) / GRID - 0.5
        centre.append((low + high) / 2)
        half.append((high - low) / 2)
        area.append(inside.mean())
    return Shapes(
        distance,
        digits[rows],
        rows,
        np.asarray(centre),
        np.asarray(half),
        np.asarray(area),
    )


def _scans() -> tuple[Floats, NDArray[np.int64]]:
    """Grey levels (1797, 8, 8) in 0..1, and the digits (1797,)."""
    resource = files("sklearn").joinpath("datasets", "data", "digits.csv.gz")
    if not resource.is_file():
        raise DataError(
            "the installed scikit-learn has no datasets/data/digits.csv.gz, which the mini "
            "benchmark is made from; mend it with: pip install --force-reinstall scikit-learn"
        )
    with resource.open("rb") as packed, gzip.open(packed, "rt") as text:
        table = np.loadtxt(text, delimiter=",")  # (1797, 65)
    grey = table[:, :-1].reshape(-1, 8, 8) / 16
    return grey, table[:, -1].astype(np.int64)


def _distance(scan: Floats) -> Floats:
    """Signed distance map (GRID, GRID) of one scan's largest piece, thickened."""
    padded = np.pad(scan, (CELLS - 8) // 2)
    # Cell centres to grid: the map's pixel i lies at (i + 0.5) * CELLS / GRID - 0.5 cells.
    axis = (np.arange(GRID) + 0.5) * CELLS / GRID - 0.5
    fine = ndimage.map_coordinates(padded, np.meshgrid(axis, axis, indexing="ij"), order=3)
    pieces, found = ndimage.label(fine > 0.45)
    if found > 1:  # specks beside the digit would become objects of their own
        sizes = ndimage.sum_labels(np.ones_like(fine), pieces, np.arange(1, found + 1))
        pen = pieces == 1 + int(np.argmax(sizes))
    else:
        pen = pieces > 0
    cells = GRID / CELLS
    thick = ndimage.distance_transform_edt(~pen) < THICKEN * cells
    signed = ndimage.distance_transform_edt(thick) - ndimage.distance_transform_edt(~thick)
    # The two transforms measure to pixel centres: the border lies half a pixel further.
    signed = signed - np.sign(signed) * 0.5
    return np.asarray(signed / GRID)

"""mini_clevr: CLEVR's layout, balanced labels, and a camera that agrees with the scene files."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.clevr import DEPTHS
from bench.data.mini.tabletop import COLOURS, MOST, NEAREST, placed
from bench.dataset import open_split


@pytest.fixture(scope="module")
def scenes(mini: Path) -> dict[str, list[dict[str, Any]]]:
    folder = mini / "mini_clevr" / "scenes"
    return {
        split: json.loads((folder / f"CLEVR_{split}_scenes.json").read_text())["scenes"]
        for split in ("train", "val")
    }


@pytest.mark.parametrize("split", ["train", "val"])
def test_scenes_are_laid_out_like_clevr(
    mini: Path, scenes: dict[str, list[dict[str, Any]]], split: str
) -> None:
    folder = mini / "mini_clevr" / "images" / split
    rows = scenes[split]
    assert [row["image_index"] for row in rows] == list(range(len(rows)))
    assert {row["image_filename"] for row in rows} == {path.name for path in folder.iterdir()}
    for row in rows:
        assert row["image_filename"] == f"CLEVR_{split}_{row['image_index']:06d}.png"
        with Image.open(folder / row["image_filename"]) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (48, 32))
            assert image.getextrema()[3] == (255, 255)
        for thing in row["objects"]:
            assert thing["size"] in ("small", "large")
            assert thing["color"] in COLOURS
            assert all(isinstance(thing[key], str) for key in ("shape", "material"))
            x, y, _ = thing["pixel_coords"]
            assert 0 <= x < 48
            assert 0 <= y < 32


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("label", "classes"), [("count", 8), ("distance", 6)])
def test_labels_are_balanced(mini: Path, split: str, label: str, classes: int) -> None:
    found = open_split(f"mini_clevr[label={label}]", split, mini)
    assert len(found.classes) == classes
    many = Counter(found.targets.tolist())
    assert set(many) == set(range(classes))
    assert max(many.values()) - min(many.values()) <= 1


def test_least_depths_are_drawn_from_vtabs_bins() -> None:
    inner = [edge for pair in NEAREST for edge in pair][1:-1]
    assert sorted(set(inner)) == list(DEPTHS[1:-1])
    assert DEPTHS[0] < NEAREST[0][0] < NEAREST[-1][1] < DEPTHS[-1]


def test_places_in_the_world_project_to_the_pixel_coordinates(
    scenes: dict[str, list[dict[str, Any]]],
) -> None:
    """A pinhole camera of CLEVR's focal length that looks at the origin, by vectors."""
    focal, horizon, height, width = 1.64, -0.2, 32, 48
    pitch = np.arctan((0.5 - horizon) / focal)
    forward = np.array([0, np.cos(pitch), -np.sin(pitch)])
    down = np.array([0, -np.sin(pitch), -np.cos(pitch)])
    camera = -(0.97 + 0.2) * 7 / 0.7 * forward
    for row in scenes["train"]:
        for thing in row["objects"]:
            x, y, depth = thing["pixel_coords"]
            right, away, half = thing["3d_coords"]
            ray = np.array([right, away, 0]) - camera
            assert ray @ forward == pytest.approx(depth)
            foot = height * (0.5 + focal * (ray @ down) / depth)
            assert width / 2 + height * focal * right / depth == pytest.approx(x, abs=0.51)
            assert foot - height * focal * half / depth == pytest.approx(y, abs=0.51)


def test_the_nearest_object_stands_lowest_and_sizes_shrink_with_depth() -> None:
    counts = np.full(40, MOST)
    tables = placed(counts, np.linspace(7, 11, 40), "train", 64, np.random.default_rng(0))
    assert (tables.depth[:, :1] < tables.depth[:, 1:]).all()
    near, far = tables.depth < 9, tables.depth > 12
    for large in (False, True):
        chosen = tables.large == large
        assert tables.scale[chosen & near].mean() > 1.3 * tables.scale[chosen & far].mean()


def test_no_object_is_hidden() -> None:
    rng = np.random.default_rng(1)
    n = 60
    tables = placed(np.full(n, MOST), rng.uniform(7, 11, n), "val", 32, rng)
    y, x = np.mgrid[0:32, 0:48] + 0.5
    shown = []
    for row in range(n):
        # Discs of the objects' widths, nearer ones in front of farther ones.
        discs = [
            np.hypot(x - tables.x[row, i], y - tables.y[row, i]) < 0.3 * tables.scale[row, i]
            for i in range(MOST)
        ]
        for i, disc in enumerate(discs):
            nearer = [d for j, d in enumerate(discs) if tables.depth[row, j] < tables.depth[row, i]]
            free = disc & ~np.logical_or.reduce([np.zeros_like(disc), *nearer])
            shown.append(free.sum() / disc.sum())
    assert np.mean(np.array(shown) < 0.25) < 0.02

"""mini_ade: ADE20K's layout, labels that lie where the objects are, void backgrounds."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.annotations import VOID, annotations_of, semantic_of
from bench.data.mini.materials import MATERIALS
from bench.data.mini.names import MATERIAL_NAMES
from bench.dataset import open_split

PARTS = {"train": "training", "val": "validation"}


@pytest.fixture(scope="module")
def root(mini: Path) -> Path:
    return mini / "mini_ade"


def pairs(root: Path, part: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Grey photograph (h, w) and stored labels (h, w) of each image."""
    found = []
    for path in sorted((root / "images" / PARTS[part]).iterdir()):
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L")).astype(int)
        with Image.open(root / "annotations" / PARTS[part] / f"{path.stem}.png") as mask:
            found.append((grey, np.asarray(mask)))
    return found


@pytest.mark.parametrize("part", ["train", "val"])
def test_files_are_laid_out_like_ade20k(root: Path, part: str) -> None:
    images = sorted((root / "images" / PARTS[part]).iterdir())
    masks = sorted((root / "annotations" / PARTS[part]).iterdir())
    names = [f"ADE_{part}_{number:08d}" for number in range(1, 2 * len(MATERIALS) + 1)]
    assert [path.name for path in images] == [f"{name}.jpg" for name in names]
    assert [path.name for path in masks] == [f"{name}.png" for name in names]
    sizes = set()
    for path, mask in zip(images, masks, strict=True):
        with Image.open(path) as image, Image.open(mask) as labels:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert (labels.format, labels.mode, labels.size) == ("PNG", "L", image.size)
            sizes.add(image.size)
    assert sizes == {(48, 36), (36, 48), (40, 40)}


@pytest.mark.parametrize("part", ["train", "val"])
def test_every_material_is_the_largest_equally_often(root: Path, part: str) -> None:
    masks = [mask for _, mask in pairs(root, part)]
    assert set(np.concatenate([np.unique(mask) for mask in masks])) == set(
        range(len(MATERIALS) + 1)
    )
    largest = [int(np.bincount(mask[mask > 0]).argmax()) for mask in masks]
    counts = Counter(largest)
    # Two small objects of one material can outdo the largest object only together.
    assert max(counts.values()) - min(counts.values()) <= 1
    assert all(0.1 < (mask > 0).mean() < 0.6 for mask in masks)


@pytest.mark.parametrize("part", ["train", "val"])
def test_the_reader_counts_classes_from_nought_and_backgrounds_as_void(
    mini: Path, root: Path, part: str
) -> None:
    split = open_split("mini_ade", part, mini)
    found = annotations_of(split, "semantic")
    assert (found.label_set, found.classes) == ("mini-ade", MATERIAL_NAMES)
    for index, (_, stored) in enumerate(pairs(root, part)):
        labels = semantic_of(split, index)
        np.testing.assert_array_equal(labels == VOID, stored == 0)
        np.testing.assert_array_equal(labels[stored > 0] + 1, stored[stored > 0])


@pytest.mark.parametrize("part", ["train", "val"])
def test_labels_change_where_the_photograph_does(root: Path, part: str) -> None:
    def step(grey: np.ndarray, mask: np.ndarray) -> float:
        """Mean difference of pixels beside each other with different labels."""
        apart = mask[:, 1:] != mask[:, :-1]
        return float(np.abs(np.diff(grey, axis=1))[apart].mean())

    steps = dict.fromkeys((-3, 0, 3), 0.0)
    for grey, mask in pairs(root, part):
        for shift in steps:
            steps[shift] += step(grey, np.roll(mask, shift, axis=1))
    assert steps[0] > 1.3 * max(steps[-3], steps[3])


def test_train_and_val_are_different_pictures(root: Path) -> None:
    pictures = [
        path.read_bytes() for part in PARTS.values() for path in (root / "images" / part).iterdir()
    ]
    assert len(set(pictures)) == len(pictures)

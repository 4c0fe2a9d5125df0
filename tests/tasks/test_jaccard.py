"""Masks of a share of the mass, and the best overlap of each region with them."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.jaccard import best_ious, kept_cells

REAL = Path(
    os.environ.get("SSLBENCH_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/data")
)
PATCH = 16
#: protocol -> side of the images in pixels, mass, whether maps are prototypes
CASES = {
    "jacc_dino": (480, 0.6, False),
    "jacc_ipvit": (512, 0.9, False),
    "jacc_slotmim": (224, 0.99, True),
}
#: The functions of evaluate_segmentation.py (Naseer et al., heads) and of SlotMIM's eval_voc.py
#: (prototypes) on `heads` or `cosines` of seeds 0 to 3 and `labels` of seeds 100 to 103: the
#: Jaccard of each image, and how many masks they made.
GOLDENS = {
    "jacc_dino": ((0.0903077, 0.0908735, 0.0907159, 0.0947009), (6, 6, 6, 6)),
    "jacc_ipvit": ((0.1177059, 0.1232991, 0.1170299, 0.1183162), (6, 6, 6, 6)),
    "jacc_slotmim": ((0.0975814, 0.0927954, 0.0913135, 0.1170588), (62, 63, 63, 63)),
}
#: The same on the 30 class masks of derived/VOC_from_COCO in the order of their names, resized by
#: the scripts' own transform, with the map of the seed 0, 1, ...: the mean.
REAL_GOLDENS = {"jacc_dino": 0.0766247, "jacc_ipvit": 0.1137892, "jacc_slotmim": 0.1011288}


def heads(seed: int, side: int) -> np.ndarray:
    return np.random.RandomState(seed).rand(6, side, side).astype(np.float32) ** 4


def cosines(seed: int, side: int) -> np.ndarray:
    values = 2 * np.random.RandomState(seed).rand(64, side, side) ** 3 - 1
    return values.astype(np.float32)


def labels(seed: int, size: int) -> np.ndarray:
    few = np.array([0, 0, 0, 1, 7, 15, 255], np.uint8)
    cells = np.random.RandomState(seed).choice(few, (size // 8, size // 8))
    return cells.repeat(8, axis=0).repeat(8, axis=1)


def masks_of(protocol: str, seed: int) -> np.ndarray:
    size, mass, prototypes = CASES[protocol]
    if not prototypes:
        return kept_cells(heads(seed, size // PATCH), mass)
    maps = (torch.from_numpy(cosines(seed, size // PATCH)) / 0.07).softmax(0)
    return kept_cells(maps[maps.sum((1, 2)) > 1].numpy(), mass)


@pytest.mark.parametrize("protocol", CASES)
def test_golden_of_the_public_scripts(protocol: str) -> None:
    for seed, (value, count) in enumerate(zip(*GOLDENS[protocol], strict=True)):
        masks = masks_of(protocol, seed)
        found = best_ious(masks, labels(100 + seed, CASES[protocol][0]), PATCH, 0, True)
        assert len(masks) == count
        assert found.mean() == pytest.approx(value, abs=2e-7)


@pytest.mark.parametrize("protocol", CASES)
def test_golden_of_the_public_scripts_on_real_masks(protocol: str) -> None:
    folder = REAL / "derived/VOC_from_COCO/VOCdevkit/VOC2012/SegmentationClass"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set SSLBENCH_REAL_DATA")
    size, found = CASES[protocol][0], []
    for seed, path in enumerate(sorted(folder.glob("*.png"))):
        with Image.open(path) as stored:
            label = np.asarray(stored.resize((size, size), Image.Resampling.NEAREST))
        found.append(best_ious(masks_of(protocol, seed), label, PATCH, 0, True).mean())
    assert len(found) == 30
    assert np.mean(found) == pytest.approx(REAL_GOLDENS[protocol], abs=2e-7)


@pytest.mark.parametrize("mass", [0.1, 0.6, 0.9, 0.99])
def test_a_mask_drops_the_smallest_cells_that_hold_no_more_than_the_rest(mass: float) -> None:
    rng = np.random.default_rng(0)
    maps = rng.gamma(0.3, size=(20, 5, 7))
    for found, map_ in zip(kept_cells(maps, mass), maps, strict=True):
        total = math.fsum(map_.ravel())
        dropped: set[int] = set()
        for cell in sorted(range(35), key=lambda c: map_.ravel()[c]):
            if math.fsum(map_.ravel()[[*dropped, cell]]) / total > 1 - mass:
                break
            dropped.add(cell)
        assert set(np.flatnonzero(~found.ravel()).tolist()) == dropped


def test_of_equal_cells_the_first_is_dropped_first() -> None:
    maps = np.where(np.arange(900) % 2, 1.0, 3.0).reshape(1, 30, 30)  # sum 450 + 1350
    kept = kept_cells(maps, 1 - 300.5 / 1800).ravel()
    assert np.flatnonzero(~kept).tolist() == list(range(1, 600, 2))


def test_all_mass_keeps_whatever_is_above_zero_and_a_map_of_zeros_nothing() -> None:
    maps = np.array([[[0.0, 1e-9], [3.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert kept_cells(maps, 1.0).tolist() == (maps > 0).tolist()
    assert kept_cells(maps[:0], 1.0).shape == (0, 2, 2)


def by_pixel(
    masks: np.ndarray, label: np.ndarray, patch: int, background: int | None, void_counts: bool
) -> list[float]:
    """The definition, pixel by pixel, as sets."""
    pixels = [(y, x) for y in range(label.shape[0]) for x in range(label.shape[1])]
    if not void_counts:
        pixels = [p for p in pixels if label[p] != 255]
    best = []
    for region in sorted(set(label.ravel().tolist()) - {255, background}):
        true = {p for p in pixels if label[p] == region}
        scores = [0.0]
        for mask in masks:
            said = {(y, x) for y, x in pixels if mask[y // patch, x // patch]}
            scores.append(len(said & true) / len(said | true))
        best.append(max(scores))
    return best


@pytest.mark.parametrize("void_counts", [True, False])
@pytest.mark.parametrize("background", [0, None])
def test_best_overlaps_equal_sets_of_pixels(void_counts: bool, background: int | None) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        masks = rng.random((rng.integers(0, 5), 3, 4)) < 0.4
        label = rng.choice(np.array([0, 2, 9, 254, 255], np.uint8), (9, 12))
        found = best_ious(masks, label, 3, background, void_counts)
        expected = by_pixel(masks, label, 3, background, void_counts)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_void_counts_against_a_mask_or_not_at_all() -> None:
    label = np.array([[1, 255], [1, 0]], np.uint8)
    mask = np.ones((1, 2, 2), dtype=bool)
    assert best_ious(mask, label, 1, 0, void_counts=True).tolist() == [2 / 4]
    assert best_ious(mask, label, 1, 0, void_counts=False).tolist() == [2 / 3]


def test_void_and_background_are_no_regions() -> None:
    label = np.array([[0, 255], [0, 0]], np.uint8)
    mask = np.ones((1, 2, 2), dtype=bool)
    assert best_ious(mask, label, 1, 0, void_counts=True).tolist() == []
    assert best_ious(mask, label, 1, None, void_counts=True).tolist() == [3 / 4]


def test_without_masks_every_region_has_0() -> None:
    label = np.array([[1, 2], [0, 0]], np.uint8)
    assert best_ious(np.zeros((0, 1, 1), dtype=bool), label, 2, 0, True).tolist() == [0.0, 0.0]
    empty = np.zeros((1, 1, 1), dtype=bool)
    assert best_ious(empty, label, 2, 0, True).tolist() == [0.0, 0.0]

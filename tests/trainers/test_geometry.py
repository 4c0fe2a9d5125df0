"""Crop geometry against painted pixels, exact fractions and its own algebra."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.transforms import crop_box
from trainers.blocks.geometry import (
    Box,
    intersection,
    mirror,
    overlap_boxes,
    overlapping_crop,
    patch_map,
    relative_box,
)

SIDE = 24  # pixels of the source images that are painted
RATIO = (3 / 4, 4 / 3)


def random_box(rng: np.random.Generator, side: int = SIDE) -> Box:
    x0, x1 = sorted(rng.choice(side + 1, 2, replace=False).tolist())
    y0, y1 = sorted(rng.choice(side + 1, 2, replace=False).tolist())
    return x0, y0, x1, y1


def painted(box: Box) -> np.ndarray:
    canvas = np.zeros((SIDE, SIDE), bool)
    canvas[box[1] : box[3], box[0] : box[2]] = True
    return canvas


def boxes(*values: Box) -> Tensor:
    return torch.tensor(values, dtype=torch.float64) / SIDE


def test_intersection_counts_the_common_painted_pixels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = random_box(rng), random_box(rng)
        assert intersection(a, b) == (painted(a) & painted(b)).sum()


def test_a_box_in_its_own_frame_is_the_unit_square() -> None:
    rng = np.random.default_rng(0)
    some = boxes(*(random_box(rng) for _ in range(20)))
    assert torch.equal(relative_box(some, some), torch.tensor([[0.0, 0, 1, 1]] * 20).double())


def test_the_unit_square_as_source_changes_nothing() -> None:
    some = boxes((3, 4, 9, 20))
    assert torch.equal(relative_box(torch.tensor([[0.0, 0, 1, 1]]), some), some)


def test_relative_boxes_compose() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (boxes(*(random_box(rng) for _ in range(50))) for _ in range(3))
    b_in_a, c_in_b = relative_box(a, b), relative_box(b, c)
    size = b_in_a[:, 2:] - b_in_a[:, :2]
    c_in_a = torch.cat([b_in_a[:, :2] + c_in_b[:, i : i + 2] * size for i in (0, 2)], 1)
    torch.testing.assert_close(c_in_a, relative_box(a, c))


def test_mirroring_turns_only_flipped_boxes_and_twice_is_nothing() -> None:
    some = torch.tensor([[0.1, 0.2, 0.4, 0.9]] * 2, dtype=torch.float64)
    flipped = torch.tensor([False, True])
    once = mirror(some, flipped)
    torch.testing.assert_close(once[1], torch.tensor([0.6, 0.2, 0.9, 0.9], dtype=torch.float64))
    assert torch.equal(once[0], some[0])
    torch.testing.assert_close(mirror(once, flipped), some)


@pytest.mark.parametrize("flip_a", [False, True])
@pytest.mark.parametrize("flip_b", [False, True])
def test_overlap_boxes_bound_the_pixels_that_both_views_show(flip_a: bool, flip_b: bool) -> None:
    rng = np.random.default_rng(0)
    overlapping = 0
    for _ in range(100):
        a, b = random_box(rng), random_box(rng)
        flips = torch.tensor([flip_a]), torch.tensor([flip_b])
        *found, valid = overlap_boxes(boxes(a), boxes(b), *flips)
        common = painted(a) & painted(b)
        assert valid.item() == common.any()
        if not common.any():
            continue
        overlapping += 1
        for own, flip, box in ((a, flip_a, found[0]), (b, flip_b, found[1])):
            view = common[own[1] : own[3], own[0] : own[2]]
            view = view[:, ::-1] if flip else view  # what the crop shows, pixel by pixel
            rows, columns = np.flatnonzero(view.any(1)), np.flatnonzero(view.any(0))
            height, width = view.shape
            expected = [
                *(columns[0] / width, rows[0] / height),
                *((columns[-1] + 1) / width, (rows[-1] + 1) / height),
            ]
            np.testing.assert_allclose(box[0].numpy(), expected, atol=1e-12)
    assert overlapping > 20


def test_crops_that_only_touch_do_not_overlap() -> None:
    a, b = boxes((0, 0, 10, 10)), boxes((10, 0, 20, 10))
    assert not overlap_boxes(a, b, torch.tensor([False]), torch.tensor([False]))[2].any()


@pytest.mark.parametrize("flip", [False, True])
def test_the_same_box_gives_the_identity_patch_map(flip: bool) -> None:
    rng = np.random.default_rng(0)
    some, flips = boxes(*(random_box(rng) for _ in range(20))).float(), torch.full((20,), flip)
    found = patch_map(some, some, flips, flips, 14, 14)
    assert torch.equal(found, torch.arange(196).expand(20, -1))


def test_one_flip_reverses_the_columns_of_the_patch_map() -> None:
    some, yes, no = boxes((2, 3, 20, 17)), torch.tensor([True]), torch.tensor([False])
    reversed_rows = torch.arange(36).view(6, 6).flip(1).flatten()
    assert torch.equal(patch_map(some, some, yes, no, 6, 6)[0], reversed_rows)
    assert torch.equal(patch_map(some, some, no, yes, 6, 6)[0], reversed_rows)


def test_disjoint_crops_have_no_corresponding_patches() -> None:
    a, b, no = boxes((0, 0, 10, 24)), boxes((10, 0, 24, 24)), torch.tensor([False])
    assert (patch_map(a, b, no, no, 6, 14) == -1).all()
    assert (patch_map(b, a, no, no, 6, 14) == -1).all()


def exact_patch(
    query: Box, reference: Box, flips: tuple[bool, bool], place: tuple[int, int], ref_grid: int
) -> int:
    """The reference patch under the centre of query patch (row, column) of 6 x 6, by fractions."""
    y, x = (Fraction(2 * i + 1, 12) for i in place)
    x = 1 - x if flips[0] else x
    source = (query[0] + x * (query[2] - query[0]), query[1] + y * (query[3] - query[1]))
    u, v = ((source[i] - reference[i]) / (reference[i + 2] - reference[i]) for i in (0, 1))
    if not (0 <= u < 1 and 0 <= v < 1):
        return -1
    u = 1 - u if flips[1] else u
    return min(int(v * ref_grid), ref_grid - 1) * ref_grid + min(int(u * ref_grid), ref_grid - 1)


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_patch_map_equals_exact_fractions(flips: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(0)
    shared = 0
    for _ in range(60):
        # The reference sits at odd 3001sts of the source, where no patch centre can fall on an
        # edge of a patch; there rounding would decide.
        query = tuple(3001 * v for v in random_box(rng))
        reference = tuple(3001 * v + 7 for v in random_box(rng))
        scaled = [torch.tensor([b], dtype=torch.float64) / 3001 / SIDE for b in (query, reference)]
        found = patch_map(*scaled, torch.tensor([flips[0]]), torch.tensor([flips[1]]), 6, 5)
        expected = [
            exact_patch(query, reference, flips, (row, column), 5)
            for row in range(6)
            for column in range(6)
        ]
        assert found[0].tolist() == expected
        shared += sum(index >= 0 for index in expected)
    assert shared > 100


def test_an_overlapping_crop_holds_the_asked_share_of_every_other_crop() -> None:
    rng = np.random.default_rng(0)
    others = [(0, 0, 60, 60), (40, 40, 100, 100)]
    for _ in range(200):
        box = overlapping_crop(rng, (100, 100), (0.2, 0.5), RATIO, others, 0.1, tries=1000)
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert all(intersection(box, other) >= 0.1 * area for other in others)


def test_a_crop_that_cannot_overlap_is_drawn_freely_after_the_last_try() -> None:
    found, free = np.random.default_rng(3), np.random.default_rng(3)
    box = overlapping_crop(found, (50, 40), (0.1, 1.0), RATIO, [(60, 60, 70, 70)], 0.01, tries=4)
    draws = [crop_box((50, 40), free, (0.1, 1.0), RATIO) for _ in range(5)]
    assert box == draws[-1]


def test_without_others_the_first_draw_is_taken() -> None:
    box = overlapping_crop(np.random.default_rng(3), (50, 40), (0.1, 1.0), RATIO, [], 0.01)
    assert box == crop_box((50, 40), np.random.default_rng(3), (0.1, 1.0), RATIO)

"""LOST: boxes as the public code finds them, and what it leaves open."""

import math

import numpy as np
import pytest
import torch

from tasks.lost import box_ious, lost

#: (grid rows, columns) -> (box, seed) of LOST's object_discovery.py on `keys_of` the seeds 0, 1,
#: ..., for images 5 px lower and 11 px narrower than the padded ones. On 900 random maps and on
#: the keys of 30 photographs all boxes were equal with `torch.argsort` made stable; without, 808
#: and 28, the others being ties.
GOLDENS = {
    (24, 32): ((0, 32, 240, 304), (17, 13)),
    (32, 24): ((304, 208, 368, 336), (19, 22)),
    (21, 32): ((416, 64, 480, 224), (7, 28)),
    (32, 21): ((256, 64, 304, 240), (12, 17)),
    (13, 40): ((0, 0, 629, 203), (7, 31)),
    (8, 9): ((16, 64, 80, 112), (5, 2)),
}


def keys_of(seed: int, h: int, w: int, d: int = 24) -> torch.Tensor:
    """Noisy background of one direction, and a rectangle of another."""
    random = np.random.RandomState(seed)
    keys = np.tile(random.randn(d), (h, w, 1))
    top, left = random.randint(0, h - 3), random.randint(0, w - 3)
    value = 0.6 * random.randn(d) - 0.5 * keys[0, 0]
    height, width = random.randint(2, h - top + 1), random.randint(2, w - left + 1)
    keys[top : top + height, left : left + width] = value
    return torch.from_numpy((keys + 1.2 * random.randn(h, w, d)).astype(np.float32))


@pytest.mark.parametrize(("seed", "grid"), list(enumerate(GOLDENS)))
def test_golden_of_the_public_code(seed: int, grid: tuple[int, int]) -> None:
    h, w = grid
    found = lost(keys_of(seed, h, w))
    assert (tuple(found.box(16, (h * 16 - 5, w * 16 - 11))), found.seed) == GOLDENS[grid]


def by_the_book(keys: np.ndarray, k_patches: int) -> tuple[tuple[int, int], set[tuple[int, int]]]:
    """The paper's section 3.2 in loops and float64, equal degrees in reading order."""
    h, w, _ = keys.shape
    places = [(y, x) for y in range(h) for x in range(w)]
    alike = {(p, q): math.fsum(keys[p] * keys[q]) for p in places for q in places}
    degree = {p: sum(q != p and alike[p, q] > 0 for q in places) for p in places}
    order = sorted(places, key=lambda p: degree[p])  # sorted is stable
    seed = order[0]
    voters = [s for s in order[:k_patches] if alike[seed, s] > 0]
    mask = {p for p in places if math.fsum(alike[s, p] for s in voters) > 0}
    piece, fringe = {seed}, [seed]
    while fringe:
        y, x = fringe.pop()
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if near in mask and near not in piece:
                piece.add(near)
                fringe.append(near)
    return seed, piece


@pytest.mark.parametrize("k_patches", [1, 5, 100])
def test_it_equals_the_definition_in_loops(k_patches: int) -> None:
    rng = np.random.default_rng(0)
    smaller = 0
    for _ in range(40):
        keys = rng.integers(-2, 3, (rng.integers(2, 6), rng.integers(2, 7), 4)).astype(np.float32)
        keys[0, 0, 0] = 1.0
        seed, piece = by_the_book(keys.astype(np.float64), k_patches)
        found = lost(torch.from_numpy(keys), k_patches)
        assert found.seed == seed
        assert {tuple(place) for place in np.argwhere(found.object).tolist()} == piece
        smaller += len(piece) < keys.shape[0] * keys.shape[1]
    assert smaller > 10  # than the whole image


def test_of_equal_degrees_the_first_in_reading_order_is_the_seed() -> None:
    keys = torch.eye(6).reshape(2, 3, 6)
    assert lost(keys).seed == (0, 0)
    assert lost(torch.ones(2, 3, 6)).seed == (0, 0)
    assert lost(torch.ones(2, 3, 6)).object.all()
    assert lost(torch.tensor([[[1.0], [0.0]]])).seed == (0, 0)  # both resemble no other


def test_pieces_that_touch_at_a_corner_are_two() -> None:
    keys = torch.zeros(3, 3, 2)
    keys[..., 1] = 1.0  # background
    keys[0, 0] = keys[1, 1] = torch.tensor([1.0, 0.0])
    found = lost(keys)
    assert found.seed == (0, 0)
    assert np.argwhere(found.object).tolist() == [[0, 0]]


def test_a_seed_whose_key_is_zero_is_the_object_by_itself() -> None:
    keys = torch.ones(3, 3, 2)
    keys[1, 2] = 0.0
    found = lost(keys)
    assert found.seed == (1, 2)
    assert tuple(found.box(4, (12, 12))) == (8.0, 4.0, 12.0, 8.0)


def test_a_box_ends_where_the_image_does() -> None:
    keys = torch.ones(2, 2, 1)
    assert tuple(lost(keys).box(16, (17, 30))) == (0.0, 0.0, 30.0, 17.0)


def test_signs_do_not_depend_on_the_precision_of_a_product() -> None:
    """In float32 the large terms would swallow the small one that decides the sign."""
    one = torch.tensor([3e4, 1.0, 3e4])
    for last, together in ((1.0, True), (-1.0, False)):
        found = lost(torch.stack([one, torch.tensor([3e4, last, -3e4])])[None])  # (1, 2, 3)
        assert found.object.all() == together


def test_overlap_of_boxes_equals_sets_of_pixels() -> None:
    rng = np.random.default_rng(2)
    corners = rng.integers(0, 12, (40, 4))
    boxes = np.concatenate([np.sort(corners[:, ::2]), np.sort(corners[:, 1::2]) + [0, 1]], 1)
    boxes = boxes[:, [0, 2, 1, 3]] + [0, 0, 1, 0]
    pixels = [
        {(x, y) for x in range(left, right) for y in range(top, bottom)}
        for left, top, right, bottom in boxes.tolist()
    ]
    found = box_ious(boxes[0].astype(float), boxes.astype(float))
    expected = [len(pixels[0] & other) / len(pixels[0] | other) for other in pixels]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[0] == 1.0


def test_half_an_overlap_is_exactly_a_half() -> None:
    box = np.array([0.0, 0.0, 7.0, 3.0])
    assert box_ious(box, np.array([[0.0, 0.0, 7.0, 6.0]])).tolist() == [0.5]
    assert box_ious(box, np.array([[7.0, 0.0, 9.0, 3.0]])).tolist() == [0.0]

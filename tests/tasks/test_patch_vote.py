"""Votes of neighbours and labels of patches against loops."""

from collections import Counter

import numpy as np
import pytest
import torch

from bench.annotations import VOID
from tasks import patch_vote
from tasks.patch_labels import (
    blocks,
    class_counts,
    given,
    joined,
    rare_first,
    remembered,
    taken,
)
from tasks.patch_vote import pixel_mode, soft_vote, upsampled


def neighbours(seed: int = 0, n: int = 70, k: int = 12, w: int = 9) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (n, k, w)).astype(np.uint8)
    labels[labels == 3] = VOID
    return torch.from_numpy(labels)


def most_frequent(labels: list[int], void_votes: bool) -> int:
    counts = Counter(label for label in labels if void_votes or label != VOID)
    return min(counts, key=lambda label: (-counts[label], label), default=VOID)


@pytest.mark.parametrize("void_votes", [True, False])
def test_pixels_get_the_most_frequent_label_and_the_smaller_one_of_equals(
    void_votes: bool,
) -> None:
    labels, ks = neighbours(), (1, 2, 5, 12)
    found = pixel_mode(labels, ks, void_votes)
    for k in ks:
        for row, votes in zip(found[k].tolist(), labels[:, :k].tolist(), strict=True):
            columns = zip(*votes, strict=True)
            assert row == [most_frequent(list(column), void_votes) for column in columns]


def test_the_mode_is_that_of_torch_on_a_host_for_every_k_at_once() -> None:
    labels = neighbours(seed=1, n=300, k=30)
    found = pixel_mode(labels, (1, 3, 10, 30))
    for k, votes in found.items():
        assert torch.equal(votes, labels[:, :k].mode(dim=1).values)


def test_votes_of_255_neighbours_are_counted() -> None:
    labels = torch.zeros((2, 255, 1), dtype=torch.uint8)
    labels[1, :128] = VOID
    assert pixel_mode(labels, (255,))[255].tolist() == [[0], [VOID]]


def test_votes_do_not_depend_on_how_many_patches_vote_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = neighbours(seed=2)
    whole = pixel_mode(labels, (5,))[5]
    monkeypatch.setitem(patch_vote.VOTE_ROWS, "cpu", 3)
    assert torch.equal(whole, pixel_mode(labels, (5,))[5])


def test_a_soft_vote_is_a_softmax_of_cosines_over_shares() -> None:
    rng = np.random.default_rng(0)
    cosine, counts = rng.uniform(-1, 1, (6, 5)), rng.integers(0, 9, (6, 5, 3))
    found = soft_vote(torch.from_numpy(cosine), torch.from_numpy(counts).short(), 0.02)
    for row in range(6):
        weight = np.exp((cosine[row] - cosine[row].max()) / 0.02)
        expected = (weight / weight.sum()) @ counts[row]
        np.testing.assert_allclose(found[row], expected, rtol=1e-6)


def test_shares_are_enlarged_bilinearly_with_corners_at_pixel_edges() -> None:
    rng = np.random.default_rng(1)
    shares, size = torch.from_numpy(rng.random((3, 3, 4))).float(), 12
    centre = np.clip((np.arange(size) + 0.5) / 4 - 0.5, 0, 2)
    low = np.minimum(centre.astype(int), 1)
    part = centre - low
    lines = shares.double().numpy()
    rows = lines[low] * (1 - part)[:, None, None] + lines[low + 1] * part[:, None, None]
    both = rows[:, low] * (1 - part)[:, None] + rows[:, low + 1] * part[:, None]
    assert np.array_equal(upsampled(shares, size, False).numpy(), both.argmax(2))
    void = both.argmax(2) == 3
    assert 0 < void.mean() < 1
    assert np.array_equal(upsampled(shares, size, True).numpy() == VOID, void)


def test_equal_shares_go_to_the_lower_class() -> None:
    assert upsampled(torch.ones(2, 2, 3), 4, True).unique().tolist() == [0]


# ---------------------------------------------------------------- labels of patches


def test_blocks_are_the_patches_row_by_row_and_join_again() -> None:
    labels = np.arange(36, dtype=np.uint8).reshape(6, 6)
    cut = blocks(labels, 2)
    assert cut[0].tolist() == [0, 1, 6, 7]
    assert cut[1].tolist() == [2, 3, 8, 9]
    assert cut[3].tolist() == [12, 13, 18, 19]
    assert np.array_equal(joined(cut, 2), labels)


def test_counts_are_those_of_each_patch_with_void_last() -> None:
    pixels = np.array([[0, 0, 2, VOID], [1, 1, 1, 1]], np.uint8)
    assert class_counts(pixels, 3).tolist() == [[2, 0, 1, 1], [0, 4, 0, 0]]


@pytest.mark.parametrize(
    ("void", "kept"),
    [("vote", [True, True, False]), ("skip", [True, True, False]),
     ("first", [True, False, False]), ("zero", [True, True, True])],
)  # fmt: skip
def test_patches_that_are_void_for_the_most_part_are_not_remembered(
    void: str, kept: list[bool]
) -> None:
    labels = np.array([[1, 1, 1, VOID], [1, 1, VOID, VOID], [1, VOID, VOID, VOID]], np.uint8)
    pixels, take = remembered(taken(labels, void), 2, "pixels", void)
    assert take.tolist() == kept
    if void == "zero":
        assert pixels[2].tolist() == [1, 0, 0, 0]
    else:
        assert np.array_equal(given(pixels, void), labels)


def test_soft_memories_leave_void_out_or_count_it() -> None:
    labels = np.array([[1, 1, 0, VOID], [VOID] * 4], np.uint8)
    expected = {
        "skip": ([[1, 2], [0, 0]], [True, False]),
        "vote": ([[1, 2, 1], [0, 0, 4]], [True, True]),
        "first": ([[1, 1, 2], [4, 0, 0]], [True, True]),
        "zero": ([[2, 2], [4, 0]], [True, True]),
    }
    for void, (counts, kept) in expected.items():
        found, take = remembered(taken(labels, void), 2, "soft", void)
        assert (found.tolist(), take.tolist()) == (counts, kept), void


class NoChance:
    """A generator that perturbs nothing."""

    def random(self, size: int) -> np.ndarray:
        return np.ones(size)


def test_patches_of_rare_classes_are_drawn_first() -> None:
    # Class 0 is in four patches, 1 in two, 2 in one: scores 4, 4, 4, 4 + 2, 2, 1.
    pixels = np.array([[0, 0], [0, 0], [0, 0], [0, 1], [1, 1], [2, 2]], np.uint8)
    for most, drawn in ((1, [5]), (2, [4, 5]), (3, [0, 4, 5]), (6, [0, 1, 2, 3, 4, 5])):
        found = rare_first(pixels, 3, "skip", most, NoChance())  # type: ignore[arg-type]
        assert found.tolist() == drawn


def test_draws_are_perturbed_by_the_seed_and_never_take_void_alone() -> None:
    pixels = np.array([[0, 1]] * 10 + [[VOID, VOID]] * 10, np.uint8)
    drawn = {
        tuple(rare_first(pixels, 2, "skip", 4, np.random.default_rng(seed))) for seed in range(20)
    }
    assert len(drawn) > 10
    assert all(len(rows) == 4 and max(rows) < 10 for rows in drawn)
    every = rare_first(pixels, 2, "skip", 15, np.random.default_rng(0))
    assert every.tolist() == list(range(10))
    assert len(rare_first(pixels, 2, "vote", 15, np.random.default_rng(0))) == 15

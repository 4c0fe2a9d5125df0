"""Masks: exact counts, achieved ratios, and where their randomness comes from."""

import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
import torch

from bench.errors import SpecError
from trainers.blocks.masks import (
    BlockwiseMask,
    RandomMask,
    count_kept,
    mask_sampler,
    uniform_keep,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("tokens", "ratio", "kept"),
    [
        (196, 0.75, 49),  # MAE
        (196, 0.8, 40),  # LOCA's formula
        (49, 0.65, 18),  # CMAE's code truncates the kept part instead, and keeps 17
        (100, 0.9, 10),  # int(100 * (1 - 0.9)) is 9
        (64, 0.75, 16),
        (16, 0.0, 16),
        (16, 1.0, 0),
    ],
)
def test_kept_tokens_of_the_published_settings(tokens: int, ratio: float, kept: int) -> None:
    assert count_kept(tokens, ratio) == kept


def test_kept_tokens_are_exact_for_every_hundredth() -> None:
    for tokens in (16, 49, 64, 100, 144, 196, 256):
        for hundredths in range(101):
            exact = tokens - math.floor(Fraction(hundredths, 100) * tokens)
            assert count_kept(tokens, hundredths / 100) == exact, (tokens, hundredths)


def test_uniform_mask_is_the_complement_of_the_kept_tokens() -> None:
    torch.manual_seed(0)
    keep, mask = uniform_keep(5, 16, 0.75, CPU)
    assert keep.shape == (5, 4)
    assert mask.shape == (5, 16)
    assert mask.dtype == torch.bool
    for row, masked in zip(keep.tolist(), mask, strict=True):
        assert sorted(row) == (~masked).nonzero().flatten().tolist()


def test_uniform_masks_differ_between_images_and_follow_the_seed() -> None:
    torch.manual_seed(0)
    keep, _ = uniform_keep(8, 64, 0.75, CPU)
    assert len({tuple(sorted(row)) for row in keep.tolist()}) == 8
    torch.manual_seed(0)
    assert torch.equal(keep, uniform_keep(8, 64, 0.75, CPU)[0])


def test_every_token_is_masked_equally_often() -> None:
    torch.manual_seed(0)
    _, mask = uniform_keep(4000, 16, 0.75, CPU)
    deviation = math.sqrt(0.75 * 0.25 / 4000)
    assert (mask.double().mean(0) - 0.75).abs().max() < 4.5 * deviation


@pytest.mark.parametrize("ratio", [-0.5, 0.0, 1.0, 1.5])
def test_a_ratio_that_hides_everything_or_nothing_is_refused(ratio: float) -> None:
    with pytest.raises(SpecError, match="mask_ratio"):
        uniform_keep(2, 16, ratio, CPU)


@pytest.mark.parametrize(("grid", "mean"), [(14, 0.298), (8, 0.290), (4, 0.267)])
def test_blockwise_masks_reach_the_published_mean_ratio(grid: int, mean: float) -> None:
    rng = np.random.default_rng(0)
    draw = BlockwiseMask(grid, grid)
    ratios = np.array([draw(rng).mean() for _ in range(6000)])
    # The published means have three digits; the rest is sampling error.
    assert abs(ratios.mean() - mean) < 0.001 + 4 * ratios.std() / math.sqrt(len(ratios))


@pytest.mark.parametrize("grid", [4, 8, 14])
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_blockwise_masks_never_exceed_the_target(grid: int, ratio: float) -> None:
    rng = np.random.default_rng(0)
    draw = BlockwiseMask(grid, grid, (ratio,), (0.0,))
    counts = [draw(rng).sum() for _ in range(200)]
    assert max(counts) <= ratio * grid * grid
    assert max(counts) >= math.floor(ratio * grid * grid) - 1


def test_blockwise_ratios_span_centre_and_spread() -> None:
    rng = np.random.default_rng(0)
    draw = BlockwiseMask(14, 14, (0.3,), (0.2,))
    ratios = np.array([draw(rng).mean() for _ in range(1000)])
    assert ratios.max() <= 0.5
    assert ratios.max() > 0.48
    # Uniform between 0.1 and 0.5, less what the last block leaves open.
    assert 0.08 < np.quantile(ratios, 0.02) < 0.12


def test_a_centre_of_zero_leaves_half_of_the_images_unmasked() -> None:
    rng = np.random.default_rng(0)
    draw = BlockwiseMask(8, 8, (0.0, 0.3), (0.0, 0.2))
    clean = np.mean([not draw(rng).any() for _ in range(2000)])
    assert abs(clean - 0.5) < 4.5 * math.sqrt(0.25 / 2000)


def test_blocks_of_an_unequal_grid_stay_inside_and_are_flattened_by_rows() -> None:
    draw = BlockwiseMask(4, 12, (0.4,), (0.0,))
    total = np.sum([draw(np.random.default_rng(seed)) for seed in range(500)], 0)
    assert total.shape == (48,)
    # Rectangles wider than high exist only if rows are 12 long.
    rows = total.reshape(4, 12)
    assert (rows > 0).all()
    assert rows[:, 4:8].mean() > rows[:, [0, 11]].mean()


def test_blocks_keep_within_the_aspect_ratios() -> None:
    # With a target of just the least area (16 of 196) the first block is most of the mask.
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(500):
        mask = BlockwiseMask(14, 14, (16.5 / 196,), (0.0,), aspect=0.8)(rng).reshape(14, 14)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        if mask.sum() == height * width:
            shapes.add((height, width))
    assert shapes == {(4, 4)}


def reference_mask(random: Random, side: int, target: float) -> set[tuple[int, int]]:
    """A blockwise mask as a set of cells: blocks of 16 cells up to what is missing."""
    cells: set[tuple[int, int]] = set()
    tries = 0
    while len(cells) < target and tries < 10:
        tries += 1
        missing = target - len(cells)
        area, aspect = random.uniform(16, missing), 0.3 ** random.uniform(-1, 1)
        height, width = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if max(height, width) >= side:
            continue
        top, left = random.randint(0, side - height), random.randint(0, side - width)
        block = {(top + y, left + x) for y in range(height) for x in range(width)}
        if 0 < len(block - cells) <= missing:
            cells |= block
            tries = 0
    return cells


def test_blocks_are_as_many_and_as_large_as_in_a_reference_of_sets() -> None:
    # Masked neighbours measure how coherent a mask is: few large blocks have many.
    rng, random, side = np.random.default_rng(0), Random(0), 14
    draw = BlockwiseMask(side, side, (0.3,), (0.0,))
    found, expected = [], []
    for _ in range(1500):
        mask = draw(rng).reshape(side, side)
        found.append((mask[1:] & mask[:-1]).sum() + (mask[:, 1:] & mask[:, :-1]).sum())
        cells = reference_mask(random, side, 0.3 * side * side)
        expected.append(sum(((y + 1, x) in cells) + ((y, x + 1) in cells) for y, x in cells))
    error = math.sqrt((np.var(found) + np.var(expected)) / 1500)
    assert abs(np.mean(found) - np.mean(expected)) < 4 * error


def test_blockwise_masks_follow_their_generator() -> None:
    draw = BlockwiseMask(8, 8)
    first, again, other = (draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == bool


def test_random_masks_have_the_floor_of_their_ratio_anywhere() -> None:
    rng = np.random.default_rng(0)
    for tokens, ratio, masked in ((196, 0.3, 58), (196, 0.7, 137), (100, 0.29, 29), (16, 1.0, 16)):
        assert RandomMask(tokens, (ratio,), (0.0,))(rng).sum() == masked
    drawn = np.array([RandomMask(16, (0.25,), (0.0,))(rng) for _ in range(4000)])
    assert drawn.dtype == bool
    assert np.abs(drawn.mean(0) - 0.25).max() < 4.5 * math.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("kind", ["blockwise", "random"])
def test_one_of_several_ranges_is_drawn_each_time(kind: str) -> None:
    rng = np.random.default_rng(0)
    draw = mask_sampler(kind, 14, (0.0, 0.7), (0.0, 0.05))
    ratios = np.array([draw(rng).mean() for _ in range(2000)])
    assert abs((ratios == 0).mean() - 0.5) < 4.5 * math.sqrt(0.25 / 2000)
    assert ratios.max() <= 0.75
    if kind == "random":
        assert ratios[ratios > 0].min() >= 0.65 - 1 / 196


def test_no_mask_is_a_kind_too() -> None:
    assert mask_sampler("none", 14, (0.3,), (0.2,)) is None

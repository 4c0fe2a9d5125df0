"""Concepts and votes against the label matrix in full, in float64."""

from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.errors import SpecError
from tests.trainers.judging import concepts64, unit64, votes64
from tests.trainers.tiny import float64
from trainers.blocks import judges
from trainers.blocks.judges import (
    Concepts,
    check_concepts,
    cross_view_votes,
    draw_anchors,
    draw_patches,
    form_concepts,
    vote_ce,
)

BANK, WIDTH = 40, 6
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def unit(n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Unit rows, some of them near each other."""
    x = np.random.RandomState(seed).standard_normal((n, WIDTH)) + 0.5
    return torch.from_numpy(unit64(x)).to(dtype)


def dense(z: Tensor, members: np.ndarray, labels: np.ndarray, temp: float) -> Tensor:
    """P(z) with Y in full, differentiable."""
    d, y = (torch.from_numpy(a).to(z) for a in (members, labels))
    return (z @ d.T / temp).softmax(-1) @ y


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("judges_from", ["others", "all"])
@pytest.mark.parametrize("labels", ["soft", "one_hot"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_segment_sums_equal_the_dense_product_in_values_and_gradients(
    count: int, labels: str, judges_from: str, dtype: torch.dtype
) -> None:
    bank, anchors = unit(BANK, 0), torch.tensor([3, 17, 8, 30, 21, 12, 5])
    d, y = concepts64(bank.numpy(), anchors.tolist(), count, labels, 0.1, judges_from)
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-15)
    options = {"labels": labels, "judges_from": judges_from}
    concepts = form_concepts(bank.to(dtype), anchors, count, **options)
    z, target = unit(11, 1, dtype), unit(11, 2, dtype)
    found, close = concepts.probabilities(target, 0.07), {"rtol": 0, "atol": TOLERANCE[dtype]}
    expected = votes64(target.double().numpy(), d, y, 0.07)
    np.testing.assert_allclose(float64(found), expected, **close)
    np.testing.assert_allclose(float64(found.sum(1)), 1, **close)
    mine, theirs = z.clone().requires_grad_(), z.double().clone().requires_grad_()
    one = -(found * concepts.log_probabilities(mine, 0.1)).sum(-1).mean()
    two = -(torch.from_numpy(expected) * dense(theirs, d, y, 0.1).log()).sum(-1).mean()
    one.backward()
    two.backward()
    assert one.item() == pytest.approx(two.item(), rel=TOLERANCE[dtype])
    scale = theirs.grad.abs().max().item()
    np.testing.assert_allclose(mine.grad / scale, theirs.grad / scale, **close)


def test_a_judge_that_looks_away_from_its_anchor_has_no_mass_of_its_own() -> None:
    a = torch.eye(4, dtype=torch.float64)
    bank = torch.cat((a, -a))  # the nearest of each anchor are at right angles or behind
    concepts = form_concepts(bank, torch.arange(4), 5)
    assert concepts.mass.min() == 0
    assert concepts.mass.max() == 0.9
    p = concepts.probabilities(unit(5, 0)[:, :4].contiguous(), 0.1)
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-14)


def test_an_entry_can_be_the_judge_of_several_concepts() -> None:
    bank = torch.eye(8, dtype=torch.float64)[:5]
    bank = torch.cat((bank, (bank.sum(0) / 5**0.5)[None]))  # near to all
    concepts = form_concepts(bank, torch.arange(5), 2)
    assert torch.equal(concepts.members[1], bank[5:].expand(5, -1))
    np.testing.assert_allclose(concepts.mass[1], 5**-0.5)


@pytest.mark.parametrize("labels", ["soft", "one_hot"])
def test_logarithms_are_finite_where_probabilities_underflow(labels: str) -> None:
    bank = torch.eye(6)
    concepts = form_concepts(bank, torch.arange(4), 2, labels=labels)
    z = bank[:1].clone().requires_grad_()
    log = concepts.log_probabilities(z, 1e-3)
    log.sum().backward()
    assert torch.isfinite(log).all()
    assert torch.isfinite(z.grad).all()
    if labels == "one_hot":
        assert log[0, 1].item() == pytest.approx(-1000, rel=1e-3)  # e**-1000 is 0 in any precision


def test_the_size_of_chunks_changes_nothing() -> None:
    bank, anchors = unit(BANK, 0), torch.arange(0, 20, 2)

    def run() -> list[Tensor]:
        concepts = form_concepts(bank, anchors, 4)
        z = unit(11, 1).requires_grad_()
        targets = concepts.probabilities(unit(22, 2), 0.07).view(2, 11, -1)
        votes = partial(concepts.log_probabilities, temp=0.1)
        error = vote_ce(z, targets, votes, concepts.count)
        error.square().sum().backward()
        return [*concepts, error.detach(), z.grad]

    whole = run()
    with mock.patch.object(judges, "SCORES", 3 * BANK):
        for one, other in zip(whole, run(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def test_the_error_of_no_row_is_empty_and_has_a_gradient() -> None:
    concepts = form_concepts(unit(BANK, 0), torch.arange(5), 3)
    z = unit(3, 0)[:0].requires_grad_()
    error = vote_ce(
        z, torch.zeros(1, 0, 5).double(), partial(concepts.log_probabilities, temp=1.0), 15
    )
    assert error.shape == (1, 0)
    error.sum().backward()
    assert z.grad.shape == (0, WIDTH)


@pytest.mark.parametrize("views", [2, 3, 5])
def test_cross_view_votes_are_a_mean_over_pairs_of_different_views(views: int) -> None:
    concepts = form_concepts(unit(BANK, 0), torch.arange(5), 3)
    student = [unit(4, 10 + v) for v in range(views)]
    targets = [concepts.probabilities(unit(4, 20 + i), 0.07) for i in range(2)]
    terms = []
    for i in range(2):
        for v in range(views):
            if i != v:
                log = np.log(float64(concepts.probabilities(student[v], 0.1)))
                terms += [-(float64(targets[i])[b] * log[b]).sum() for b in range(4)]
    votes = partial(concepts.log_probabilities, temp=0.1)
    found = cross_view_votes(student, targets, votes, concepts.count)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-12)


def test_votes_keep_their_precision_under_autocast() -> None:
    concepts = form_concepts(unit(BANK, 0, torch.float32), torch.arange(5), 3)
    z = unit(4, 1, torch.float32)
    expected = concepts.log_probabilities(z, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(concepts.log_probabilities(z, 0.1), expected)
        again = form_concepts(unit(BANK, 0, torch.float32), torch.arange(5), 3)
    for one, other in zip(concepts, again, strict=True):
        assert torch.equal(one, other)


def test_concepts_carry_no_gradient() -> None:
    concepts = form_concepts(unit(BANK, 0).requires_grad_(), torch.arange(5), 3)
    assert not concepts.members.requires_grad
    assert not concepts.mass.requires_grad
    assert concepts.count == 15
    assert isinstance(concepts, Concepts)


def test_anchors_are_distinct_uniform_and_a_function_of_their_seed() -> None:
    drawn = draw_anchors(50, 20, 400, (0, 7, 0))
    assert drawn.shape == (400, 20)
    assert all(len(set(task.tolist())) == 20 for task in drawn)
    counts = np.bincount(drawn.flatten().numpy(), minlength=50)  # 160 expected of each
    assert counts.min() > 110
    assert counts.max() < 210
    assert torch.equal(drawn, draw_anchors(50, 20, 400, (0, 7, 0)))
    for other in ((1, 7, 0), (0, 8, 0), (0, 7, 1)):
        assert not torch.equal(drawn, draw_anchors(50, 20, 400, other))


def test_the_blocks_of_a_partition_have_no_entry_in_common() -> None:
    drawn = draw_anchors(48, 12, 4, (0, 7, 0), "partition")
    assert sorted(drawn.flatten().tolist()) == list(range(48))
    part = draw_anchors(50, 12, 2, (0, 7, 0), "partition")
    assert len(set(part.flatten().tolist())) == 24


@pytest.mark.parametrize("how", ["uniform", "partition"])
def test_neither_rank_nor_global_generator_matter_to_draws(how: str) -> None:
    torch.manual_seed(0)
    one = draw_anchors(48, 12, 4, (0, 7, 0), how), draw_patches(16, torch.arange(9), (0, 7))
    torch.manual_seed(1)
    with mock.patch("bench.dist.rank", return_value=1):
        two = draw_anchors(48, 12, 4, (0, 7, 0), how), draw_patches(16, torch.arange(9), (0, 7))
    assert all(map(torch.equal, one, two))


def test_the_patch_of_an_image_is_uniform_and_does_not_depend_on_other_images() -> None:
    index = torch.arange(1600)
    places = draw_patches(16, index, (0, 7))
    counts = np.bincount(places.numpy(), minlength=16)  # 100 expected of each
    assert len(counts) == 16
    assert counts.min() > 65
    assert counts.max() < 135
    order = torch.randperm(1600)
    assert torch.equal(draw_patches(16, index[order], (0, 7)), places[order])
    assert not torch.equal(draw_patches(16, index, (0, 8)), places)


VALID = {
    "bank": 64,
    "anchors": 16,
    "judges": 5,
    "tasks": 2,
    "judges_from": "others",
    "how": "uniform",
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"judges": 0}, "1 judge"),
        ({"tasks": 0}, "1 task"),
        ({"anchors": 3}, "at least 4 anchors"),
        ({"anchors": 61}, "at most x_anchors=60,"),
        ({"anchors": 65, "judges": 1}, "at most x_anchors=64,"),
        ({"anchors": 65, "judges_from": "all"}, "at most x_anchors=64,"),
        ({"anchors": 33, "how": "partition"}, "at most x_anchors=32,"),
        ({"judges": 62}, "x_bank=64 is too small for"),
        ({"judges": 65, "judges_from": "all"}, "x_bank=64 is too small for"),
    ],
)
def test_concepts_that_cannot_be_formed_are_refused(changed: dict, message: str) -> None:
    check_concepts("x_", **VALID)
    with pytest.raises(SpecError, match=message):
        check_concepts("x_", **(VALID | changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"anchors": 60},
        {"anchors": 64, "judges": 1},
        {"anchors": 64, "judges": 64, "judges_from": "all"},
        {"anchors": 32, "how": "partition"},
    ],
)
def test_the_largest_concepts_that_are_allowed_work(changed: dict) -> None:
    options = VALID | changed
    check_concepts("x_", **options)
    drawn = draw_anchors(64, options["anchors"], options["tasks"], (0, 0, 0), options["how"])
    bank = unit(64, 3)
    for anchors in drawn:
        concepts = form_concepts(
            bank, anchors, options["judges"], judges_from=options["judges_from"]
        )
        assert torch.isfinite(concepts.mass).all()
        assert concepts.count == options["anchors"] * options["judges"]

"""Shared losses against float64 loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.tiny import float64, softmax64
from trainers.blocks.losses import info_nce, masked_regression, mean_by_image, soft_ce


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def numpy_info_nce(q: Tensor, k: Tensor, temperature: float, positives: list[int]) -> float:
    """The mean of -log(e^(cos/T) of the positive / sum over all keys), one query at a time."""
    queries, keys = float64(q), float64(k)
    terms = []
    for i, query in enumerate(queries):
        cosines = [key @ query / np.linalg.norm(key) / np.linalg.norm(query) for key in keys]
        exponents = np.exp(np.array(cosines) / temperature)
        terms.append(-math.log(exponents[positives[i]] / exponents.sum()))
    return float(np.mean(terms))


def test_soft_cross_entropy_equals_a_float64_sum() -> None:
    logits, target = points(2, 3, 5), points(2, 3, 5, seed=1).softmax(-1)
    expected = -(float64(target) * np.log(softmax64(float64(logits)))).sum(-1)
    np.testing.assert_allclose(float64(soft_ce(logits, target)), expected, rtol=1e-5)


def test_soft_cross_entropy_is_least_where_both_agree() -> None:
    target = points(4, 5).softmax(-1)
    agreeing = soft_ce(target.log(), target)
    torch.testing.assert_close(agreeing, -(target * target.log()).sum(-1))
    for seed in range(1, 20):
        assert (soft_ce(target.log() + 0.1 * points(4, 5, seed=seed), target) > agreeing).all()


def test_soft_cross_entropy_gives_its_target_no_gradient_and_works_in_float32() -> None:
    logits, target = (points(4, 5, seed=s).requires_grad_() for s in (0, 1))
    loss = soft_ce(logits.bfloat16(), target.softmax(-1))
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert logits.grad is not None
    assert target.grad is None


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_info_nce_equals_a_float64_loop(temperature: float) -> None:
    q, k = points(4, 6), points(9, 6, seed=1)
    positives = [8, 0, 3, 3]
    found = info_nce(q, k, temperature, positives=torch.tensor(positives))
    expected = numpy_info_nce(q, k, temperature, positives)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_by_default_key_i_is_the_positive_of_query_i() -> None:
    q, k = points(4, 6), points(4, 6, seed=1)
    assert info_nce(q, k, 0.2).item() == pytest.approx(
        numpy_info_nce(q, k, 0.2, [0, 1, 2, 3]), rel=1e-5
    )


def test_with_groups_a_query_meets_the_keys_of_its_own_group_alone() -> None:
    q, k = points(3, 6).requires_grad_(), points(7, 6, seed=1)
    own, others = torch.tensor([5, 5, 2]), torch.tensor([2, 5, 5, 2, 5, 0, 2])
    positives = torch.tensor([1, 4, 6])
    loss = info_nce(q, k, 0.2, positives=positives, groups=(own, others))
    terms = []
    for i, group in enumerate(own.tolist()):
        mine = [j for j, other in enumerate(others.tolist()) if other == group]
        place = [mine.index(int(positives[i]))]
        terms.append(numpy_info_nce(q[i : i + 1], k[mine], 0.2, place))
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)
    loss.backward()
    assert q.grad.isfinite().all()


def test_info_nce_of_one_shared_key_is_log_n() -> None:
    same = points(1, 6).expand(7, -1)
    assert info_nce(points(3, 6), same, 0.2).item() == pytest.approx(math.log(7), rel=1e-5)


def test_lengths_do_not_matter_and_keys_get_no_gradient() -> None:
    q, k = points(4, 6).requires_grad_(), points(4, 6, seed=1).requires_grad_()
    loss = info_nce(q, k, 0.2)
    torch.testing.assert_close(info_nce(3 * q, 5 * k, 0.2), loss)
    loss.backward()
    assert k.grad is None
    # Moving along itself changes no direction: the gradient is orthogonal to the query.
    torch.testing.assert_close((q * q.grad).sum(1), torch.zeros(4), atol=1e-6, rtol=0)


def test_without_queries_info_nce_is_zero_with_zero_gradients() -> None:
    layer = torch.nn.Linear(6, 6)
    loss = info_nce(layer(points(0, 6)), points(3, 6), 0.2)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(layer.weight.grad, torch.zeros(6, 6))
    assert torch.equal(layer.bias.grad, torch.zeros(6))


def test_info_nce_is_float32_under_autocast() -> None:
    q, k = points(4, 6), points(9, 6, seed=1)
    positives = torch.tensor([8, 0, 3, 3])
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce(q, k, 0.07, positives=positives)
    assert torch.equal(found, info_nce(q, k, 0.07, positives=positives))


ERRORS = {
    "mse": lambda d: d**2,
    "l1": abs,
    "smooth_l1": lambda d: d**2 / 2 if abs(d) < 1 else abs(d) - 0.5,
}


@pytest.mark.parametrize("kind", ERRORS)
def test_masked_regression_averages_over_the_masked_tokens_of_the_batch(kind: str) -> None:
    prediction, target = points(3, 4, 5), points(3, 4, 5, seed=1)
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    p, t = float64(prediction), float64(target)
    errors = [
        np.mean([ERRORS[kind](p[i, j, c] - t[i, j, c]) for c in range(5)])
        for i, j in mask.nonzero().tolist()
    ]
    found = masked_regression(prediction, target, mask, kind)
    assert found.item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_masked_regression_gives_gradients_to_masked_predictions_only() -> None:
    prediction, target = points(2, 3, 5).requires_grad_(), points(2, 3, 5, seed=1).requires_grad_()
    mask = torch.tensor([[True, False, False], [False, True, True]])
    masked_regression(prediction, target, mask).backward()
    assert target.grad is None
    assert torch.equal(prediction.grad.abs().sum(-1) > 0, mask)


def test_the_mean_by_image_weighs_images_alike_and_empty_ones_as_0() -> None:
    values = torch.tensor([1.0, 2.0, 6.0, 10.0]).requires_grad_()
    found = mean_by_image(values, torch.tensor([0, 2, 2, 2]), 4)
    assert found.item() == pytest.approx((1 + 0 + 6 + 0) / 4)
    found.backward()
    torch.testing.assert_close(values.grad, torch.tensor([1, 1 / 3, 1 / 3, 1 / 3]) / 4)
    nothing = mean_by_image(values[:0], torch.zeros(0, dtype=torch.long), 4)
    assert nothing.item() == 0
    assert nothing.requires_grad

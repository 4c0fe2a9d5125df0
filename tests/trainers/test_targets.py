"""Centring and Sinkhorn against numpy, and their properties."""

import numpy as np
import pytest
import torch

from tests.trainers.tiny import float64, softmax64
from trainers.blocks.targets import Centre, sinkhorn


def scores(n: int, k: int, seed: int = 0) -> torch.Tensor:
    """Cosines, as prototypes give them."""
    g = torch.Generator().manual_seed(seed)
    x, p = (torch.nn.functional.normalize(torch.randn(m, 32, generator=g), dim=1) for m in (n, k))
    return x @ p.T


def numpy_sinkhorn(values: np.ndarray, temperature: float, iterations: int = 3) -> np.ndarray:
    """Alternating scaling of exp(s / T) to equal masses: K columns of 1/K, n rows of 1/n."""
    n, k = values.shape
    q = np.exp(values / temperature)
    q /= q.sum()
    for _ in range(iterations):
        q *= (1 / k) / q.sum(0)
        q *= (1 / n) / q.sum(1)[:, None]
    return q * n


def test_probabilities_are_the_softmax_of_centred_scores() -> None:
    centre = Centre(5)
    centre.value.copy_(torch.randn(5))
    s = scores(7, 5)
    expected = softmax64((float64(s) - float64(centre.value)) / 0.04)
    np.testing.assert_allclose(float64(centre.probabilities(s, 0.04)), expected, atol=1e-6)
    assert centre.probabilities(s.bfloat16(), 0.04).dtype == torch.float32


def test_the_centre_moves_after_use_towards_the_mean_of_all_rows() -> None:
    centre, expected = Centre(5, momentum=0.9), np.zeros(5)
    for step in range(3):
        s = scores(12, 5, step).view(3, 4, 5)
        before = centre.value.clone()
        centre.observe(s)
        assert torch.equal(centre.value, before)
        centre.update()
        expected = 0.9 * expected + 0.1 * float64(s).reshape(12, 5).mean(0)
    np.testing.assert_allclose(float64(centre.value), expected, atol=1e-7)


def test_micro_batches_move_the_centre_as_their_union_does() -> None:
    whole, parts, s = Centre(5), Centre(5), scores(12, 5)
    whole.observe(s)
    for part in s.chunk(3):
        parts.observe(part)
    whole.update()
    parts.update()
    torch.testing.assert_close(whole.value, parts.value)


def test_scores_that_are_not_finite_leave_the_centre_alone_and_the_next_step_works() -> None:
    centre = Centre(5)
    centre.observe(scores(4, 5).fill_(torch.nan))
    centre.update()
    assert not centre.value.any()
    centre.observe(torch.ones(4, 5))
    centre.update()
    torch.testing.assert_close(centre.value, torch.full((5,), 0.1))


@pytest.mark.parametrize("temperature", [0.04, 0.1])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_equals_plain_numpy(temperature: float, iterations: int) -> None:
    s = scores(60, 7)
    found = sinkhorn(s, temperature, iterations)
    expected = numpy_sinkhorn(float64(s), temperature, iterations)
    np.testing.assert_allclose(float64(found), expected, atol=1e-5)


def test_sinkhorn_rows_sum_to_one_and_columns_share_the_mass_within_one_percent() -> None:
    q = sinkhorn(scores(2000, 64), 0.1)
    torch.testing.assert_close(q.sum(1), torch.ones(2000))
    torch.testing.assert_close(q.sum(0), torch.full((64,), 2000 / 64), rtol=0.01, atol=0)
    plain = (scores(2000, 64) / 0.1).softmax(1).sum(0)
    assert (plain * 64 / 2000 - 1).abs().max() > 0.05  # what there was to do


def test_sinkhorn_does_not_change_with_a_constant_and_keeps_large_scores_finite() -> None:
    s = scores(20, 5)
    torch.testing.assert_close(sinkhorn(s + 30, 0.1), sinkhorn(s, 0.1), atol=1e-4, rtol=1e-4)
    assert sinkhorn(s + 1000, 0.04).isfinite().all()


def test_sinkhorn_of_no_rows_is_no_rows() -> None:
    assert sinkhorn(torch.zeros(0, 5), 0.1).shape == (0, 5)


def test_no_gradient_passes_through_targets() -> None:
    s = scores(6, 5).requires_grad_()
    assert not sinkhorn(s, 0.1).requires_grad
    centre = Centre(5)
    centre.observe(s)
    centre.update()
    assert not centre.value.requires_grad

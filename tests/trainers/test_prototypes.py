"""Prototypes: cosines by loops, and the same function as weight normalisation."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from tests.trainers.tiny import float64
from trainers.blocks.prototypes import Prototypes, l2


def points(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_scores_are_cosines_with_each_prototype() -> None:
    torch.manual_seed(0)
    prototypes, x = Prototypes(8, 5), points(2, 3, 8)
    found = prototypes(x)
    assert found.shape == (2, 3, 5)
    weight = float64(prototypes.weight)
    for place in np.ndindex(2, 3):
        for k in range(5):
            a, b = float64(x)[place], weight[k]
            expected = (a @ b) / math.sqrt((a @ a) * (b @ b))
            assert found[place][k].item() == pytest.approx(expected, abs=1e-6)


def test_neither_the_length_of_embeddings_nor_that_of_prototypes_matters() -> None:
    prototypes, x = Prototypes(8, 5), points(4, 8)
    before = prototypes(x)
    with torch.no_grad():
        prototypes.weight.mul_(torch.tensor([0.1, 1, 2, 3, 50])[:, None])
    torch.testing.assert_close(prototypes(7 * x), before)


@pytest.mark.parametrize("gain", ["fixed", "free"])
def test_it_is_a_weight_normalised_layer_in_values_and_gradients(gain: str) -> None:
    torch.manual_seed(0)
    prototypes, x = Prototypes(8, 5, gain=gain), points(4, 8)
    layer = weight_norm(nn.Linear(8, 5, bias=False))
    length, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight
    values = torch.ones(5, 1) if gain == "fixed" else torch.rand(5, 1) + 0.5
    with torch.no_grad():
        length.copy_(values)
        direction.original1.copy_(prototypes.weight)
        if gain == "free":
            prototypes.gain.copy_(values)
    found, expected = prototypes(x), layer(nn.functional.normalize(x, dim=-1))
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(prototypes.weight.grad, direction.original1.grad)
    if gain == "free":
        torch.testing.assert_close(prototypes.gain.grad, length.grad)


def test_a_fixed_gain_is_no_parameter_and_a_free_one_starts_at_one() -> None:
    assert Prototypes(8, 5).gain is None
    assert torch.equal(Prototypes(8, 5, gain="free").gain, torch.ones(5, 1))


def test_initial_directions_are_normal_or_those_of_a_linear_layer() -> None:
    torch.manual_seed(0)
    assert Prototypes(64, 100).weight.std().item() == pytest.approx(1, rel=0.05)
    uniform = Prototypes(64, 100, init="linear").weight
    assert 0.98 / 8 < uniform.abs().max() <= 1 / 8
    assert uniform.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_normalising_gives_unit_length_and_leaves_zero_alone(dtype: torch.dtype) -> None:
    x = points(3, 8).to(dtype)
    lengths = l2(x).float().norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(3), atol=1e-2, rtol=0)
    assert not l2(torch.zeros(1, 8, dtype=dtype)).any()


@pytest.mark.parametrize("gain", ["fixed", "free"])
def test_mean_scores_are_the_mean_of_all_rows_scores(gain: str) -> None:
    torch.manual_seed(0)
    prototypes, x = Prototypes(8, 5, gain=gain), points(2, 7, 8)
    if prototypes.gain is not None:
        nn.init.uniform_(prototypes.gain, 0.5, 1.5)
    expected = np.mean([float64(row) for row in prototypes(x).flatten(0, 1)], 0)
    np.testing.assert_allclose(float64(prototypes.mean_scores(x)), expected, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        found = prototypes.mean_scores(x)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(float64(found), expected, atol=1e-6)

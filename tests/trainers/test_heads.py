"""The MLP head builder: layers in their order, initial values, and the function in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from bench.errors import SpecError
from tests.trainers.tiny import float64, mlp64, shaken
from trainers.blocks.heads import BatchNorm, mlp_head


def kinds(head: nn.Sequential) -> list[type[nn.Module]]:
    return [type(module) for module in head]


@pytest.mark.parametrize(
    ("layers", "shapes"),
    [(1, [(6, 8)]), (2, [(5, 8), (6, 5)]), (4, [(5, 8), (5, 5), (5, 5), (6, 5)])],
)
def test_widths_run_from_input_over_hidden_to_output(
    layers: int, shapes: list[tuple[int, int]]
) -> None:
    head = mlp_head(8, 5, 6, layers)
    linears = [module for module in head if isinstance(module, nn.Linear)]
    assert [tuple(linear.weight.shape) for linear in linears] == shapes


def test_by_default_there_is_no_norm_and_no_activation_at_the_end() -> None:
    assert kinds(mlp_head(8, 5, 6)) == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]


def test_norms_stand_before_activations_and_the_last_one_at_the_end() -> None:
    head = mlp_head(8, 5, 6, 2, norm="bn", act="relu", last_norm="ln", last_affine=False)
    assert kinds(head) == [nn.Linear, BatchNorm, nn.ReLU, nn.Linear, nn.LayerNorm]
    assert head[1].weight is not None
    assert head[4].weight is None
    head = mlp_head(8, 5, 6, 2, norm="ln", last_norm="bn", last_affine=False)
    assert kinds(head) == [nn.Linear, nn.LayerNorm, nn.GELU, nn.Linear, BatchNorm]
    assert head[4].weight is None


def test_without_bias_no_linear_layer_has_one() -> None:
    assert all(m.bias is None for m in mlp_head(8, 5, 6, 3, bias=False) if hasattr(m, "bias"))


def test_weights_start_truncated_normal_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    for linear in mlp_head(100, 120, 80)[::2]:
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert linear.weight.mean().abs() < 0.001
        assert not linear.bias.any()


def test_weights_can_start_as_those_of_torch_s_linear_layer() -> None:
    torch.manual_seed(0)
    linear = mlp_head(100, 120, 80, 1, init="linear")[0]
    assert linear.weight.abs().max().item() == pytest.approx(0.1, rel=1e-3)  # 1 / sqrt(inputs)
    assert linear.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    assert linear.bias.any()


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_torch_s_in_training_values_and_gradients(affine: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(5, affine), nn.BatchNorm1d(5, affine=affine)
    theirs.load_state_dict(shaken(ours).state_dict(), strict=False)
    x = (3 + 2 * torch.randn(7, 5)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(7, 5)
    out, expected = ours(x), theirs(y)
    torch.testing.assert_close(out, expected)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-6, rtol=1e-5)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_batch_norm_is_of_rows_whatever_stands_before_them_and_remembers_nothing() -> None:
    torch.manual_seed(0)
    norm = shaken(BatchNorm(5))
    x = torch.randn(4, 3, 5)
    torch.testing.assert_close(norm(x), norm(x.flatten(0, 1)).view(4, 3, 5))
    assert torch.equal(norm(x), norm.eval()(x))
    assert norm.state_dict().keys() == {"weight", "bias"}
    assert norm(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("rows", [0, 1])
def test_batch_norm_of_no_row_and_of_one_is_finite(rows: int) -> None:
    x = torch.randn(rows, 5, requires_grad=True)
    out = BatchNorm(5)(x)
    assert out.shape == (rows, 5)
    assert not out.any()
    out.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_the_head_is_gelu_between_linear_maps() -> None:
    torch.manual_seed(0)
    head = shaken(mlp_head(8, 5, 6, 3))
    x = torch.randn(2, 7, 8)
    np.testing.assert_allclose(float64(head(x)), mlp64(head, float64(x)), atol=1e-6)


@pytest.mark.parametrize("layers", [0, -1])
def test_a_head_without_layers_is_refused(layers: int) -> None:
    with pytest.raises(SpecError, match="at least 1"):
        mlp_head(8, 5, 6, layers)

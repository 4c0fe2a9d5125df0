"""MLP heads: one builder for every projector and predictor of the methods."""

from itertools import pairwise
from typing import Literal

from torch import nn

from bench.errors import SpecError

Norm = Literal["none", "bn", "ln"]
Act = Literal["gelu", "relu"]


def mlp_head(
    in_dim: int,
    hidden_dim: int,
    out_dim: int,
    layers: int = 3,
    *,
    norm: Norm = "none",
    act: Act = "gelu",
    bias: bool = True,
    last_norm: Norm = "none",
    last_affine: bool = True,
) -> nn.Sequential:
    """A multi-layer perceptron with ``layers`` linear layers, the last one without activation.

    Args:
        in_dim: width of the input.
        hidden_dim: width between the layers.
        out_dim: width of the output.
        layers: number of linear layers, at least 1.
        norm: normalisation after each hidden layer.
        act: activation after each hidden layer.
        bias: whether the linear layers have a bias (MoCo v3: not).
        last_norm: normalisation of the output.
        last_affine: whether that normalisation has weights.

    Returns:
        A module (..., in_dim) -> (..., out_dim); weights truncated-normal 0.02, biases 0 (DINO's).

    Raises:
        SpecError: ``layers`` is below 1.
    """
    if layers < 1:
        raise SpecError(f"a head of {layers} layers: it needs at least 1 linear layer")
    widths = [in_dim] + [hidden_dim] * (layers - 1) + [out_dim]
    modules: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        linear = nn.Linear(a, b, bias=bias)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        if bias:
            nn.init.zeros_(linear.bias)
        modules.append(linear)
        if i < layers - 1:
            modules += [
                *_norm(norm, b, True),
                nn.GELU() if act == "gelu" else nn.ReLU(inplace=True),
            ]
    return nn.Sequential(*modules, *_norm(last_norm, out_dim, last_affine))


def _norm(kind: Norm, dim: int, affine: bool) -> list[nn.Module]:
    if kind == "bn":
        return [nn.BatchNorm1d(dim, affine=affine)]
    if kind == "ln":
        return [nn.LayerNorm(dim, elementwise_affine=affine)]
    return []

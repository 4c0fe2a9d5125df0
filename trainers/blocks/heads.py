"""MLP heads: one builder for every projector and predictor of the methods."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from bench import dist
from bench.errors import SpecError

Norm = Literal["none", "bn", "ln"]
Act = Literal["gelu", "relu"]


class BatchNorm(nn.Module):
    """Batch normalisation with the statistics of the batch of all processes, in every mode.

    Nothing is remembered from batch to batch: heads end with pre-training, where only the current
    batch counts, and a teacher uses its own batch too (MoCo v3). Gradients flow through the
    statistics, those of other processes included, on any backend.

    Args:
        dim: width of the rows.
        affine: whether there are a weight and a bias.
        eps: added to the (biased) variance.
    """

    def __init__(self, dim: int, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim); the number of rows may differ between processes and be 0."""
        rows = x.float().reshape(-1, self.dim)  # (n, d)
        count = rows.new_full((1,), len(rows))
        own = rows.sum(0) / count.clamp_min(1)
        spread = (rows - own).square().sum(0) / count.clamp_min(1)
        stats = dist.all_gather_grad(torch.cat((count, own, spread))[None])  # (processes, 1 + 2d)
        counts, means, variances = stats.split((1, self.dim, self.dim), 1)
        share = counts / counts.sum().clamp_min(1)
        # Variances around each process's mean, put together as Chan et al. (1979) do.
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        out = (rows - mean) * scale
        return (out if self.bias is None else out + self.bias).view_as(x).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.dim}, affine={self.weight is not None}"


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
    init: Literal["normal", "linear"] = "normal",
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
        init: ``normal``, weights truncated-normal 0.02 and biases 0 (DINO), or ``linear``, torch's
            own for a linear layer (MoCo v3).

    Returns:
        A module (..., in_dim) -> (..., out_dim).

    Raises:
        SpecError: ``layers`` is below 1.
    """
    if layers < 1:
        raise SpecError(f"a head of {layers} layers: it needs at least 1 linear layer")
    widths = [in_dim] + [hidden_dim] * (layers - 1) + [out_dim]
    modules: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        linear = nn.Linear(a, b, bias=bias)
        if init == "normal":
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
        return [BatchNorm(dim, affine)]
    if kind == "ln":
        return [nn.LayerNorm(dim, elementwise_affine=affine)]
    return []

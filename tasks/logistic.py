"""Multinomial logistic regression without intercept on rows of length 1, by L-BFGS.

The objective is cyanure's, as iBOT uses it: the mean cross-entropy plus ``l2 / 2 |W|^2``
(scikit-learn's ``C`` is ``1 / (l2 n)``). It is strictly convex, so the solver does not show in the
numbers; torch's is used at every size, since its rows may stay memory-mapped and its products may
run on an accelerator. It works on ``W R`` with ``R^2 = X^T X / (n c) + l2``, an estimate of the
Hessian: frozen features often share most of their direction, and plain L-BFGS then takes thousands
of steps where this takes tens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.memory import as_tensor

Ints = npt.NDArray[np.int64]

CHUNK = 16_384  # rows whose logits exist at once
KEPT_ELEMENTS = 2**26  # features up to this number are normalised once and kept
MAX_ITERATIONS = 1000
HISTORY = 20
# The largest element of the gradient, in the solver's terms, at which a fit ends.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}


class UnitRows:
    """Rows of a feature matrix, divided by their length, in chunks on the device.

    float64 on a host; float32 on an accelerator, many of which are slow in float64.
    """

    def __init__(self, values: npt.NDArray[Any], rows: Ints | None = None, device: str = "cpu"):
        self._table = as_tensor(values, device)
        self._rows = torch.arange(len(values)) if rows is None else torch.from_numpy(rows)
        self.device, self.width = torch.device(device), values.shape[1]
        self.dtype = torch.float64 if self.device.type == "cpu" else torch.float32
        small = len(self) * self.width <= KEPT_ELEMENTS
        self._kept = list(self._made()) if small else None

    def __len__(self) -> int:
        return len(self._rows)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """(places, rows (b, d)), in order."""
        return iter(self._kept) if self._kept is not None else self._made()

    def _made(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self), CHUNK):
            places = slice(start, min(start + CHUNK, len(self)))
            picked = self._table[self._rows[places].to(self._table.device)]
            yield places, normalize(picked.to(self.device, self.dtype), dim=1)


@dataclass(frozen=True, eq=False)
class Fit:
    """One strength's weights."""

    l2: float
    weight: Tensor  # (c, d) of the classes that training had
    present: Ints  # (c,) which these are, rising
    converged: bool

    def scores(self, rows: UnitRows, classes: int) -> npt.NDArray[np.float64]:
        """Logits (n, classes); -inf for classes that training did not have."""
        found = np.full((len(rows), classes), -np.inf)
        for places, x in rows.chunks():
            found[places, self.present] = (x @ self.weight.T).double().cpu().numpy()
        return found


def fit_path(rows: UnitRows, labels: Ints, l2s: Sequence[float]) -> list[Fit]:
    """A fit for every strength, in the order given.

    The strongest is fitted first and each of the others starts where the next stronger ended.
    Classes without training images take no part, as in scikit-learn.
    """
    present, own = np.unique(labels, return_inverse=True)
    target = torch.from_numpy(own).to(rows.device)
    weight = torch.zeros(len(present), rows.width, dtype=rows.dtype, device=rows.device)
    found: dict[float, Fit] = {}
    values, vectors = _moments(rows)
    for l2 in sorted(set(l2s), reverse=True):
        scale = (values / len(present) + l2).sqrt()  # (d,)
        turns = tuple((vectors * s @ vectors.T).to(weight) for s in (scale, 1 / scale))
        weight, converged = _minimised(rows, target, l2, weight, *turns)
        found[l2] = Fit(l2, weight, present, converged)
    return [found[l2] for l2 in l2s]


def _moments(rows: UnitRows) -> tuple[Tensor, Tensor]:
    """Eigenvalues (d,) and eigenvectors (d, d) of X^T X / n, in float64."""
    gram = torch.zeros(rows.width, rows.width, dtype=torch.float64)
    for _, x in rows.chunks():
        gram += (x.T @ x).double().cpu()
    values, vectors = torch.linalg.eigh(gram / len(rows))
    return values.clamp_min(0), vectors


def _minimised(
    rows: UnitRows, target: Tensor, l2: float, start: Tensor, turn: Tensor, back: Tensor
) -> tuple[Tensor, bool]:
    """(weights at the minimum, whether the gradient reached the tolerance).

    The solver sees ``V = W turn``; `back` is the inverse of the symmetric `turn`.
    """
    if len(start) < 2:
        return start, True  # one class: every weight gives the same answer
    turned = (start @ turn).requires_grad_(True)  # (c, d)
    optimiser = torch.optim.LBFGS(
        [turned],
        max_iter=MAX_ITERATIONS,
        max_eval=2 * MAX_ITERATIONS,
        history_size=HISTORY,
        tolerance_grad=TOLERANCE[rows.dtype],
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def loss_and_gradient() -> float:
        weight = (turned.detach() @ back).requires_grad_(True)
        penalty = l2 / 2 * weight.square().sum()
        penalty.backward()
        value = penalty.detach()
        for places, x in rows.chunks():  # one chunk's graph at a time
            part = cross_entropy(x @ weight.T, target[places], reduction="sum") / len(rows)
            part.backward()
            value = value + part.detach()
        assert weight.grad is not None
        turned.grad = weight.grad @ back
        return float(value)

    optimiser.step(loss_and_gradient)
    loss_and_gradient()
    assert turned.grad is not None
    steepest = float(turned.grad.abs().max())
    return turned.detach() @ back, steepest <= 100 * TOLERANCE[rows.dtype]

"""Many linear classifiers on one frozen feature, trained as one tensor.

Heads that read the same input differ in their learning rate only, so one matrix product gives the
logits of all of them, another one all gradients, and the update is one tensor operation with a
vector of learning rates. No head sees the others: each trains exactly as it would alone. The
gradient of the cross-entropy is written out, which saves the memory of a recorded graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Optimizer = Literal["sgd", "lars"]
Init = Literal["normal", "trunc_normal"]

_CHANGING = ("weight", "bias", "_weight_velocity", "_bias_velocity")
SLICE_ELEMENTS = 2**25  # logits of one slice of a batch: 128 MB in float32


class LinearHeads:
    """h classifiers of features (n, d) into c classes, one for each learning rate.

    All start from the same draw, so a head does not depend on which others are in the sweep.
    `lrs` are final (already scaled by the batch). `batch_norm` puts BatchNorm without affine
    parameters (MAE: eps 1e-6) before the heads; they share it, because they share the input.

    Example: `LinearHeads([0.1, 0.01], width=384, classes=10).step(features, target)`.
    """

    def __init__(
        self,
        lrs: Sequence[float],
        width: int,
        classes: int,
        *,
        optimizer: Optimizer = "sgd",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        batch_norm: bool = False,
        init: Init = "normal",
        init_std: float = 0.01,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        generator = torch.Generator().manual_seed(seed)  # on the host: the same on every device
        draw = torch.empty(classes, width)
        fill = nn.init.normal_ if init == "normal" else nn.init.trunc_normal_
        fill(draw, std=init_std, generator=generator)
        self.weight = draw.to(device).repeat(len(lrs), 1, 1)  # (h, c, d)
        self.bias = torch.zeros(len(lrs), classes, device=device)  # (h, c)
        self.lr = torch.tensor(lrs, device=device)  # (h,)
        self.norm = nn.BatchNorm1d(width, eps=1e-6, affine=False, device=device)
        self.batch_norm = batch_norm
        self._optimizer = optimizer
        self._momentum, self._weight_decay, self._trust = momentum, weight_decay, trust
        self._weight_velocity = torch.zeros_like(self.weight)
        self._bias_velocity = torch.zeros_like(self.bias)

    def __len__(self) -> int:
        return len(self.lr)

    @torch.no_grad()
    def step(self, features: Tensor, target: Tensor, factor: float = 1.0) -> Tensor:
        """One update of every head on features (b, d) and classes (b,); mean losses before it (h,).

        `factor` is the schedule's share of each head's learning rate.
        """
        inputs = self._normalised(features, training=True)
        loss, weight_gradient, bias_gradient = self._gradients(inputs, target)
        lr = self.lr * factor
        if self._optimizer == "lars":
            lars_update(
                self.weight,
                weight_gradient,
                self._weight_velocity,
                lr[:, None, None],
                self._momentum,
                self._weight_decay,
                self._trust,
            )
            bias_decay = 0.0  # LARS neither scales nor decays one-dimensional parameters
        else:
            sgd_update(
                self.weight,
                weight_gradient,
                self._weight_velocity,
                lr[:, None, None],
                self._momentum,
                self._weight_decay,
            )
            bias_decay = self._weight_decay
        sgd_update(
            self.bias, bias_gradient, self._bias_velocity, lr[:, None], self._momentum, bias_decay
        )
        return loss

    @torch.no_grad()
    def logits(self, features: Tensor, head: int | None = None) -> Tensor:
        """Evaluation logits (n, h, c) of all heads, or (n, c) of one, with running statistics."""
        inputs = self._normalised(features, training=False)
        if head is not None:
            return torch.addmm(self.bias[head], inputs, self.weight[head].T)  # (n, c)
        return self._all_logits(inputs)

    def finite(self) -> Tensor:
        """(h,) bool: heads whose parameters have not diverged."""
        return self.weight.isfinite().all(dim=2).all(dim=1) & self.bias.isfinite().all(dim=1)

    def folded(self, head: int) -> tuple[Tensor, Tensor]:
        """Weight (c, d) and bias (c,) of one head with the normalisation folded in."""
        weight, bias = self.weight[head].double(), self.bias[head].double()
        if self.batch_norm:
            scale = (self.norm.running_var.double() + self.norm.eps).rsqrt()
            weight = weight * scale  # (c, d)
            bias = bias - weight @ self.norm.running_mean.double()
        return weight.float(), bias.float()

    def state(self) -> dict[str, Tensor]:
        """What training changes: parameters, momenta, running statistics."""
        own = {name: getattr(self, name) for name in _CHANGING}
        return own | {f"norm.{name}": value for name, value in self.norm.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Puts back what `state` gave."""
        for name in _CHANGING:
            getattr(self, name).copy_(state[name])
        norm = {n.removeprefix("norm."): v for n, v in state.items() if n.startswith("norm.")}
        self.norm.load_state_dict(norm)

    def _normalised(self, features: Tensor, training: bool) -> Tensor:
        inputs = features.to(self.weight.device, torch.float32)
        if not self.batch_norm:
            return inputs
        return self.norm.train(training)(inputs)

    def _all_logits(self, inputs: Tensor) -> Tensor:
        flat = torch.addmm(self.bias.flatten(), inputs, self.weight.flatten(0, 1).T)  # (n, h*c)
        return flat.unflatten(1, self.bias.shape)  # (n, h, c)

    def _gradients(self, inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Losses (h,) and gradients (h, c, d), (h, c) of each head's mean cross-entropy.

        A batch is cut into slices where its logits would not fit: the sums are the same.
        """
        rows = max(1, SLICE_ELEMENTS // self.bias.numel())
        loss = torch.zeros_like(self.lr)
        bias_gradient = torch.zeros_like(self.bias)
        weight_gradient = torch.zeros_like(self.weight)
        for x, t in zip(inputs.split(rows), target.to(inputs.device).split(rows), strict=True):
            logp = self._all_logits(x).log_softmax(dim=2)  # (b, h, c)
            own = t.view(-1, 1, 1).expand(-1, len(self), 1)
            loss -= logp.gather(2, own).sum((0, 2))
            error = logp.exp_().scatter_add_(2, own, -torch.ones_like(own, dtype=logp.dtype))
            error /= len(inputs)  # softmax minus one-hot over b: the gradient of the logits
            bias_gradient += error.sum(0)
            weight_gradient.flatten(0, 1).addmm_(error.flatten(1).T, x)  # (h*c, b) @ (b, d)
        return loss / len(inputs), weight_gradient, bias_gradient


def sgd_update(
    parameter: Tensor,
    gradient: Tensor,
    velocity: Tensor,
    lr: Tensor,
    momentum: float,
    weight_decay: float,
) -> None:
    """torch.optim.SGD's step in place, with one learning rate per head (leading dimension)."""
    if weight_decay:
        gradient = gradient.add(parameter, alpha=weight_decay)
    velocity.mul_(momentum).add_(gradient)
    parameter.addcmul_(velocity, lr, value=-1)


def lars_update(
    parameter: Tensor,
    gradient: Tensor,
    velocity: Tensor,
    lr: Tensor,
    momentum: float,
    weight_decay: float,
    trust: float,
) -> None:
    """LARS as MoCo v3 and MAE use it, in place, on matrices (h, c, d); each head has its own norms.

    v <- momentum v + q (g + decay w),  q = trust |w| / |g + decay w|  (1 where a norm is zero),
    w <- w - lr v.
    """
    if weight_decay:
        gradient = gradient.add(parameter, alpha=weight_decay)
    weight_norm = parameter.flatten(1).norm(dim=1)  # (h,)
    gradient_norm = gradient.flatten(1).norm(dim=1)
    usable = (weight_norm > 0) & (gradient_norm > 0)
    ratio = torch.where(usable, trust * weight_norm / gradient_norm, torch.ones_like(weight_norm))
    velocity.mul_(momentum).addcmul_(gradient, ratio[:, None, None])
    parameter.addcmul_(velocity, lr, value=-1)

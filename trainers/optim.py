"""Optimiser: parameter groups and gradient clipping in few kernels."""

import torch
from torch import Tensor, nn

from trainers.recipe import Recipe


def make_optimizer(method: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over all trainable parameters; the first group is decayed, the second not.

    Biases and 1-D parameters are not decayed unless ``recipe.decay_1d``.
    """
    decayed, plain = [], []
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            thin = parameter.ndim <= 1 or name.endswith(".bias")
            (plain if thin and not recipe.decay_1d else decayed).append(parameter)
    groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=0.0,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def set_schedule(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Set learning rate everywhere and weight decay where there is any."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.param_groups[0]["weight_decay"] = weight_decay


@torch.no_grad()
def clip_gradients(method: nn.Module, limit: float, mode: str) -> Tensor:
    """Clip gradients and return their global norm before clipping, a 0-d tensor.

    Args:
        method: module whose gradients are clipped in place.
        limit: largest norm; 0 does not clip.
        mode: ``parameter`` limits each tensor's own norm (DINO family), ``global`` the norm of all.
    """
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    total = norms.norm()
    if limit > 0:
        scale = limit / ((norms if mode == "parameter" else total.expand_as(norms)) + 1e-6)
        torch._foreach_mul_(gradients, list(scale.clamp(max=1.0).unbind()))
    return total

"""Cases for goldens: weights, views, masks and boxes that are the same on every machine."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainers.blocks.views import Batch
from trainers.method import Method
from trainers.optim import clip_gradients, make_optimizer, set_schedule

STEPS = 4  # two epochs of two batches: warm-up, then the peak rate; heads are frozen in the first
IMAGES = 4
SIZE = 64  # 4 x 4 patches of 16 px
PROBED = ("vit.cls_token", "vit.patch_embed.proj.bias", "vit.blocks.3.mlp.fc2.bias")
SHARED: dict[str, Any] = {
    "arch": f"vit_mini_patch16_{SIZE}",
    "epochs": 6.0,
    "batch_size": IMAGES,
    "warmup_epochs": 1.0,
    "lr": 0.02,
}


def normal(seed: int, *shape: int) -> Tensor:
    """Float32 normal numbers that are the same everywhere."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


@torch.no_grad()
def fill(module: nn.Module, seed: int) -> None:
    """Give every trainable parameter a value: norms about 1, heads N(0, .15), others N(0, .05)."""
    for i, (name, parameter) in enumerate(module.named_parameters()):
        noise = normal(1000 * seed + i, *parameter.shape)
        if not parameter.requires_grad:
            continue
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "gain")):
            parameter.copy_(1 + 0.1 * noise)
        else:
            parameter.copy_((0.05 if "encoder" in name or "decoder" in name else 0.15) * noise)


@torch.no_grad()
def fill_teacher(method: Any) -> None:
    """A teacher near the student, so that mistaking one for the other shows."""
    pairs = zip(method.teacher.model.parameters(), method.student.parameters(), strict=True)
    for i, (teacher, student) in enumerate(pairs):
        teacher.copy_(student + 0.01 * normal(90_000 + i, *student.shape))


def batch_of(step: int, sizes: tuple[int, ...]) -> Batch:
    """Normal pixels, crops of a 320 x 240 image that overlap, any flips, and masks of 30 %."""
    rng = np.random.RandomState(7000 + step)
    low = rng.randint(0, 100, (IMAGES, len(sizes), 2))
    high = rng.randint(130, 240, (IMAGES, len(sizes), 2))
    boxes = np.concatenate((low, high), -1) / [320, 240, 320, 240]
    return Batch(
        images=[normal(100 * step + v, IMAGES, 3, px, px) for v, px in enumerate(sizes)],
        boxes=torch.from_numpy(boxes.astype(np.float32)),
        flips=torch.from_numpy(rng.random_sample((IMAGES, len(sizes))) < 0.5),
        masks=[torch.from_numpy(rng.random_sample((IMAGES, 16)) < 0.3) for _ in sizes],
        index=torch.arange(IMAGES),
    )


def visible(step: int) -> Tensor:
    """MAE's kept patches: (images, 4) of 16."""
    rng = np.random.RandomState(8000 + step)
    return torch.from_numpy(np.stack([rng.permutation(16)[:4] for _ in range(IMAGES)]))


def flat(method: Method, idle: tuple[str, ...] = ()) -> Tensor:
    """All parameters, the teacher's too, as one float64 vector.

    No loss depends on the key bias of attention, so that rounding alone decides where Adam moves
    it; the three biases of a block are one tensor, which is left out. So are names that end like
    one of ``idle``, on which a method's loss does not depend either.
    """
    named = method.named_parameters()
    left_out = ("qkv.bias", *idle)
    return torch.cat([p.detach().double().flatten() for n, p in named if not n.endswith(left_out)])


def gradients(method: Method) -> list[float]:
    """Norm and a projection, which sees order and sign, of the gradients of `PROBED`, in turn."""
    numbers = []
    for suffix in PROBED:
        named = [(n, p) for n, p in method.named_parameters() if n.endswith(suffix)]
        (gradient,) = (p.grad.double().flatten() for _, p in named if p.grad is not None)
        wave = torch.arange(len(gradient), dtype=torch.float64).cos()
        numbers += [float(gradient.norm()), float(gradient @ wave)]
    return numbers


def trained(
    method: Method,
    sizes: tuple[int, ...],
    before: Callable[[int], None] = lambda step: None,
    idle: tuple[str, ...] = (),
) -> dict[str, list[float]]:
    """What comes out of four optimiser steps, taken in the order of `trainers.loop`.

    `sizes` are the sides of the views; `before` is called with each step before its losses; `idle`
    as in `flat`.
    """
    recipe = method.plan.recipe
    optimizer = make_optimizer(method, recipe)
    start = flat(method, idle)
    found: dict[str, list[float]] = {}
    for step in range(STEPS):
        before(step)
        set_schedule(optimizer, method.plan.lr(step), method.plan.weight_decay(step))
        parts = method.losses(batch_of(step, sizes), step)
        parts["loss"].backward()
        for part, value in parts.items():
            found.setdefault(part, []).append(float(value.detach()))
        found.setdefault("gradients", []).extend(gradients(method) if step == 0 else ())
        norm = clip_gradients(method, recipe.clip, recipe.clip_mode)
        found.setdefault("norm", []).append(float(norm))
        for parameter in method.frozen(step):
            parameter.grad = None
        optimizer.step()
        method.after_step(step)
        optimizer.zero_grad(set_to_none=True)
    found["moved"] = [float((flat(method, idle) - start).norm())]
    return found


def check(
    found: Mapping[str, list[float]], golden: Mapping[str, list[float]], rel: float = 1e-5
) -> None:
    """Assert that every golden was found, to ``rel`` of its size."""
    norms = golden["gradients"][::2]
    for part, values in golden.items():
        # A projection can be far smaller than its gradient, to whose norm its error belongs.
        absolute = rel * max(norms) if part == "gradients" else 0.0
        assert found[part] == pytest.approx(values, rel=rel, abs=absolute), part

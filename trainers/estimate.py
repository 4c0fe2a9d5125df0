"""What a training run would take, before it is begun."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from bench.costs import RunCost
from bench.spec import parse
from trainers.flops import count_flops
from trainers.loop import lay_out, resolve
from trainers.method import Method
from trainers.recipe import Plan, Recipe
from trainers.state import KEPT_STATES


def estimate(train: str, images: int) -> RunCost:
    """The cost of a training spec over so many images.

    Raises:
        SpecError: unknown method, preset or key.
        DataError: fewer images than a batch.
    """
    spec = parse(train)
    cls, recipe = resolve(spec)
    plan = lay_out(recipe, images, spec.dataset_text)
    size = _measured(cls, replace(recipe, seed=0), images)
    return RunCost(
        arch=recipe.arch,
        images=images,
        steps=plan.steps,
        flops=size.flops * plan.steps * recipe.batch_size,
        disk=size.disk,
    )


@dataclass(frozen=True)
class _Size:
    flops: float  # of an image in a step
    disk: int  # bytes of the run folder


@cache
def _measured(cls: type[Method], recipe: Recipe, images: int) -> _Size:
    """Of one seed: building a ViT-B and counting its step takes seconds."""
    torch.manual_seed(recipe.seed)
    method = cls(Plan.of(recipe, images))
    whole = _bytes(method.state_dict().values())
    # AdamW keeps two averages of every gradient.
    state = whole + 2 * _bytes(p for p in method.parameters() if p.requires_grad)
    checkpoint = whole + _bytes(method.backbone().state_dict().values())
    return _Size(count_flops(method), checkpoint + KEPT_STATES * state)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)

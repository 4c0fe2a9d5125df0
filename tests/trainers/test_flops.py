"""Tests of counted operations: what is not done is counted as if it were."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from bench import registry
from bench.transforms import InputSpec
from tests.trainers.tiny import SMALL_HEADS, batch_for, tiny_method
from trainers import flops
from trainers.blocks.views import collate
from trainers.method import Method

METHODS = [registry.load("method", name) for name in registry.names("method")]


def done(method: Method, images: int) -> int:
    """The operations of a step that is really done, by PyTorch's own counter."""
    rng = np.random.default_rng(0)
    views = [(i, method.views(Image.new("RGB", (256, 256)), rng)) for i in range(images)]
    batch = collate(views)
    batch.images = [InputSpec().normalise(view) for view in batch.images]
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(method).losses(batch, 0)["loss"].backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_avoided_products_are_counted_as_done_ones(
    cls: type[Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cls.__name__ in SMALL_HEADS
    method = tiny_method(cls)
    torch.manual_seed(0)
    one, two = done(method, 1), done(method, 2)
    batch = method.plan.recipe.batch_size
    expected = two - one + (2 * one - two) / batch
    # How many slots are active depends on the values, so only nearly the same there.
    slots = hasattr(cls.recipe, "slot_weight")
    for smallest, tolerance in ((2**62, 1e-12), (0, 0.05 if slots else 1e-12)):
        monkeypatch.setattr(flops, "_SMALL", smallest)
        torch.manual_seed(0)
        assert flops.count_flops(method) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_counting_leaves_the_method_alone(cls: type[Method]) -> None:
    counted, other = tiny_method(cls), tiny_method(cls)
    flops.count_flops(counted)
    for method in (counted, other):
        assert all(parameter.grad is None for parameter in method.parameters())
        torch.manual_seed(0)
        method.losses(batch_for(method), 0)
        method.after_step(0)
    states = other.state_dict(), counted.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())

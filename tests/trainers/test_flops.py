"""Tests of counted operations: what is not done is counted as if it were."""

import pytest
import torch

from bench import registry
from tests.trainers.tiny import SMALL_HEADS, tiny_method
from trainers import flops
from trainers.method import Method

METHODS = [registry.load("method", name) for name in registry.names("method")]


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_avoided_products_are_counted_as_done_ones(
    cls: type[Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cls.__name__ in SMALL_HEADS
    found = {}
    for largest in (2**62, 0):  # all are done, none is
        monkeypatch.setattr(flops, "_SMALL", largest)
        torch.manual_seed(0)
        found[largest] = flops.count_flops(tiny_method(cls))
    # How many slots are active depends on the values, so only nearly the same there.
    slots = hasattr(cls.recipe, "slot_weight")
    assert found[0] == pytest.approx(found[2**62], rel=0.05 if slots else 1e-12)


def test_counting_leaves_the_method_alone() -> None:
    method = tiny_method(METHODS[0])
    before = {name: value.clone() for name, value in method.state_dict().items()}
    flops.count_flops(method)
    after = method.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in method.parameters())

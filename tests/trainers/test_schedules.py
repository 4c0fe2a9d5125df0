"""Schedules against arrays of the official forms, written with numpy."""

import numpy as np
import pytest

from trainers.blocks.schedules import cosine, linear_warmup, warmup_cosine


def dino_array(base: float, final: float, total: int, warmup: int = 0) -> np.ndarray:
    """DINO's cosine_scheduler: linspace(0, base), then half a cosine over the other steps."""
    t = np.arange(total - warmup)
    decay = final + 0.5 * (base - final) * (1 + np.cos(np.pi * t / len(t)))
    return np.concatenate((np.linspace(0, base, warmup), decay))


@pytest.mark.parametrize("warmup", [0, 1, 2, 10, 99])
def test_dino_warmup_and_cosine_equal_the_official_array(warmup: int) -> None:
    found = [warmup_cosine(step, 3e-4, 1e-6, 100, warmup, "dino") for step in range(100)]
    np.testing.assert_allclose(found, dino_array(3e-4, 1e-6, 100, warmup), rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("warmup_epochs", [0, 5, 40])
def test_mae_warmup_and_cosine_equal_fractional_epochs(warmup_epochs: int) -> None:
    steps_per_epoch, epochs = 7, 50
    expected = []
    for step in range(steps_per_epoch * epochs):
        epoch = step / steps_per_epoch
        if epoch < warmup_epochs:
            expected.append(3e-4 * epoch / warmup_epochs)
        else:
            share = (epoch - warmup_epochs) / (epochs - warmup_epochs)
            expected.append(3e-4 * 0.5 * (1 + np.cos(np.pi * share)))
    warmup = warmup_epochs * steps_per_epoch
    found = [warmup_cosine(step, 3e-4, 0.0, 350, warmup, "mae") for step in range(350)]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-18)


def test_momentum_and_weight_decay_equal_the_official_arrays() -> None:
    momentum = [cosine(step, 0.996, 1.0, 200) for step in range(200)]
    np.testing.assert_allclose(momentum, dino_array(0.996, 1.0, 200), rtol=1e-12)
    # MoCo v3's and SlotMIM's way to write the same.
    t = np.arange(200)
    np.testing.assert_allclose(momentum, 1 - 0.5 * (1 + np.cos(np.pi * t / 200)) * (1 - 0.996))
    decay = [cosine(step, 0.04, 0.4, 200) for step in range(200)]
    np.testing.assert_allclose(decay, dino_array(0.04, 0.4, 200), rtol=1e-12)


def test_a_cosine_ends_at_its_end_and_stays_there() -> None:
    assert cosine(0, 0.9, 0.1, 10) == 0.9
    assert cosine(5, 0.9, 0.1, 10) == pytest.approx(0.5)
    assert cosine(10, 0.9, 0.1, 10) == 0.1
    assert cosine(25, 0.9, 0.1, 10) == 0.1
    assert cosine(0, 0.9, 0.1, 0) == 0.9


@pytest.mark.parametrize("warmup", [0, 1, 2, 30])
def test_teacher_temperature_is_a_linspace_then_constant(warmup: int) -> None:
    expected = np.concatenate((np.linspace(0.04, 0.07, warmup), np.full(50 - warmup, 0.07)))
    found = [linear_warmup(epoch, 0.04, 0.07, warmup) for epoch in range(50)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_warmup_over_a_fraction_of_an_epoch_never_leaves_its_range() -> None:
    for epochs in (0.3, 1.5, 2.5, 7.9):
        found = [linear_warmup(epoch, 0.04, 0.07, epochs) for epoch in range(12)]
        assert found == sorted(found)
        assert min(found) >= 0.04
        assert max(found) == found[-1] == 0.07

"""Recipes and plans: steps, learning rates and what belongs to a run's identity."""

from typing import Any

import numpy as np
import pytest

from bench.errors import SpecError
from bench.values import to_text
from trainers.distillation import PrototypeHeadRecipe
from trainers.recipe import Plan, Recipe


def plan(images: int = 1000, **options: object) -> Plan:
    return Plan.of(Recipe(**({"batch_size": 64, "epochs": 20.0} | options)), images)


def test_an_incomplete_batch_is_left_out_of_every_epoch() -> None:
    assert plan(1000).steps_per_epoch == 15  # 15.6 batches
    assert plan(1000).steps == 300
    assert plan(64).steps_per_epoch == 1


def test_a_fraction_of_an_epoch_is_rounded_to_steps_and_never_to_none() -> None:
    assert plan(epochs=0.5).steps == 8
    assert plan(epochs=0.001).steps == 1


def test_epochs_and_steps_convert_into_each_other() -> None:
    laid_out = plan()
    assert [laid_out.epoch(step) for step in (0, 15, 150)] == [0, 1, 10]
    assert [laid_out.at_epoch(epoch) for epoch in (0, 1, 10, 0.5)] == [0, 15, 150, 8]
    # The integer part changes exactly at the epoch's first step.
    assert all(int(laid_out.epoch(15 * e)) == e for e in range(1000))


@pytest.mark.parametrize(
    ("rule", "factor"), [("linear", 4.0), ("sqrt", 2.0), ("none", 1.0)], ids=str
)
def test_the_learning_rate_scales_with_the_batch(rule: str, factor: float) -> None:
    assert Recipe(lr=1e-3, batch_size=1024, lr_rule=rule).peak_lr() == pytest.approx(1e-3 * factor)
    assert Recipe(lr=1e-3, batch_size=256, lr_rule=rule).peak_lr() == pytest.approx(1e-3)


def test_learning_rates_of_a_run_are_dinos_array() -> None:
    laid_out = plan(lr=5e-4, warmup_epochs=2.0, min_lr=1e-6)
    t = np.arange(270)
    peak = 5e-4 * 64 / 256
    decay = 1e-6 + 0.5 * (peak - 1e-6) * (1 + np.cos(np.pi * t / 270))
    expected = np.concatenate((np.linspace(0, peak, 30), decay))
    np.testing.assert_allclose([laid_out.lr(step) for step in range(300)], expected, rtol=1e-10)


def test_learning_rates_of_a_mae_run_start_from_zero_and_peak_after_the_warmup() -> None:
    laid_out = plan(lr=1e-4, lr_rule="none", warmup_epochs=2.0, min_lr=0.0, schedule="mae")
    assert laid_out.lr(0) == 0
    assert laid_out.lr(29) == pytest.approx(1e-4 * 29 / 30)
    assert laid_out.lr(30) == pytest.approx(1e-4)
    assert laid_out.lr(165) == pytest.approx(0.5e-4)


def test_a_warmup_longer_than_the_run_rises_to_its_end() -> None:
    laid_out = plan(lr=1e-4, lr_rule="none", epochs=1.0, warmup_epochs=10.0)
    rates = [laid_out.lr(step) for step in range(laid_out.steps)]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(1e-4)


def test_weight_decay_follows_a_cosine_only_where_it_has_an_end() -> None:
    constant, rising = plan(weight_decay=0.05), plan(weight_decay=0.04, weight_decay_end=0.4)
    assert {constant.weight_decay(step) for step in range(300)} == {0.05}
    found = [rising.weight_decay(step) for step in range(300)]
    t = np.arange(300)
    np.testing.assert_allclose(found, 0.4 - 0.5 * 0.36 * (1 + np.cos(np.pi * t / 300)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("accumulate", 0),
        ("seed", -1),
        ("log_every", 0),
        ("epochs", 0.0),
        ("lr", -1.0),
        ("beta2", 1.0),
        ("drop_path", 1.0),
        ("crop_pct", 0.0),
    ],
)
def test_numbers_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(SpecError, match=f"^{field}={to_text(value)}: expected"):
        Recipe(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("out_dim", 1),
        ("head_hidden", 0),
        ("local_size", -4),
        ("student_temp", 0.0),
        ("teacher_temp_start", 0.0),
        ("centre_momentum", 2.0),
        ("freeze_last_epochs", -1.0),
        ("global_area", (0.9, 0.1)),
        ("local_area", (0.0, 0.5)),
        ("local_area", (0.5, 1.5)),
    ],
)
def test_numbers_of_methods_that_make_no_sense_are_refused(field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"^{field}={to_text(value)}: expected"):
        PrototypeHeadRecipe(**{field: value})

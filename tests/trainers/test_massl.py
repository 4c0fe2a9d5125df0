"""MaSSL: the loss as a loop over blocks and pairs, the memory, and the published recipes."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.errors import SpecError
from tests.trainers.judging import unit64
from tests.trainers.tiny import batch_for, drift, float64, mlp64, softmax64, tiny_method
from trainers.blocks.judges import draw_anchors
from trainers.methods.massl import MaSSL
from trainers.recipe import Plan


def method(**options: Any) -> MaSSL:
    massl = tiny_method(MaSSL, **options)
    drift(massl)
    return massl


def embedded(network: torch.nn.ModuleDict, view: Tensor) -> np.ndarray:
    """Unit embeddings of one crop in its own forward pass."""
    return unit64(mlp64(network["head"], float64(network["encoder"](view).cls)))


@pytest.mark.parametrize(("local_crops", "block"), [(0, 64), (1, 16), (3, 8)])
def test_the_loss_is_a_float64_mean_over_blocks_and_pairs(local_crops: int, block: int) -> None:
    massl = method(local_crops=local_crops, block=block, teacher_temp_epochs=0.0)
    batch = batch_for(massl)
    parts = massl.losses(batch, 5)
    teacher = [embedded(massl.teacher.model, view) for view in batch.images[:2]]
    student = [embedded(massl.student, view) for view in batch.images]
    memory, terms, entropies = float64(massl.bank.rows), [], []
    blocks = draw_anchors(64, block, 64 // block, (0, 5, 0), "partition")
    for places in blocks.numpy():
        targets = [softmax64(z @ memory[places].T / 0.07) for z in teacher]
        mean = np.concatenate(targets).mean(0)
        entropies.append(-(mean * np.log(mean)).sum())
        for i, target in enumerate(targets):
            for v, z in enumerate(student):
                if v != i:
                    log = np.log(softmax64(z @ memory[places].T / 0.1))
                    terms.append(-np.mean((target * log).sum(1)))
    assert len(terms) == 64 // block * 2 * (1 + local_crops)
    assert parts["loss"].item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert parts["prototype_entropy"].item() == pytest.approx(np.mean(entropies), rel=1e-5)


def test_after_a_step_the_memory_holds_the_teacher_s_second_view() -> None:
    massl = method()
    batch, before = batch_for(massl), massl.bank.rows.clone()
    first = massl.losses(batch, 0)["loss"]
    assert torch.equal(massl.bank.rows, before)
    expected = embedded(massl.teacher.model, batch.images[1])
    massl.after_step(0)
    np.testing.assert_allclose(float64(massl.bank.rows[:4]), expected, atol=1e-5)
    assert torch.equal(massl.bank.rows[4:], before[4:])
    assert massl.bank.place.item() == 4
    assert not torch.equal(massl.losses(batch, 0)["loss"], first)


def test_after_a_step_the_teacher_has_followed_exactly_once() -> None:
    massl = method(momentum=0.9)
    massl.losses(batch_for(massl), 40)
    before = [float64(p) for p in massl.teacher.parameters()]
    massl.after_step(40)
    momentum = 1 - 0.1 * (1 + np.cos(np.pi * 40 / 160)) / 2
    pairs = zip(massl.teacher.parameters(), before, massl.student.parameters(), strict=True)
    for p, old, mine in pairs:
        expected = momentum * old + (1 - momentum) * float64(mine)
        np.testing.assert_allclose(float64(p), expected, atol=1e-6)


def test_gradients_reach_all_of_the_student_and_nothing_else() -> None:
    massl = method()
    massl.losses(batch_for(massl), 0)["loss"].backward()
    with_gradient = {n for n, p in massl.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == {f"student.{name}" for name, _ in massl.student.named_parameters()}


def test_each_step_has_its_own_blocks_which_all_parts_of_its_batch_share() -> None:
    massl = method()
    batch = batch_for(massl)
    values = [massl.losses(batch, step)["loss"].item() for step in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    whole = massl.losses(batch, 3)["loss"]
    parts = [massl.losses(part, 3)["loss"] for part in batch.split(2)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_the_memory_of_an_accumulated_step_is_that_of_the_whole_batch() -> None:
    massl = method()
    other, batch = copy.deepcopy(massl), batch_for(massl)
    massl.losses(batch, 0)
    massl.after_step(0)
    for part in batch.split(2):
        other.losses(part, 0)
    other.after_step(0)
    torch.testing.assert_close(massl.bank.rows, other.bank.rows)
    assert massl.bank.place.item() == other.bank.place.item()


def test_the_teacher_temperature_rises_by_steps() -> None:
    massl = method(teacher_temp_epochs=4.0)  # 16 steps an epoch
    batch = batch_for(massl)
    temps = np.concatenate((np.linspace(0.04, 0.07, 64), [0.07]))
    for step in (0, 1, 17, 63, 64):
        fixed = method(teacher_temp_epochs=0.0, teacher_temp=float(temps[step]))
        expected = fixed.losses(batch, step)["loss"].item()
        assert massl.losses(batch, step)["loss"].item() == pytest.approx(expected, rel=1e-6)


def test_the_canaries_tell_when_all_images_look_alike() -> None:
    massl = method()
    batch = batch_for(massl)
    parts = massl.losses(batch, 0)
    assert 0.05 < parts["feature_std"] < 1.5
    assert 0 < parts["prototype_entropy"] <= np.log(16)
    batch.images = [view[:1].expand(4, -1, -1, -1) for view in batch.images]
    assert massl.losses(batch, 0)["feature_std"] < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 24}, r"block=24 .* bank=64 .* choose block=16,"),
        ({"block": 128}, "choose block=64,"),
        ({"block": 1}, "choose block=2,"),
        ({"bank": 3, "block": 3}, "choose at least 4"),
        ({"bank": 1024, "block": 16, "epochs": 2.0}, "choose at most 128"),
    ],
)
def test_a_memory_that_cannot_work_is_refused(options: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        tiny_method(MaSSL, **options)


def test_views_and_the_evaluated_branch() -> None:
    massl = method(local_crops=3)
    specs = massl.view_specs()
    assert [spec.area for spec in specs] == [(0.32, 1.0)] * 2 + [(0.05, 0.32)] * 3
    assert all(spec.mask is None for spec in specs)
    assert massl.eval_branch == "teacher"
    assert massl.backbone() is massl.teacher.model["encoder"].vit


def test_the_published_recipes() -> None:
    small, base = MaSSL.recipe(), MaSSL.recipe(**MaSSL.presets["vit_base"])
    assert small.peak_lr() == pytest.approx(5e-4 * 4)  # batch 1024
    assert base.peak_lr() == pytest.approx(7.5e-4 * 4)
    assert (small.min_lr, base.min_lr) == (1e-6, 2e-6)
    assert (small.warmup_epochs, base.warmup_epochs) == (0.0, 10.0)
    assert (small.momentum, base.momentum) == (0.992, 0.996)
    assert (small.teacher_temp_epochs, base.teacher_temp_epochs) == (30.0, 50.0)
    assert (small.epochs, base.epochs) == (800.0, 400.0)
    assert (small.bank, small.block, small.clip, small.clip_mode) == (
        131072,
        16384,
        3.0,
        "parameter",
    )
    assert (small.weight_decay, small.weight_decay_end, small.drop_path) == (0.04, 0.4, 0.1)
    r = MaSSL.recipe(**MaSSL.presets["small"])
    assert r.bank <= 64 * r.batch_size
    assert r.block <= r.bank / 8
    Plan.of(r, 10 * r.batch_size)

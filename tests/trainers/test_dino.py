"""DINO: the loss as a loop over pairs, and the ways of teacher, centre and last layer."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.tiny import batch_for, drift, float64, softmax64, tiny_method
from trainers.blocks.photometric import PRESETS
from trainers.distillation import class_scores, teacher_temp, tokens_by_view
from trainers.methods.dino import DINO
from trainers.optim import clip_gradients, make_optimizer, set_schedule


def method(**options: object) -> DINO:
    dino = tiny_method(DINO, **options)
    drift(dino)
    dino.centre.value.copy_(0.1 * torch.randn(10))
    return dino


def view_scores(network: torch.nn.ModuleDict, view: Tensor) -> Tensor:
    """Scores of one crop in its own forward pass."""
    return network["prototypes"](network["head"](network["encoder"](view).cls))


@pytest.mark.parametrize("local_crops", [0, 1, 3])
def test_the_loss_is_a_float64_mean_over_pairs_of_different_views(local_crops: int) -> None:
    dino = method(local_crops=local_crops, teacher_temp_epochs=0.0)
    batch = batch_for(dino)
    assert len(batch.images) == 2 + local_crops
    found = dino.losses(batch, 0)["loss"]
    teacher = [float64(view_scores(dino.teacher.model, v)) for v in batch.images[:2]]
    student = [float64(view_scores(dino.student, v)) for v in batch.images]
    terms = []
    for i in range(2):
        target = softmax64((teacher[i] - float64(dino.centre.value)) / 0.07)
        for v in range(2 + local_crops):
            if v != i:
                terms.append(-np.mean((target * np.log(softmax64(student[v] / 0.1))).sum(1)))
    assert len(terms) == 2 * (1 + local_crops)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_a_packed_forward_equals_one_forward_for_each_crop() -> None:
    dino = method(local_crops=3)
    views = batch_for(dino).images
    assert {view.shape[-1] for view in views} == {16, 8}
    for network in (dino.student, dino.teacher.model):
        packed = tokens_by_view(network["encoder"], views)
        for scores, view in zip(class_scores(network, packed), views, strict=True):
            torch.testing.assert_close(scores, view_scores(network, view), atol=1e-6, rtol=1e-5)


def test_the_teacher_sees_only_the_global_crops() -> None:
    dino = method()
    batch, seen = batch_for(dino), []
    dino.teacher.model["encoder"].register_forward_hook(lambda _, x, __: seen.append(x[0].shape))
    dino.losses(batch, 0)
    assert seen == [(8, 3, 16, 16)]


def test_the_centre_is_used_as_it_was_and_moves_with_the_raw_scores_afterwards() -> None:
    dino = method()
    batch = batch_for(dino)
    before = float64(dino.centre.value)
    first = dino.losses(batch, 0)["loss"]
    assert np.array_equal(float64(dino.centre.value), before)
    raw = np.concatenate([float64(view_scores(dino.teacher.model, v)) for v in batch.images[:2]])
    dino.after_step(0)
    expected = 0.9 * before + 0.1 * raw.mean(0)
    np.testing.assert_allclose(float64(dino.centre.value), expected, atol=1e-6)
    assert not torch.equal(dino.losses(batch, 0)["loss"], first)


def test_after_a_step_the_teacher_has_followed_exactly_once() -> None:
    dino = method(momentum=0.9)
    dino.losses(batch_for(dino), 40)
    before = [float64(p) for p in dino.teacher.parameters()]
    dino.after_step(40)
    momentum = 1 - 0.1 * (1 + np.cos(np.pi * 40 / 160)) / 2
    pairs = zip(dino.teacher.parameters(), before, dino.student.parameters(), strict=True)
    for p, old, mine in pairs:
        expected = momentum * old + (1 - momentum) * float64(mine)
        np.testing.assert_allclose(float64(p), expected, atol=1e-6)


@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_gradients_reach_all_of_the_student_and_nothing_else(norm_last_layer: bool) -> None:
    dino = method(norm_last_layer=norm_last_layer)
    dino.losses(batch_for(dino), 0)["loss"].backward()
    with_gradient = {n for n, p in dino.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == {f"student.{name}" for name, _ in dino.student.named_parameters()}
    assert ("student.prototypes.gain" in with_gradient) != norm_last_layer


def test_the_last_layer_moves_only_after_its_epochs() -> None:
    dino = method(freeze_last_epochs=2.0, norm_last_layer=False)
    optimizer = make_optimizer(dino, dino.plan.recipe)
    set_schedule(optimizer, 0.01, 0.4)
    batch = batch_for(dino)
    for step in (0, 31, 32):  # 16 steps an epoch
        before = copy.deepcopy(dino.student.state_dict())
        dino.losses(batch, step)["loss"].backward()
        clip_gradients(dino, 3.0, "parameter")
        for parameter in dino.frozen(step):
            parameter.grad = None
        optimizer.step()
        dino.after_step(step)
        optimizer.zero_grad(set_to_none=True)
        moved = {n for n, p in dino.student.named_parameters() if not torch.equal(p, before[n])}
        last = {"prototypes.weight", "prototypes.gain"}
        assert moved & last == (last if step == 32 else set())
        assert len(moved - last) == len(before) - 2


def test_the_teacher_temperature_rises_by_epochs() -> None:
    dino = method(teacher_temp_epochs=4.0, teacher_temp=0.07, teacher_temp_start=0.04)
    expected = np.concatenate((np.linspace(0.04, 0.07, 4), np.full(6, 0.07))).repeat(16)
    np.testing.assert_allclose([teacher_temp(dino.plan, step) for step in range(160)], expected)


def test_views_are_two_global_crops_of_unlike_colours_and_local_ones_of_three_sevenths() -> None:
    specs = method(local_crops=3).view_specs()
    assert [spec.size_px for spec in specs] == [16, 16, 8, 8, 8]  # 6.86 in patches of 4
    assert [spec.area for spec in specs] == [(0.25, 1.0)] * 2 + [(0.05, 0.25)] * 3
    names = ["byol_a", "byol_b", "local", "local", "local"]
    assert [spec.photometric for spec in specs] == [PRESETS[name] for name in names]
    assert all(spec.mask is None and spec.flip == 0.5 for spec in specs)


def test_at_224_px_local_crops_have_the_paper_s_96() -> None:
    dino = tiny_method(DINO, arch="vit_mini_patch16_224")
    assert {spec.size_px for spec in dino.view_specs()} == {224, 96}
    dino = tiny_method(DINO, arch="vit_mini_patch4_16", local_size=12)
    assert {spec.size_px for spec in dino.view_specs()} == {16, 12}


def test_the_teacher_is_evaluated() -> None:
    dino = method()
    assert dino.eval_branch == "teacher"
    assert dino.backbone() is dino.teacher.model["encoder"].vit


def test_presets_for_the_tables_of_other_papers() -> None:
    two_crop = DINO.recipe(**DINO.presets["two_crop"])  # SOVE, Table 7
    assert (two_crop.arch, two_crop.epochs) == ("vit_small_patch16_224", 300.0)
    assert (two_crop.local_crops, two_crop.global_area) == (0, (0.14, 1.0))
    scenes = DINO.recipe(**DINO.presets["coco_plus"])  # SlotMIM, Table 1
    assert (scenes.arch, scenes.epochs) == ("vit_base_patch16_224", 800.0)
    assert scenes.teacher_temp < DINO.recipe().teacher_temp
    assert (scenes.lr, scenes.clip, scenes.norm_last_layer) == (7.5e-4, 0.3, True)
    assert DINO.recipe(**DINO.presets["cifar"]).arch == "vit_small_patch4_32"  # ASL, Table 6


def test_the_paper_s_recipes() -> None:
    small, base = DINO.recipe(), DINO.recipe(**DINO.presets["vit_base"])
    assert small.peak_lr() == pytest.approx(5e-4 * 4)  # batch 1024
    assert base.peak_lr() == pytest.approx(7.5e-4 * 4)
    assert (small.weight_decay, small.weight_decay_end, small.warmup_epochs) == (0.04, 0.4, 10.0)
    assert (small.min_lr, base.min_lr) == (1e-5, 2e-6)
    assert (small.clip, base.clip, small.clip_mode) == (0.0, 0.3, "parameter")
    assert (small.norm_last_layer, base.norm_last_layer) == (False, True)
    assert (small.teacher_temp_epochs, base.teacher_temp_epochs) == (30.0, 50.0)
    assert (small.freeze_last_epochs, base.freeze_last_epochs) == (1.0, 3.0)
    assert (small.out_dim, small.local_crops, small.momentum) == (65536, 10, 0.996)

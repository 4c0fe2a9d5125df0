"""iBOT: both losses as loops over views and patches, its identity with DINO, and its switches."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import dist
from bench.errors import SpecError
from bench.tokens import Prototypes
from tests.trainers.processes import in_processes
from tests.trainers.tiny import batch_for, drift, float64, mlp64, softmax64, tiny_method
from trainers.blocks.masks import BlockwiseMask, RandomMask
from trainers.blocks.views import Batch
from trainers.distillation import teacher_temp
from trainers.method import Method
from trainers.methods.dino import DINO
from trainers.methods.ibot import iBOT
from trainers.optim import clip_gradients, make_optimizer, set_schedule

PARTS = ("cls", "patch")


def method(**options: Any) -> iBOT:
    """Temperatures differ between class tokens and patches, and so do both centres."""
    ibot = tiny_method(iBOT, **({"teacher_temp_epochs": 0.0, "patch_temp": 0.09} | options))
    drift(ibot)
    ibot.centre.value.copy_(0.1 * torch.randn(10))
    ibot.patch_centre.value.copy_(0.1 * torch.randn(10))
    return ibot


def masked_batch(ibot: iBOT, count: int = 4) -> Batch:
    """Masks by hand: in each view an image without, one with a single and one with all patches."""
    batch = batch_for(ibot, count)
    rng = np.random.RandomState(0)
    for view in range(2):
        mask = torch.from_numpy(rng.random_sample((count, 16)) < 0.4)
        mask[view], mask[view + 1], mask[view + 2] = False, False, True
        mask[view + 1, 5] = True
        batch.masks[view] = mask
    return batch


def losses(ibot: Method, batch: Batch, step: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(7)  # for the drop path
    return ibot.losses(batch, step)


def gradients(ibot: Method, batch: Batch, step: int = 0) -> dict[str, Tensor]:
    ibot.zero_grad()
    losses(ibot, batch, step)["loss"].backward()
    return {n: p.grad.clone() for n, p in ibot.named_parameters() if p.grad is not None}


def scores64(network: nn.ModuleDict, tokens: Tensor) -> np.ndarray:
    """Cosine with each prototype times its gain, in float64."""
    z, prototypes = mlp64(network["head"], float64(tokens)), network["prototypes"]
    weight = float64(prototypes.weight)
    cosine = z @ weight.T / np.linalg.norm(z, axis=-1)[..., None] / np.linalg.norm(weight, axis=1)
    return cosine if prototypes.gain is None else cosine * float64(prototypes.gain)[:, 0]


def cross_entropy64(target: np.ndarray, student: np.ndarray) -> float:
    return float(-(target * np.log(softmax64(student / 0.1))).sum())


@pytest.mark.parametrize("norm_last_layer", [True, False])
@pytest.mark.parametrize("local_crops", [0, 2])
def test_the_losses_are_float64_means_over_pairs_of_views_and_over_masked_patches(
    local_crops: int, norm_last_layer: bool
) -> None:
    ibot = method(local_crops=local_crops, norm_last_layer=norm_last_layer)
    batch = masked_batch(ibot)
    found = losses(ibot, batch)
    encoder, teacher = ibot.student["encoder"], ibot.teacher.model
    seen = [teacher["encoder"](image) for image in batch.images[:2]]
    masks = [*batch.masks[:2], *[None] * local_crops]
    looked = [encoder(image, mask) for image, mask in zip(batch.images, masks, strict=True)]

    cls = []
    for i in range(2):
        raw = scores64(teacher, seen[i].cls) - float64(ibot.centre.value)
        for v in range(2 + local_crops):
            if v != i:
                pairs = zip(
                    softmax64(raw / 0.07), scores64(ibot.student, looked[v].cls), strict=True
                )
                cls.append(np.mean([cross_entropy64(t, s) for t, s in pairs]))
    assert len(cls) == 2 * (1 + local_crops)

    patch = []
    for v in range(2):
        raw = scores64(teacher, seen[v].patches) - float64(ibot.patch_centre.value)
        target, student = softmax64(raw / 0.09), scores64(ibot.student, looked[v].patches)
        by_image = []
        for b in range(4):
            places = [n for n in range(16) if batch.masks[v][b, n]]
            error = sum(cross_entropy64(target[b, n], student[b, n]) for n in places)
            by_image.append(error / max(len(places), 1))
        assert by_image[v] == 0  # no patch of this image is masked
        patch.append(np.mean(by_image))

    assert found["cls"].item() == pytest.approx(np.mean(cls), rel=1e-5)
    assert found["patch"].item() == pytest.approx(np.mean(patch), rel=1e-5)
    assert found["loss"].item() == pytest.approx(np.mean(cls) + np.mean(patch), rel=1e-5)


@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_each_centre_moves_with_the_raw_scores_of_its_own_tokens(norm_last_layer: bool) -> None:
    ibot = method(norm_last_layer=norm_last_layer)
    batch = masked_batch(ibot)
    before = float64(ibot.centre.value), float64(ibot.patch_centre.value)
    losses(ibot, batch)
    teacher = ibot.teacher.model
    seen = [teacher["encoder"](image) for image in batch.images[:2]]
    raw = (
        np.concatenate([scores64(teacher, view.cls) for view in seen]).mean(0),
        # All patches count, masked or not: the mean of each image, then of all.
        np.concatenate([scores64(teacher, view.patches).mean(1) for view in seen]).mean(0),
    )
    ibot.after_step(0)
    for centre, old, mean in zip((ibot.centre, ibot.patch_centre), before, raw, strict=True):
        np.testing.assert_allclose(float64(centre.value), 0.9 * old + 0.1 * mean, atol=1e-6)


def train(ibot: Method, batches: list[Batch]) -> list[float]:
    """Losses of optimiser steps in the order of ``trainers.loop``."""
    recipe, found = ibot.plan.recipe, []
    optimizer = make_optimizer(ibot, recipe)
    for step, batch in enumerate(batches):
        set_schedule(optimizer, 0.01, ibot.plan.weight_decay(step))
        loss = losses(ibot, batch, step)["loss"]
        loss.backward()
        clip_gradients(ibot, recipe.clip, recipe.clip_mode)
        for parameter in ibot.frozen(step):
            parameter.grad = None
        optimizer.step()
        ibot.after_step(step)
        optimizer.zero_grad(set_to_none=True)
        found.append(loss.item())
    return found


@pytest.mark.parametrize("norm_last_layer", [True, False])
@pytest.mark.parametrize("masks", ["none", "empty"])
def test_without_masks_and_patch_loss_it_is_dino_to_the_bit(
    masks: str, norm_last_layer: bool
) -> None:
    shared = {"drop_path": 0.3, "clip": 0.3, "norm_last_layer": norm_last_layer}
    shared |= {"freeze_last_epochs": 2 / 16, "local_crops": 2}
    dino = tiny_method(DINO, **shared)
    ibot = tiny_method(iBOT, **shared, patch_weight=0.0, mask="none")
    assert_same_weights(ibot, dino)  # one seed starts both alike
    drift(dino)
    ibot.student.load_state_dict(dino.student.state_dict(), strict=False)
    batches = [batch_for(dino, seed=seed) for seed in range(4)]
    own = [batch_for(ibot, seed=seed) for seed in range(4)]
    for theirs, ours in zip(batches, own, strict=True):
        for a, b in zip(theirs.images, ours.images, strict=True):
            assert torch.equal(a, b)
        if masks == "empty":
            ours.masks[:2] = [torch.zeros(4, 16, dtype=torch.bool)] * 2
    expected, found = gradients(dino, batches[0]), gradients(ibot, own[0])
    assert not found.pop("student.encoder.mask_token").any()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in expected)
    for trained in (dino, ibot):
        trained.zero_grad()
        trained.centre._seen.clear()
    assert train(ibot, own) == train(dino, batches)
    assert_same_weights(ibot, dino)


def assert_same_weights(ibot: iBOT, dino: DINO) -> None:
    found, expected = ibot.state_dict(), dino.state_dict()
    extra = {"patch_centre.value", "student.encoder.mask_token", "teacher.model.encoder.mask_token"}
    assert found.keys() - expected.keys() == extra
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("off", PARTS)
def test_a_loss_that_is_switched_off_leaves_the_other_to_the_bit(off: str) -> None:
    options = {"drop_path": 0.3, "local_crops": 0}
    full, less = method(**options), method(**options, **{f"{off}_weight": 0.0})
    batch = masked_batch(full)
    expected, found = losses(full, batch), losses(less, batch)
    assert found.keys() == expected.keys() - {off}
    (rest,) = set(PARTS) - {off}
    assert torch.equal(found[rest], expected[rest])
    assert torch.equal(found["loss"], expected[rest])
    assert gradients(less, batch).keys() == gradients(full, batch).keys()
    less.after_step(0)


def test_the_losses_are_weighted() -> None:
    found = losses(ibot := method(cls_weight=0.5, patch_weight=2.0), masked_batch(ibot))
    torch.testing.assert_close(found["loss"], 0.5 * found["cls"] + 2 * found["patch"])


def test_it_starts_as_the_official_code_does() -> None:
    student = tiny_method(iBOT, head_dim=64, out_dim=400).student
    weight, bound = student["prototypes"].weight, 64**-0.5  # as nn.Linear starts
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not student["encoder"].mask_token.any()
    assert student["encoder"].vit.cls_token.std().item() == pytest.approx(0.02, rel=0.5)


def test_no_masked_patch_in_a_batch_gives_patch_loss_0_and_finite_gradients() -> None:
    for options in ({}, {"cls_weight": 0.0, "local_crops": 0}):
        ibot = method(**options)
        batch = masked_batch(ibot)
        batch.masks[:2] = [torch.zeros(4, 16, dtype=torch.bool)] * 2
        found = losses(ibot, batch)
        assert found["patch"] == 0
        assert all(value.isfinite() for value in found.values())
        grads = gradients(ibot, batch)
        assert grads.keys() == {f"student.{n}" for n, _ in ibot.student.named_parameters()}
        assert all(gradient.isfinite().all() for gradient in grads.values())
        ibot.after_step(0)
        assert ibot.patch_centre.value.isfinite().all()


def test_wholly_masked_images_have_finite_losses_and_gradients() -> None:
    ibot = method()
    batch = masked_batch(ibot)
    batch.masks[:2] = [torch.ones(4, 16, dtype=torch.bool)] * 2
    assert all(value.isfinite() for value in losses(ibot, batch).values())
    assert all(gradient.isfinite().all() for gradient in gradients(ibot, batch).values())


def test_only_the_student_s_global_views_are_masked() -> None:
    ibot, seen = method(), []
    batch = masked_batch(ibot)
    for name, network in (("student", ibot.student), ("teacher", ibot.teacher.model)):
        network["encoder"].register_forward_pre_hook(
            lambda _, args, name=name: seen.append((name, args[0].shape[-1], args[1]))
        )
    losses(ibot, batch)
    ((*teacher, none), (*student, mask), (*local, no_mask)) = seen
    assert (teacher, student, local) == (["teacher", 16], ["student", 16], ["student", 8])
    assert none is None
    assert no_mask is None
    assert torch.equal(mask, torch.cat(batch.masks[:2]))


def test_unmasked_pixels_decide_and_masked_ones_do_not_reach_the_student() -> None:
    ibot = method(local_crops=0)
    batch = masked_batch(ibot)
    encoder = ibot.student["encoder"]
    mask = batch.masks[0]
    cells = mask.reshape(4, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    changed = torch.where(cells, torch.randn_like(batch.images[0]), batch.images[0])
    assert torch.equal(encoder(batch.images[0], mask).patches, encoder(changed, mask).patches)
    assert not torch.equal(encoder(batch.images[0]).patches, encoder(changed).patches)


def test_gradients_reach_all_of_the_student_and_nothing_else() -> None:
    ibot = method(norm_last_layer=False)
    with_gradient = {n for n, g in gradients(ibot, masked_batch(ibot)).items() if g.any()}
    assert with_gradient == {f"student.{name}" for name, _ in ibot.student.named_parameters()}


def test_masks_and_the_warm_up_of_patch_temperatures_wait_for_their_epoch() -> None:
    late = method(mim_start_epoch=2.0, teacher_temp_epochs=3.0, patch_temp_start=0.05)
    batch, empty = masked_batch(late), masked_batch(late)
    empty.masks[:2] = [torch.zeros(4, 16, dtype=torch.bool)] * 2
    before, clean = losses(late, batch, 31), losses(late, empty, 31)  # 16 steps an epoch
    assert before["patch"] == 0
    assert all(torch.equal(before[name], clean[name]) for name in clean)
    assert losses(late, batch, 32)["patch"] > 0
    assert torch.equal(batch.masks[0], masked_batch(late).masks[0])
    temps = np.concatenate(([0.05] * 2, np.linspace(0.05, 0.09, 3), [0.09] * 5)).repeat(16)
    np.testing.assert_allclose([late.patch_temp(step) for step in range(160)], temps)
    temps = np.concatenate((np.linspace(0.04, 0.07, 3), [0.07] * 7)).repeat(16)
    np.testing.assert_allclose([teacher_temp(late.plan, step) for step in range(160)], temps)


def test_micro_batches_add_up_to_the_batch() -> None:
    whole, parts = method(), method()
    batch = masked_batch(whole)
    expected = gradients(whole, batch)
    for half in batch.split(2):
        (losses(parts, half)["loss"] / 2).backward()
    for name, parameter in parts.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-4)
    whole.after_step(0)
    parts.after_step(0)
    torch.testing.assert_close(parts.patch_centre.value, whole.patch_centre.value)
    torch.testing.assert_close(parts.centre.value, whole.centre.value)


def two_steps(rows: slice) -> dict[str, Any]:
    """Two plain gradient steps on a share of the batch, gradients averaged over processes."""
    ibot, found = method(local_crops=1), {"losses": [], "norms": []}
    for step in range(2):
        batch = masked_batch(ibot)
        # Of the first view only the last two images are masked: one process has none there.
        batch.masks[0][:2], batch.masks[1][:2] = False, False
        batch = Batch(
            [image[rows] for image in batch.images],
            batch.boxes[rows],
            batch.flips[rows],
            [None if m is None else m[rows] for m in batch.masks],
            batch.index[rows],
        )
        parts = losses(ibot, batch, step)
        parts["loss"].backward()
        with torch.no_grad():
            for parameter in ibot.parameters():
                if parameter.grad is not None:
                    gradient = dist.all_reduce_mean(parameter.grad)
                    found["norms"].append(gradient.norm())
                    parameter -= 0.05 * gradient
                    parameter.grad = None
        ibot.after_step(step)
        found["losses"].append(torch.stack([parts[name].detach() for name in ("cls", "patch")]))
    found["centres"] = torch.stack((ibot.centre.value, ibot.patch_centre.value))
    found["teacher"] = torch.cat([p.flatten() for p in ibot.teacher.parameters()])
    return {name: value if name[0] in "ct" else torch.stack(value) for name, value in found.items()}


def share(rank: int) -> dict[str, Any]:
    return two_steps(slice(2 * rank, 2 * rank + 2))


@pytest.mark.xdist_group("gloo")
def test_two_processes_equal_one_in_losses_gradients_centres_and_teacher(tmp_path: Path) -> None:
    one, two = two_steps(slice(0, 4)), in_processes(share, tmp_path)
    assert not two[0]["losses"][:, 1].any()
    assert two[1]["losses"][:, 1].all()
    for name in ("norms", "centres", "teacher"):
        assert torch.equal(two[0][name], two[1][name])
        torch.testing.assert_close(two[0][name], one[name], atol=1e-6, rtol=1e-4)
    mean = torch.stack([out["losses"] for out in two]).mean(0)
    torch.testing.assert_close(mean, one["losses"], atol=1e-6, rtol=1e-5)


def test_the_prototypes_move_only_after_their_epochs() -> None:
    ibot = method(freeze_last_epochs=1 / 16, norm_last_layer=False)
    last = ("prototypes.weight", "prototypes.gain")
    start = copy.deepcopy(ibot.student.state_dict())
    batch = masked_batch(ibot)
    train(ibot, [batch])
    assert all(torch.equal(ibot.student.state_dict()[name], start[name]) for name in last)
    train(ibot, [batch, batch])
    assert not any(torch.equal(ibot.student.state_dict()[name], start[name]) for name in last)


def test_without_a_class_loss_collapse_is_watched_in_the_patches() -> None:
    ibot = method(cls_weight=0.0, local_crops=0)
    batch = masked_batch(ibot)
    healthy = losses(ibot, batch)
    with torch.no_grad():  # all class tokens are alike from here on
        ibot.teacher.model["encoder"].register_forward_hook(
            lambda _, __, out: setattr(out, "cls", torch.ones_like(out.cls))
        )
    blind = losses(ibot, batch)
    for canary in ("feature_std", "prototype_entropy"):
        assert torch.equal(blind[canary], healthy[canary])


def test_masks_are_drawn_for_each_global_view_by_the_named_rule() -> None:
    ibot = method()
    masks = [spec.mask for spec in ibot.view_specs()]
    assert masks == [BlockwiseMask(4, 4, (0.0, 0.3), (0.0, 0.2))] * 2 + [None] * 2
    drawn = [batch_for(ibot, seed=seed).masks for seed in range(100)]
    assert any(not torch.equal(*views[:2]) for views in drawn)
    unmasked = np.mean([[not row.any() for row in views[0]] for views in drawn])
    assert abs(unmasked - 0.5) < 0.1
    random = method(mask="random", mask_ratios=(0.7,), mask_spreads=(0.0,))
    assert random.view_specs()[0].mask == RandomMask(16, (0.7,), (0.0,))
    assert batch_for(random).masks[0].sum(1).tolist() == [11] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cls_weight": 0.0, "patch_weight": 0.0, "local_crops": 0}, "leave at least one loss on"),
        ({"mask": "none"}, "no patch masked"),
        ({"mask_ratios": (0.0,), "mask_spreads": (0.0,)}, "no patch masked"),
        ({"cls_weight": 0.0}, "local_crops=2 with cls_weight=0"),
        ({"mask_ratios": (0.3,)}, "mask_ratios has 1 values, mask_spreads 2"),
        ({"mask_ratios": (), "mask_spreads": ()}, "at least one of both"),
        ({"mask_ratios": (0.0, 0.1)}, "0.1 .* 0.2 leaves .* spread of at most 0.1"),
        ({"mask_ratios": (0.0, 1.5)}, "1.5 .* leaves"),
        ({"mask_spreads": (0.0, -0.1)}, "leaves"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        method(**options)


def test_the_card_names_what_makes_patch_tokens_of_a_fixed_gain() -> None:
    ibot = method(norm_last_layer=True)
    declared = ibot.extras()["proto"]
    tokenizer = Prototypes.from_tensors(ibot.state_dict(), **declared)
    patches = ibot.teacher.model["encoder"](batch_for(ibot).images[0]).patches
    scores = scores64(ibot.teacher.model, patches)
    found = float64(tokenizer(patches.reshape(4, 4, 4, -1))).reshape(4, 16, 10)
    np.testing.assert_allclose(found, softmax64(scores / 0.09), atol=1e-5)
    assert "proto" not in method(norm_last_layer=False).extras()
    without = method(patch_weight=0.0, mask="none", norm_last_layer=True)
    assert "proto" not in without.extras()


def test_the_paper_s_recipes() -> None:
    small, base, large, two_crop, coco = (
        iBOT.recipe(**iBOT.presets.get(name, {}))
        for name in ("", "vit_base", "vit_large", "two_crop", "coco_plus")
    )
    assert [r.epochs for r in (small, base, large, two_crop, coco)] == [800, 400, 250, 300, 800]
    assert small.peak_lr() == pytest.approx(5e-4 * 4)  # batch 1024
    assert base.peak_lr() == large.peak_lr() == pytest.approx(7.5e-4 * 4)
    assert (small.min_lr, base.min_lr) == (1e-6, 2e-6)
    assert (small.weight_decay, small.weight_decay_end, small.warmup_epochs) == (0.04, 0.4, 10.0)
    assert (small.clip, base.clip, small.clip_mode) == (3.0, 0.3, "parameter")
    assert (small.norm_last_layer, base.norm_last_layer) == (False, True)
    assert (small.freeze_last_epochs, base.freeze_last_epochs) == (1.0, 3.0)
    assert (small.teacher_temp_epochs, base.teacher_temp_epochs) == (30.0, 50.0)
    assert (small.teacher_temp, small.teacher_temp_start) == (0.07, 0.04)
    assert (small.patch_temp, small.patch_temp_start) == (0.07, 0.04)
    assert (coco.teacher_temp, coco.patch_temp) == (0.04, 0.04)
    assert (small.global_area, small.local_area) == ((0.25, 1.0), (0.05, 0.25))
    assert (base.global_area, base.local_area) == ((0.32, 1.0), (0.05, 0.32))
    assert (two_crop.global_area, two_crop.local_crops) == ((0.14, 1.0), 0)
    assert (small.mask_ratios, small.mask_spreads) == ((0.0, 0.3), (0.0, 0.2))
    assert (small.out_dim, small.local_crops, small.momentum) == (8192, 10, 0.996)
    assert {r.arch for r in (base, coco)} == {"vit_base_patch16_224"}

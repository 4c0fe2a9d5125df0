"""SOVE: both losses as loops with the label matrix in full, MaSSL to the bit, and the banks."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.errors import SpecError
from bench.tokens import Prototypes
from tests.trainers.judging import concepts64, unit64, votes64
from tests.trainers.processes import in_processes
from tests.trainers.tiny import batch_for, drift, float64, mlp64, tiny_method
from trainers.blocks.judges import draw_anchors, draw_patches
from trainers.blocks.masks import BlockwiseMask, RandomMask
from trainers.blocks.views import Batch
from trainers.distillation import teacher_temp_by_step
from trainers.flops import count_flops
from trainers.methods.massl import MaSSL
from trainers.methods.sove import SOVE
from trainers.optim import clip_gradients, make_optimizer, set_schedule

# Settings with which SOVE is MaSSL: concepts of one member, blocks of one permutation.
AS_MASSL: dict[str, Any] = {
    "patch_weight": 0.0,
    "judges": 1,
    "labels": "one_hot",
    "anchors_from": "partition",
    "bank": 64,
    "anchors": 16,
    "tasks": 4,
}


def method(**options: Any) -> SOVE:
    sove = tiny_method(SOVE, **options)
    drift(sove)
    return sove


def masked_batch(sove: SOVE, masks: list[list[int]], seed: int = 0) -> Batch:
    """A batch in which each image has as many masked patches as `masks` says, by global view."""
    batch, rng = batch_for(sove, seed=seed), np.random.default_rng(seed)
    for v, counts in enumerate(masks):
        rows = [rng.permutation(np.arange(16) < count) for count in counts]
        batch.masks[v] = torch.from_numpy(np.stack(rows))
    return batch


class Reference:
    """Both losses of a step in float64, view by view, image by image, patch by patch."""

    def __init__(self, sove: SOVE, batch: Batch, step: int) -> None:
        self.r, self.sove, self.batch, self.step = sove.r, sove, batch, step

    def tokens(self, network: torch.nn.ModuleDict, view: int, masked: bool) -> tuple[Any, Any]:
        mask = self.batch.masks[view] if masked and view < 2 else None
        out = network["encoder"](self.batch.images[view], mask)
        whole = out.cls if self.r.token == "cls" else out.patches.mean(1)
        embed = [unit64(mlp64(network["head"], float64(x))) for x in (whole, out.patches)]
        return embed[0], embed[1]

    def concepts(self, patches: bool) -> list[tuple[np.ndarray, np.ndarray]]:
        r, p = self.r, "patch_" if patches else ""
        bank = float64((self.sove.patch_bank if patches else self.sove.bank).rows)
        anchors, tasks = getattr(r, p + "anchors"), getattr(r, p + "tasks")
        words = (r.seed, self.step, int(patches))
        drawn = draw_anchors(len(bank), anchors, tasks, words, r.anchors_from)
        judges = getattr(r, p + "judges")
        return [
            concepts64(bank, task.tolist(), judges, r.labels, r.smoothing, r.judges_from)
            for task in drawn
        ]

    def losses(self, temp: float) -> tuple[float, float]:
        views = range(len(self.batch.images))
        student = [self.tokens(self.sove.student, v, masked=True) for v in views]
        teacher = [self.tokens(self.sove.teacher.model, v, masked=False) for v in range(2)]
        cls, patch = [], []
        for d, y in self.concepts(patches=False):
            for i in range(2):
                for v in views:
                    if v != i:
                        target = votes64(teacher[i][0], d, y, temp)
                        log = np.log(votes64(student[v][0], d, y, 0.1))
                        cls += [-(target[b] * log[b]).sum() for b in range(len(log))]
        for d, y in self.concepts(patches=True):
            for v in range(2):
                for b, mask in enumerate(self.batch.masks[v].numpy()):
                    target = votes64(teacher[v][1][b], d, y, temp)
                    log = np.log(votes64(student[v][1][b], d, y, 0.1))
                    errors = [-(target[n] * log[n]).sum() for n in np.flatnonzero(mask)]
                    patch.append(np.mean(errors) if errors else 0.0)
        return float(np.mean(cls)), float(np.mean(patch))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"labels": "one_hot", "tasks": 1, "local_crops": 0},
        {"judges_from": "all", "judges": 9, "patch_judges": 3, "patch_tasks": 3},
        {"token": "avg", "judges": 1, "smoothing": 0.3, "patch_weight": 0.5, "cls_weight": 2.0},
        {"anchors_from": "partition", "tasks": 3, "local_crops": 1},
    ],
)
def test_the_losses_are_float64_loops_with_the_label_matrix_in_full(options: dict) -> None:
    sove = method(teacher_temp_epochs=0.0, **options)
    batch = masked_batch(sove, [[5, 0, 1, 16], [0, 3, 0, 9]])
    cls, patch = Reference(sove, batch, step=7).losses(0.07)
    found = sove.losses(batch, 7)
    assert found["cls"].item() == pytest.approx(cls, rel=1e-5)
    assert found["patch"].item() == pytest.approx(patch, rel=1e-5)
    r = sove.r
    total = r.cls_weight * cls + r.patch_weight * patch
    assert found["loss"].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("local_crops", [0, 2])
def test_without_judges_and_patches_it_is_massl_to_the_bit(local_crops: int) -> None:
    shared = {"local_crops": local_crops, "momentum": 0.9}
    massl = tiny_method(MaSSL, block=16, warmup_epochs=10.0, **shared)
    sove = tiny_method(SOVE, **AS_MASSL, **shared)
    runs = []
    for model in (massl, sove):
        drift(model)
        optimizer = make_optimizer(model, model.plan.recipe)
        set_schedule(optimizer, 0.01, 0.4)
        values = []
        for step in range(18):  # the memory wraps around after 16
            found = model.losses(batch_for(model, seed=step), step)
            found["loss"].backward()
            values += [found["loss"].item(), found["prototype_entropy"].item()]
            clip_gradients(model, 3.0, "parameter")
            optimizer.step()
            model.after_step(step)
            optimizer.zero_grad(set_to_none=True)
        runs.append((values, model.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert runs[0][1].keys() == runs[1][1].keys()
    for key, value in runs[0][1].items():
        assert torch.equal(value, runs[1][1][key]), key


def test_after_a_step_the_banks_hold_the_teacher_s_second_view_and_one_of_its_patches() -> None:
    sove = method()
    batch = masked_batch(sove, [[4, 4, 4, 4], [4, 4, 4, 4]])
    batch.index = torch.tensor([31, 4, 15, 9])
    before = {k: v.clone() for k, v in sove.state_dict().items() if "bank" in k}
    assert len(before) == 4
    sove.losses(batch, 3)
    assert all(torch.equal(v, before[k]) for k, v in sove.state_dict().items() if k in before)
    cls, patches = Reference(sove, batch, 3).tokens(sove.teacher.model, 1, masked=False)
    sove.after_step(3)
    np.testing.assert_allclose(float64(sove.bank.rows[:4]), cls, atol=1e-5)
    places = draw_patches(16, batch.index, (0, 3))
    picked = patches[np.arange(4), places.numpy()]
    np.testing.assert_allclose(float64(sove.patch_bank.rows[:4]), picked, atol=1e-5)
    assert sove.bank.place.item() == sove.patch_bank.place.item() == 4
    for bank, key in ((sove.bank, "bank.rows"), (sove.patch_bank, "patch_bank.rows")):
        assert torch.equal(bank.rows[4:], before[key][4:])


def test_a_batch_without_masked_patches_has_a_patch_loss_of_0() -> None:
    sove = method()
    batch = masked_batch(sove, [[0] * 4, [0] * 4])
    found = sove.losses(batch, 0)
    assert found["patch"].item() == 0
    found["loss"].backward()
    for name, parameter in sove.student.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    only = method(cls_weight=0.0, local_crops=0)
    found = only.losses(masked_batch(only, [[0] * 4, [0] * 4]), 0)
    assert all(torch.isfinite(value) for value in found.values())
    found["loss"].backward()
    assert not any(p.grad.any() for p in only.student.parameters())


def test_masks_begin_with_their_epoch() -> None:
    sove = method(mim_start_epoch=2.0)  # 16 steps an epoch
    batch = masked_batch(sove, [[8] * 4, [8] * 4])
    clear = masked_batch(sove, [[0] * 4, [0] * 4])
    assert torch.equal(sove.losses(batch, 31)["loss"], sove.losses(clear, 31)["loss"])
    assert sove.losses(batch, 32)["patch"] > 0
    assert not torch.equal(sove.losses(batch, 32)["cls"], sove.losses(clear, 32)["cls"])


def test_local_crops_and_the_teacher_see_no_mask() -> None:
    sove = method()
    batch, seen = masked_batch(sove, [[8] * 4, [8] * 4]), []

    def note(name: str) -> Any:
        return lambda _, inputs: seen.append((name, inputs[0].shape[-1], inputs[1] is not None))

    sove.student["encoder"].register_forward_pre_hook(note("student"))
    sove.teacher.model["encoder"].register_forward_pre_hook(note("teacher"))
    sove.losses(batch, 0)
    assert seen == [("teacher", 16, False), ("student", 16, True), ("student", 8, False)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"token": "avg"},
        {"patch_weight": 0.0},
        {"cls_weight": 0.0, "local_crops": 0},
        {"labels": "one_hot", "patch_judges": 3},
    ],
)
def test_gradients_reach_all_of_the_student_and_nothing_else(options: dict) -> None:
    sove = method(**options)
    batch = batch_for(sove)
    if sove.r.patch_weight:
        batch = masked_batch(sove, [[4, 0, 8, 2], [1, 5, 0, 7]])
    sove.losses(batch, 0)["loss"].backward()
    with_gradient = {n for n, p in sove.named_parameters() if p.grad is not None and p.grad.any()}
    assert with_gradient == {f"student.{name}" for name, _ in sove.student.named_parameters()}
    assert ("student.encoder.mask_token" in with_gradient) == (sove.r.patch_weight > 0)


def test_a_loss_that_is_off_has_no_bank_and_no_masks() -> None:
    cls, patch = method(patch_weight=0.0), method(cls_weight=0.0, local_crops=0)
    assert {k for k in cls.state_dict() if "bank" in k} == {"bank.rows", "bank.place"}
    assert {k for k in patch.state_dict() if "bank" in k} == {"patch_bank.rows", "patch_bank.place"}
    assert all(spec.mask is None for spec in cls.view_specs())
    assert set(cls.losses(batch_for(cls), 0)) == {
        "loss",
        "cls",
        "prototype_entropy",
        "feature_std",
    }


def test_the_filter_of_the_code_halves_the_anchors() -> None:
    sove = method(anchor_filter=True)
    (one, two) = sove.concepts(3, patches=False)
    assert one.members.shape == two.members.shape == (4, 5, 12)
    drawn = draw_anchors(64, 10, 2, (0, 3, 0))
    assert torch.equal(one.members[0], sove.bank.rows[drawn[0, :5]])


def test_both_sides_of_a_task_share_concepts_and_tasks_do_not() -> None:
    sove = method(tasks=3)
    tasks = [concepts.members for concepts in sove.concepts(3, patches=False)]
    assert len(tasks) == 3
    assert not torch.equal(tasks[0], tasks[1])
    again = [concepts.members for concepts in sove.concepts(3, patches=False)]
    assert all(map(torch.equal, tasks, again))
    assert not torch.equal(tasks[0], next(sove.concepts(4, patches=False)).members)


def test_an_accumulated_step_equals_that_of_the_whole_batch() -> None:
    sove = method()
    other, batch = copy.deepcopy(sove), masked_batch(sove, [[5, 0, 1, 16], [2, 3, 0, 9]])
    whole = sove.losses(batch, 2)
    whole["loss"].backward()
    parts = [other.losses(part, 2) for part in batch.split(2)]
    torch.stack([part["loss"] for part in parts]).mean().backward()
    for name in ("loss", "cls", "patch"):
        torch.testing.assert_close(torch.stack([p[name] for p in parts]).mean(), whole[name])
    pairs = zip(sove.student.parameters(), other.student.parameters(), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-6)
    for model in (sove, other):
        model.after_step(2)
    torch.testing.assert_close(sove.bank.rows, other.bank.rows)
    torch.testing.assert_close(sove.patch_bank.rows, other.patch_bank.rows)


def test_the_teacher_temperature_rises_by_steps() -> None:
    sove = method(teacher_temp_epochs=4.0)  # 16 steps an epoch
    expected = np.concatenate((np.linspace(0.04, 0.07, 64), np.full(96, 0.07)))
    np.testing.assert_allclose(
        [teacher_temp_by_step(sove.plan, step) for step in range(160)], expected
    )


def test_the_canaries_tell_use_from_collapse() -> None:
    for options in ({}, {"cls_weight": 0.0, "local_crops": 0}):
        sove = method(**options)
        batch = masked_batch(sove, [[4] * 4, [4] * 4])
        parts = sove.losses(batch, 0)
        assert 0.05 < parts["feature_std"] < 1.5
        count = sove.r.anchors if sove.r.cls_weight else sove.r.patch_anchors
        assert 0.1 < parts["prototype_entropy"] <= np.log(count) + 1e-6
        batch.images = [view[:1].expand(4, -1, -1, -1) for view in batch.images]
        assert sove.losses(batch, 0)["feature_std"] < 1e-3


def test_masks_of_figure_b1() -> None:
    specs = method().view_specs()
    assert [type(spec.mask) for spec in specs] == [BlockwiseMask] * 2 + [type(None)] * 2
    assert (specs[0].mask.ratios, specs[0].mask.spreads) == ((0.0, 0.3), (0.0, 0.2))
    masks = [specs[0].mask(np.random.default_rng(seed)).mean() for seed in range(400)]
    assert 0.4 < np.mean([mask == 0 for mask in masks]) < 0.65  # none, or some
    random = method(**SOVE.presets["random_mask"]).view_specs()[1].mask
    assert isinstance(random, RandomMask)
    assert {int(random(np.random.default_rng(seed)).sum()) for seed in range(20)} == {11}  # .7 * 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cls_weight": 0.0, "patch_weight": 0.0}, "leave at least one loss on"),
        ({"cls_weight": 0.0}, "set local_crops=0"),
        ({"mask": "none"}, "patch_weight=0"),
        ({"mask_ratios": (0.0,), "mask_spreads": (0.0,)}, "ratio above 0"),
        ({"smoothing": 1.0}, "below 1"),
        ({"judges": 0}, "1 judge"),
        ({"patch_judges": 0}, "patch_judges=0"),
        ({"bank": 3}, "bank=3 cannot hold the 4 .* at least 4"),
        ({"patch_bank": 641}, "whole run sees 640 images.* at most 640"),
        ({"anchors": 62}, "at most anchors=61,"),
        ({"patch_anchors": 33}, "at most patch_anchors=32,"),
        ({"anchors": 33, "anchors_from": "partition"}, "at most anchors=32,"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        tiny_method(SOVE, **options)


def test_banks_of_a_loss_that_is_off_are_not_asked_for() -> None:
    tiny_method(SOVE, patch_weight=0.0, patch_bank=1)
    tiny_method(SOVE, cls_weight=0.0, local_crops=0, bank=1)


def test_the_paper_s_recipes() -> None:
    small, presets = SOVE.recipe(), SOVE.presets
    base, large = (SOVE.recipe(**presets[name]) for name in ("vit_base", "vit_large"))
    swin, two = (SOVE.recipe(**presets[name]) for name in ("swin_tiny", "two_crop"))
    assert [r.epochs for r in (small, base, large, swin, two)] == [800, 400, 250, 300, 300]
    assert (small.bank, small.patch_bank, small.anchors, small.patch_anchors) == (
        65536,
        8192,
        8192,
        512,
    )
    assert (small.judges, small.patch_judges, small.tasks, small.patch_tasks) == (9, 1, 4, 4)
    assert (small.global_area, small.local_area, small.local_crops) == ((0.32, 1), (0.05, 0.32), 10)
    assert (two.global_area, two.local_crops) == ((0.14, 1.0), 0)
    assert small.peak_lr() == pytest.approx(5e-4 * 4)
    assert base.peak_lr() == pytest.approx(7.5e-4 * 4)
    assert (small.momentum, small.clip, small.precision) == (0.996, 3.0, "bf16-mixed")
    assert (swin.mim_start_epoch, swin.arch) == (50.0, "swin_tiny_patch4_window14_224")
    r = SOVE.recipe(**presets["small"])
    assert r.bank <= 64 * r.batch_size
    assert r.anchors <= r.bank / (r.judges - 1 + 2)


@pytest.mark.parametrize("batch_size", [4, 8])
def test_the_images_of_a_step_share_the_operations_that_concepts_cost(batch_size: int) -> None:
    fixed = {"mask": "random", "mask_ratios": (0.5,), "mask_spreads": (0.0,)}
    sove = method(batch_size=batch_size, **fixed)
    batch = batch_for(sove, batch_size)
    with FlopCounterMode(display=False) as counter:
        sove.losses(batch, 0)["loss"].backward()
    assert count_flops(sove) == pytest.approx(counter.get_total_flops() / batch_size, rel=1e-12)


# --- two processes ---


def pair() -> tuple[SOVE, MaSSL]:
    return method(), tiny_method(MaSSL)


def whole_batch(model: SOVE | MaSSL, step: int) -> Batch:
    if isinstance(model, MaSSL):
        return batch_for(model, seed=step)
    return masked_batch(model, [[5, 0, 1, 16], [2, 3, 0, 9]], seed=step)


def two_steps(model: SOVE | MaSSL, rows: slice) -> dict[str, Tensor]:
    """Losses, first gradient and banks of two steps on some rows of each batch."""
    out: dict[str, Tensor] = {}
    for step in range(2):
        batch = whole_batch(model, step)
        size = rows.stop - rows.start
        found = model.losses(batch.split(4 // size)[rows.start // size], step)
        out[f"loss {step}"] = found["loss"].detach()
        found["loss"].backward()
        model.after_step(step)
    out |= {f"gradient {n}": p.grad for n, p in model.student.named_parameters()}
    return out | {k: v for k, v in model.state_dict().items() if "bank" in k}


def worker(rank: int) -> list[dict[str, Tensor]]:
    return [two_steps(model, slice(2 * rank, 2 * rank + 2)) for model in pair()]


@pytest.mark.xdist_group("gloo")
def test_two_processes_are_one_in_values_gradients_and_banks(tmp_path: Path) -> None:
    zero, one = in_processes(worker, tmp_path)
    for model, a, b in zip(pair(), zero, one, strict=True):
        whole = two_steps(model, slice(0, 4))
        for key, value in whole.items():
            if "bank" in key:  # the same on both processes, and as in one
                assert torch.equal(a[key], b[key]), key
                torch.testing.assert_close(a[key], value, msg=key)
            else:
                mean = torch.stack((a[key], b[key])).mean(0)
                torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-6, msg=key)


def test_the_card_names_anchors_of_the_bank_as_prototypes_of_patches() -> None:
    sove = method()
    sove.patch_bank.rows.copy_(
        torch.nn.functional.normalize(
            torch.randn(len(sove.patch_bank.rows), sove.r.head_dim), dim=1
        )
    )
    tokenizer = Prototypes.from_tensors(sove.state_dict(), **sove.extras()["proto"])
    patches = sove.teacher.model["encoder"](batch_for(sove).images[0]).patches  # (4, 16, d)
    z = mlp64(sove.teacher.model["head"], float64(patches))
    anchors = float64(sove.patch_bank.rows)[: sove.r.patch_anchors]
    cosine = z / np.linalg.norm(z, axis=-1, keepdims=True) @ anchors.T
    scores = np.exp(cosine / sove.r.teacher_temp)
    found = float64(tokenizer(patches.reshape(4, 4, 4, -1))).reshape(4, 16, -1)
    assert found.shape[-1] == sove.r.patch_anchors < len(sove.patch_bank.rows)
    np.testing.assert_allclose(found, scores / scores.sum(-1, keepdims=True), atol=1e-5)
    assert "head" in sove.extras()
    assert "proto" not in method(patch_judges=2).extras()
    assert "proto" not in method(patch_weight=0.0, mask="none").extras()

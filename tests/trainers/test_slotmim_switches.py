"""SlotMIM's switches, gradients, schedules and views."""

import copy
import re

import numpy as np
import pytest
import torch

from bench.errors import SpecError
from bench.spec import parse
from tests.trainers.tiny import ARCH, SMALL_HEADS, batch_for, drift, float64, tiny_method
from trainers.blocks.masks import BlockwiseMask
from trainers.blocks.photometric import PRESETS
from trainers.blocks.views import Batch
from trainers.blocks.vit import sincos_positions
from trainers.distillation import teacher_temp
from trainers.loop import resolve
from trainers.methods.slotcon import SlotCon
from trainers.methods.slotmim import Branch, SlotMIM
from trainers.optim import clip_gradients, make_optimizer, set_schedule
from trainers.recipe import Plan

PARTS = ("within", "cross", "slot")


def method(**options: object) -> SlotMIM:
    slotmim = tiny_method(SlotMIM, **options)
    drift(slotmim)
    return slotmim


def losses(slotmim: SlotMIM, batch: Batch, step: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)  # for the drop path
    return slotmim.losses(batch, step)


def looks(slotmim: SlotMIM, batch: Batch) -> list[list[Branch]]:
    """Per view what student and teacher say of it."""
    student = slotmim.look(slotmim.student, batch.images, batch.masks, 0.07)
    teacher = slotmim.look(slotmim.teacher.model, batch.images, [None, None], 0.07)
    return [list(pair) for pair in zip(student, teacher, strict=True)]


def clean(batch: Batch) -> Batch:
    batch.masks = [None, None]
    return batch


def test_without_mask_and_within_loss_it_is_slotcon_to_the_bit() -> None:
    full, slotcon = method(drop_path=0.3), method(drop_path=0.3, mask_ratio=0.0, within_weight=0.0)
    batch = clean(batch_for(full))
    assert [spec.mask for spec in slotcon.view_specs()] == [None, None]
    found, expected = losses(slotcon, batch), losses(full, batch)
    assert {"loss", "cross", "slot"} <= found.keys()
    assert "within" not in found
    assert torch.equal(found["cross"], expected["cross"])
    assert torch.equal(found["slot"], expected["slot"])
    torch.testing.assert_close(found["loss"], 0.5 * expected["cross"] + expected["slot"])


def test_slotcon_is_slotmim_without_mask_and_within_loss_to_the_bit() -> None:
    found = []
    for cls, options in ((SlotCon, {}), (SlotMIM, {"mask_ratio": 0.0, "within_weight": 0.0})):
        network = tiny_method(cls, drop_path=0.3, **options)
        optimizer = make_optimizer(network, network.plan.recipe)
        parts: dict[str, list[float]] = {}
        for step in range(3):
            set_schedule(optimizer, network.plan.lr(step), network.plan.weight_decay(step))
            for name, value in losses(network, batch_for(network, seed=step), step).items():
                parts.setdefault(name, []).append(value)
            parts["loss"][-1].backward()
            optimizer.step()
            network.after_step(step)
            optimizer.zero_grad()
        found.append((parts, network.state_dict()))
    (parts, weights), (other, theirs) = found
    assert {"loss", "cross", "slot"} <= parts.keys() == other.keys()
    assert all(torch.equal(torch.stack(parts[n]), torch.stack(other[n])) for n in parts)
    assert weights.keys() == theirs.keys()
    assert all(torch.equal(weights[name], theirs[name]) for name in weights)


ROWS = dict(re.findall(r"^ +(\d)  (\S+=\S+|as it is)$", SlotMIM.__doc__ or "", re.MULTILINE))
MODULES = {  # of Table 4: mask, and the weight of each loss
    "1": (False, {"cross": 1.0}),
    "2": (True, {"cross": 1.0}),
    "3": (True, {"within": 1.0}),
    "4": (True, {"cross": 0.5, "slot": 1.0}),
    "5": (True, {"cross": 0.5, "within": 0.5, "slot": 1.0}),
}


@pytest.mark.parametrize("row", MODULES)
def test_the_rows_of_table_4_are_the_specs_of_the_docstring(row: str) -> None:
    options = "" if ROWS[row] == "as it is" else f"&{ROWS[row]}"
    small = "&".join(f"{key}={value}" for key, value in SMALL_HEADS["SlotMIM"].items())
    spec = f"slotmim@coco?{small}&arch={ARCH}&batch_size=4{options}"
    cls, recipe = resolve(parse(spec))
    masked, weights = MODULES[row]
    slotmim = cls(Plan.of(recipe, 64))
    assert [view.mask is not None for view in slotmim.view_specs()] == [masked, masked]
    batch = batch_for(slotmim)
    found = losses(slotmim, batch)
    assert {part for part in PARTS if part in found} == weights.keys()
    total = sum(weight * found[part] for part, weight in weights.items())
    torch.testing.assert_close(found["loss"], total)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 2 * 4 * 16),
        ({"accumulate": 2}, 2 * 2 * 16),
        ({"targets": "sinkhorn"}, 32),  # half of 4 * 16 patches are masked at most
        ({"targets": "sinkhorn", "within_weight": 0.0}, 4 * 16),
        ({"targets": "sinkhorn", "mask_ratio": 0.0}, 4 * 16),
        ({"targets": "sinkhorn", "mask_ratio": 0.25, "mask_spread": 0.0}, 16),
    ],
    ids=str,
)
def test_more_prototypes_than_patches_are_refused(options: dict[str, object], most: int) -> None:
    tiny_method(SlotMIM, prototypes=most, **options)
    with pytest.raises(SpecError, match=rf"prototypes={most + 1} .* choose at most {most}, or a"):
        tiny_method(SlotMIM, prototypes=most + 1, **options)


def test_a_mask_ratio_that_leaves_its_range_is_refused() -> None:
    with pytest.raises(SpecError, match=r"0.1 \+- 0.2 leaves .* at most 0.1"):
        tiny_method(SlotMIM, mask_ratio=0.1)


def test_negatives_of_the_same_image_leave_other_images_out() -> None:
    everyone, alone = method(), method(slot_negatives="image")
    batch = batch_for(everyone)
    found, expected = losses(alone, batch), losses(everyone, batch)
    assert found["slot"] < expected["slot"]
    assert torch.equal(found["cross"], expected["cross"])
    # What happens to another image changes nothing for this one.
    both = [branch for view in (0, 1) for branch in looks(alone, batch)[view]]
    s, t = both[0], both[3]
    first = torch.zeros_like(s.active)
    first[0] = s.active[0]
    moved = t.slots.clone()
    moved[1:] = torch.randn_like(moved[1:])
    s = s._replace(active=first)
    assert torch.equal(alone.contrast(s, t), alone.contrast(s, t._replace(slots=moved)))


@pytest.mark.parametrize("off", PARTS)
def test_a_loss_that_is_switched_off_leaves_the_others_to_the_bit(off: str) -> None:
    options = {"drop_path": 0.3}
    full, less = method(**options), method(**options, **{f"{off}_weight": 0.0})
    batch = batch_for(full)
    expected, found = losses(full, batch), losses(less, batch)
    assert found.keys() == expected.keys() - {off}
    rest = [part for part in PARTS if part != off]
    assert all(torch.equal(found[part], expected[part]) for part in rest)
    weights = {"within": 0.5, "cross": 0.5, "slot": 1.0}
    torch.testing.assert_close(found["loss"], sum(weights[part] * found[part] for part in rest))


def test_weights_scale_their_losses() -> None:
    slotmim = method(within_weight=0.3, cross_weight=0.7, slot_weight=2.0)
    found = losses(slotmim, batch_for(slotmim))
    total = 0.3 * found["within"] + 0.7 * found["cross"] + 2 * found["slot"]
    torch.testing.assert_close(found["loss"], total)


def test_two_tau_is_a_factor_of_the_contrast() -> None:
    with_factor, without = method(slot_temp=0.3), method(slot_temp=0.3, two_tau=False)
    batch = batch_for(with_factor)
    found, expected = (losses(m, batch)["slot"] for m in (with_factor, without))
    torch.testing.assert_close(found, 0.6 * expected)


def test_without_any_loss_there_is_nothing_to_train() -> None:
    with pytest.raises(SpecError, match="all 0"):
        tiny_method(SlotMIM, within_weight=0.0, cross_weight=0.0, slot_weight=0.0)


SWITCHES = [
    {},
    {"targets": "sinkhorn"},
    {"slot_pool_temp": "student"},
    {"within_weight": 0.0},
    {"cross_weight": 0.0},
    {"slot_weight": 0.0},
    {"mask_ratio": 0.0},
    {"slot_negatives": "image"},
]


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_gradients_reach_every_trained_parameter_and_no_other(options: dict[str, object]) -> None:
    # A trained parameter without a gradient would stop distributed training.
    slotmim = method(**options)
    losses(slotmim, batch_for(slotmim))["loss"].backward()
    gradients = {n: p.grad for n, p in slotmim.named_parameters() if p.grad is not None}
    assert gradients.keys() == {n for n, p in slotmim.named_parameters() if p.requires_grad}
    assert not any(name.startswith("teacher") for name in gradients)
    unmoved = {name for name, gradient in gradients.items() if not gradient.any()}
    assert unmoved == ({"student.encoder.mask_token"} if "mask_ratio" in options else set())


def test_targets_and_centre_give_the_teacher_no_history() -> None:
    slotmim = method()
    found = losses(slotmim, batch_for(slotmim))
    slotmim.after_step(0)
    assert not slotmim.centre.value.requires_grad
    assert not found["active_slots"].requires_grad
    assert all(p.is_leaf and not p.requires_grad for p in slotmim.teacher.parameters())


def test_after_step_moves_teacher_and_centre_exactly_once() -> None:
    slotmim = method(momentum=0.9)
    batch = batch_for(slotmim)
    slotmim.centre.value.copy_(0.1 * torch.randn(6))
    losses(slotmim, batch, 39)
    before = [float64(p) for p in slotmim.teacher.parameters()]
    centre = float64(slotmim.centre.value)
    with torch.no_grad():
        clear = slotmim.look(slotmim.teacher.model, batch.images, [None, None], 0.07)
    rows = np.concatenate([float64(view.scores).reshape(-1, 6) for view in clear])
    slotmim.after_step(39)
    # The official code moves the teacher at the start of step 40, with the momentum of that step.
    momentum = 1 - 0.1 * (1 + np.cos(np.pi * 40 / 160)) / 2
    pairs = zip(slotmim.teacher.parameters(), before, slotmim.student.parameters(), strict=True)
    for p, old, mine in pairs:
        expected = momentum * old + (1 - momentum) * float64(mine)
        np.testing.assert_allclose(float64(p), expected, atol=1e-6)
    expected = 0.9 * centre + 0.1 * rows.mean(0)
    np.testing.assert_allclose(float64(slotmim.centre.value), expected, atol=1e-6)


def test_the_centre_is_used_before_it_moves() -> None:
    slotmim = method()
    batch = batch_for(slotmim)
    first = losses(slotmim, batch)
    assert torch.equal(losses(slotmim, batch)["cross"], first["cross"])
    slotmim.centre.update()
    assert not torch.equal(losses(slotmim, batch)["cross"], first["cross"])


def test_prototypes_stand_still_for_their_epochs_and_then_are_decayed_too() -> None:
    slotmim = method(freeze_prototype_epochs=2.0)
    optimizer = make_optimizer(slotmim, slotmim.plan.recipe)
    set_schedule(optimizer, 0.01, 0.4)
    batch = batch_for(slotmim)
    for step in (0, 31, 32):  # 16 steps an epoch
        before = copy.deepcopy(slotmim.student.state_dict())
        losses(slotmim, batch, step)["loss"].backward()
        clip_gradients(slotmim, 0.3, "parameter")
        for parameter in slotmim.frozen(step):
            parameter.grad = None
        optimizer.step()
        slotmim.after_step(step)
        optimizer.zero_grad(set_to_none=True)
        still = {n for n, p in slotmim.student.named_parameters() if torch.equal(p, before[n])}
        assert still == (set() if step == 32 else {"prototypes.weight"})


def test_the_teacher_temperature_rises_by_epochs() -> None:
    slotmim = method(teacher_temp_epochs=5.0)
    expected = np.concatenate((np.linspace(0.04, 0.07, 5), np.full(5, 0.07))).repeat(16)
    np.testing.assert_allclose([teacher_temp(slotmim.plan, step) for step in range(160)], expected)


def test_views_are_two_masked_crops_of_which_the_second_meets_the_first() -> None:
    one, two = method().view_specs()
    assert (one.size_px, two.size_px) == (16, 16)
    assert one.area == two.area == (0.08, 1.0)
    assert (one.photometric, two.photometric) == (PRESETS["byol_a"], PRESETS["byol_b"])
    assert one.mask == two.mask == BlockwiseMask(4, 4, (0.3,), (0.2,))
    assert (one.overlaps, two.overlaps, two.min_overlap) == ((), (0,), 0.01)


def test_positions_start_as_sines_and_are_trained() -> None:
    vit = tiny_method(SlotMIM).student["encoder"].vit
    assert torch.equal(vit.pos_embed, sincos_positions(24, 4, prefix=1))
    assert vit.pos_embed.requires_grad


def test_the_teacher_is_evaluated() -> None:
    slotmim = method()
    assert slotmim.eval_branch == "teacher"
    assert slotmim.backbone() is slotmim.teacher.model["encoder"].vit


def test_the_paper_s_recipe_and_the_code_s() -> None:
    recipe, code = SlotMIM.recipe(), SlotMIM.recipe(**SlotMIM.presets["code"])
    paper = SlotMIM.recipe(**SlotMIM.presets["paper"])
    assert recipe.peak_lr() == pytest.approx(1.5e-4 * 4)  # batch 1024
    assert (recipe.min_lr, recipe.warmup_epochs, recipe.drop_path) == (2e-6, 10.0, 0.1)
    assert (recipe.weight_decay, recipe.weight_decay_end) == (0.04, 0.4)
    assert (paper.weight_decay, paper.weight_decay_end) == (0.05, None)
    assert (recipe.slot_negatives, paper.slot_negatives, paper.two_tau) == ("all", "image", False)
    assert (recipe.area, paper.area) == ((0.08, 1.0), (0.14, 1.0))
    assert (recipe.clip, recipe.clip_mode, recipe.momentum) == (0.3, "parameter", 0.996)
    assert (recipe.head_layers, recipe.head_hidden, recipe.predictor_layers) == (3, 4096, 3)
    assert (code.head_layers, code.head_hidden, code.predictor_layers) == (3, 2048, 2)
    # The effective weights after 2 * tau: .5 : .5 : .4, and .2 in the code.
    assert recipe.slot_weight * 2 * recipe.slot_temp == pytest.approx(0.4)
    assert code.slot_weight * 2 * code.slot_temp == pytest.approx(0.2)
    assert (recipe.teacher_temp_start, recipe.teacher_temp, recipe.student_temp) == (
        0.04,
        0.07,
        0.1,
    )


@pytest.mark.parametrize(
    ("preset", "schedule"),
    [
        ("coco_plus", (512, 800, 10, 50, 3)),
        ("241k", (1024, 800, 10, 50, 3)),
        ("1.28m", (1024, 400, 10, 50, 3)),
        ("4m", (1024, 200, 5, 30, 1)),
    ],
)
@pytest.mark.parametrize("name", ["slotmim", "slotcon"])
def test_the_schedules_of_each_scale(name: str, preset: str, schedule: tuple[float, ...]) -> None:
    _, r = resolve(parse(f"{name}@coco?preset=code:{preset}"))
    warmups = (r.warmup_epochs, r.teacher_temp_epochs, r.freeze_prototype_epochs)
    assert (r.prototypes, r.epochs, *warmups) == schedule
    assert r.head_hidden == 2048
    assert r.batch_size == 1024

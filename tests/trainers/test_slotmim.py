"""SlotMIM's losses as loops in float64: slots by sums, negatives by lists, aligned by hand."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainers.processes import in_processes
from tests.trainers.tiny import batch_for, drift, float64, mlp64, softmax64, tiny_method
from trainers.blocks.geometry import align
from trainers.blocks.views import Batch
from trainers.methods.slotmim import Branch, SlotMIM

GRID = 4


def method(**options: object) -> SlotMIM:
    slotmim = tiny_method(SlotMIM, **({"teacher_temp_epochs": 0.0} | options))
    drift(slotmim)
    slotmim.centre.value.copy_(0.1 * torch.randn(6))
    return slotmim


class View64(NamedTuple):
    """One network's view in float64."""

    scores: np.ndarray  # (b, n, K)
    slots: np.ndarray  # (b, K, d)
    active: np.ndarray  # (b, K)


def look64(network: nn.ModuleDict, images: Tensor, mask: Tensor | None, temp: float) -> View64:
    """Scores, slots and active prototypes of one view, from its encoder tokens, by sums."""
    tokens = mlp64(network["projector"], float64(network["encoder"](images, mask=mask).patches))
    prototypes = float64(network["prototypes"].weight)
    scores = tokens @ prototypes.T
    scores /= np.linalg.norm(tokens, axis=-1)[..., None] * np.linalg.norm(prototypes, axis=1)
    b, n, k = scores.shape
    share = softmax64(scores / temp)
    slots = np.zeros((b, k, tokens.shape[-1]))
    active = np.zeros((b, k), bool)
    for i in range(b):
        for j in range(k):
            mass = sum(share[i, p, j] for p in range(n))
            slots[i, j] = sum(share[i, p, j] * tokens[i, p] for p in range(n)) / mass
        for p in range(n):
            active[i, scores[i, p].argmax()] = True
    return View64(scores, slots, active)


def views64(slotmim: SlotMIM, batch: Batch) -> tuple[list[View64], list[View64]]:
    """Student on masked views, teacher on clean ones."""
    r = slotmim.r
    pool = 0.07 if r.slot_pool_temp == "teacher" else r.student_temp
    looks = zip(batch.images, batch.masks, strict=True)
    student = [look64(slotmim.student, image, mask, pool) for image, mask in looks]
    return student, [look64(slotmim.teacher.model, image, None, 0.07) for image in batch.images]


def target64(slotmim: SlotMIM, rows: np.ndarray) -> np.ndarray:
    """Teacher rows (m, K) as probabilities, by the centre or by equal masses."""
    if slotmim.r.targets == "centre":
        return softmax64((rows - float64(slotmim.centre.value)) / 0.07)
    q = np.exp(rows / 0.07)
    for _ in range(3):
        q = q / q.sum(0)
        q = q / q.sum(1)[:, None]
    return q


def cross_entropy64(slotmim: SlotMIM, student: np.ndarray, teacher: np.ndarray) -> float:
    """Mean cross-entropy of rows (m, K)."""
    target = target64(slotmim, teacher)
    return float(-np.mean((target * np.log(softmax64(student / 0.1))).sum(1)))


def within64(slotmim: SlotMIM, batch: Batch) -> float:
    student, teacher = views64(slotmim, batch)
    terms = []
    for s, t, mask in zip(student, teacher, batch.masks, strict=True):
        places = list(map(tuple, np.argwhere(mask.numpy())))
        rows = [np.array([v.scores[place] for place in places]) for v in (s, t)]
        terms.append(cross_entropy64(slotmim, *rows))
    return float(np.mean(terms))


def at(scores: np.ndarray, x: float, y: float) -> np.ndarray:
    """Scores (n, K) between patch centres, bilinearly; constant beyond the outermost centres."""
    x, y = (min(max(v - 0.5, 0), GRID - 1) for v in (x, y))
    x0, y0 = min(int(x), GRID - 2), min(int(y), GRID - 2)
    value = np.zeros(scores.shape[-1])
    for column, wx in ((x0, x0 + 1 - x), (x0 + 1, x - x0)):
        for row, wy in ((y0, y0 + 1 - y), (y0 + 1, y - y0)):
            value += wx * wy * scores[row * GRID + column]
    return value


def aligned64(view: View64, batch: Batch, v: int) -> dict[int, np.ndarray]:
    """Per overlapping image the scores (n, K) of view ``v`` over the common part of the crops."""
    out = {}
    for i, (a, b) in enumerate(float64(batch.boxes)):
        common = np.concatenate((np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])))
        if (common[2:] <= common[:2]).any():
            continue
        own, flipped = (a, b)[v], bool(batch.flips[i, v])
        cells = []
        for row in range(GRID):
            for column in range(GRID):
                # A place in the source image, then in the crop, mirrored where the crop was.
                place = (np.array([column, row]) + 0.5) / GRID
                source = common[:2] + place * (common[2:] - common[:2])
                x, y = (source - own[:2]) / (own[2:] - own[:2])
                x = 1 - x if flipped else x
                cells.append(at(view.scores[i], x * GRID, y * GRID))
        out[i] = np.array(cells)
    return out


def cross64(slotmim: SlotMIM, batch: Batch) -> float:
    student, teacher = views64(slotmim, batch)
    terms = []
    for v in range(2):
        s = aligned64(student[v], batch, v)
        t = aligned64(teacher[1 - v], batch, 1 - v)
        assert s.keys() == t.keys()
        rows = [np.concatenate(list(x.values())) for x in (s, t)]
        terms.append(cross_entropy64(slotmim, *rows))
    return float(np.mean(terms))


def slot64(slotmim: SlotMIM, batch: Batch) -> tuple[float, int]:
    """Slot contrast and how many pairs took part."""
    student, teacher = views64(slotmim, batch)
    terms, pairs = [], 0
    for s, t in ((student[0], teacher[1]), (student[1], teacher[0])):
        keys = {(int(b), int(k)): t.slots[b, k] for b, k in np.argwhere(t.active)}
        errors = []
        for place in map(tuple, np.argwhere(s.active & t.active)):
            query = mlp64(slotmim.predictor, s.slots[place])
            similarity = {
                other: key @ query / np.linalg.norm(key) / np.linalg.norm(query)
                for other, key in keys.items()
                if slotmim.r.slot_negatives == "all" or other[0] == place[0]
            }
            total = sum(math.exp(value / 0.2) for value in similarity.values())
            errors.append(math.log(total) - similarity[place] / 0.2)
        terms.append(np.mean(errors))
        pairs += len(errors)
    return float(np.mean(terms)) * (0.4 if slotmim.r.two_tau else 1.0), pairs


PAPER = {"slot_pool_temp": "student", "two_tau": False, "slot_negatives": "image"}
OPTIONS = [{}, {"targets": "sinkhorn"}, PAPER]


@pytest.mark.parametrize("options", OPTIONS, ids=["default", "sinkhorn", "paper"])
def test_all_three_losses_equal_float64_loops(options: dict[str, object]) -> None:
    slotmim = method(**options)
    batch = batch_for(slotmim, count=6)
    found = slotmim.losses(batch, 0)
    slot, pairs = slot64(slotmim, batch)
    assert pairs > 12
    assert found["within"].item() == pytest.approx(within64(slotmim, batch), rel=2e-5)
    assert found["cross"].item() == pytest.approx(cross64(slotmim, batch), rel=2e-5)
    assert found["slot"].item() == pytest.approx(slot, rel=2e-5)
    total = 0.5 * found["within"] + 0.5 * found["cross"] + found["slot"]
    torch.testing.assert_close(found["loss"], total)
    _, teacher = views64(slotmim, batch)
    active = np.mean([view.active.sum(1).mean() for view in teacher])
    assert found["active_slots"].item() == pytest.approx(active)


def ramp(box: Tensor, flipped: bool) -> Tensor:
    """(n, 2) source coordinates x and y at the patch centres of a crop, as the crop shows them."""
    places = (torch.arange(GRID) + 0.5) / GRID
    y, x = torch.meshgrid(places, places, indexing="ij")
    x = 1 - x if flipped else x
    return torch.stack((box[0] + x * (box[2] - box[0]), box[1] + y * (box[3] - box[1])), -1).view(
        -1, 2
    )


@pytest.mark.parametrize("flipped", [False, True])
def test_a_linear_ramp_is_aligned_exactly(flipped: bool) -> None:
    crop = torch.tensor([0.2, 0.1, 0.8, 0.7])
    part = torch.tensor([0.3, 0.25, 0.65, 0.6])  # far enough inside that nothing is clamped
    own = (part - crop[[0, 1, 0, 1]]) / (crop[2:] - crop[:2])[[0, 1, 0, 1]]
    own = torch.stack((1 - own[2], own[1], 1 - own[0], own[3])) if flipped else own
    found = align(ramp(crop, flipped)[None], own[None], torch.tensor([flipped]))
    torch.testing.assert_close(found[0], ramp(part, flipped=False))


def test_the_whole_crop_is_aligned_with_itself_and_flips_are_undone() -> None:
    scores, whole = torch.randn(2, 16, 5), torch.tensor([[0.0, 0, 1, 1]] * 2)
    found = align(scores, whole, torch.tensor([False, True]))
    torch.testing.assert_close(found[0], scores[0])
    torch.testing.assert_close(found[1], scores[1].view(4, 4, 5).flip(1).view(16, 5))


def apart(batch: Batch, which: list[int]) -> Batch:
    """The batch with the crops of some images side by side."""
    batch.boxes[which, 0] = torch.tensor([0.0, 0.0, 0.4, 1.0])
    batch.boxes[which, 1] = torch.tensor([0.4, 0.0, 1.0, 1.0])
    return batch


def branches(slotmim: SlotMIM, batch: Batch) -> tuple[list[Branch], list[Branch]]:
    student = slotmim.look(slotmim.student, batch.images, batch.masks, 0.07)
    with torch.no_grad():
        return student, slotmim.look(slotmim.teacher.model, batch.images, [None, None], 0.07)


@pytest.mark.parametrize("targets", ["centre", "sinkhorn"])
def test_crops_that_do_not_overlap_take_no_part_in_the_cross_loss(targets: str) -> None:
    slotmim = method(targets=targets)
    batch = apart(batch_for(slotmim), [1, 3])
    assert slotmim.cross(*branches(slotmim, batch), batch, 0.07).item() == pytest.approx(
        cross64(slotmim, batch), rel=2e-5
    )
    student, teacher = branches(slotmim, batch)
    for view in student:
        view.scores.retain_grad()
    slotmim.cross(student, teacher, batch, 0.07).backward()
    for view in student:
        reached = view.scores.grad.flatten(1).any(1)
        assert reached.tolist() == [True, False, True, False]


@pytest.mark.parametrize("targets", ["centre", "sinkhorn"])
def test_without_any_overlap_the_cross_loss_is_zero_with_finite_gradients(targets: str) -> None:
    slotmim = method(targets=targets, slot_weight=0.0)
    found = slotmim.losses(apart(batch_for(slotmim), [0, 1, 2, 3]), 0)
    assert found["cross"].item() == 0
    torch.testing.assert_close(found["loss"], 0.5 * found["within"])
    found["loss"].backward()
    assert all(p.grad.isfinite().all() for p in slotmim.student.parameters())


@pytest.mark.parametrize("options", [*OPTIONS, {"targets": "sinkhorn", **PAPER}], ids=str)
@pytest.mark.parametrize("masked", ["nothing", "everything", "one image"])
@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("slots", ["as they are", "one for all patches"])
def test_edge_cases_never_give_nan(
    slots: str, overlap: bool, masked: str, options: dict[str, object]
) -> None:
    slotmim = method(**options)
    batch = batch_for(slotmim)
    batch = batch if overlap else apart(batch, [0, 1, 2, 3])
    for mask in batch.masks:
        mask[:] = masked == "everything"
        mask[0] = masked != "nothing"
    if slots == "one for all patches":  # student and teacher disagree: no pair of slots is left
        with torch.no_grad():
            for prototype, network in ((0, slotmim.student), (1, slotmim.teacher.model)):
                network["projector"][-1].weight.mul_(1e-3)
                network["projector"][-1].bias.copy_(torch.ones(12))
                network["prototypes"].weight.fill_(-1)
                network["prototypes"].weight[prototype] = 1
    found = slotmim.losses(batch, 0)
    assert all(value.isfinite() for value in found.values()), found
    if slots == "one for all patches":
        assert found["slot"].item() == 0
        assert found["active_slots"].item() == 1
        assert found["prototype_entropy"].item() < 0.01, "a collapse that Sinkhorn must not hide"
    found["loss"].backward()
    trained = [p for p in slotmim.parameters() if p.requires_grad]
    assert all(p.grad.isfinite().all() for p in trained)
    slotmim.after_step(0)
    assert slotmim.centre.value.isfinite().all()


@pytest.mark.parametrize("targets", ["centre", "sinkhorn"])
def test_without_any_masked_patch_the_within_loss_is_zero(targets: str) -> None:
    slotmim = method(targets=targets)
    batch = batch_for(slotmim)
    batch.masks = [torch.zeros_like(mask) for mask in batch.masks]
    assert slotmim.losses(batch, 0)["within"].item() == 0


def test_without_a_slot_active_in_both_views_the_contrast_is_zero_with_finite_gradients() -> None:
    slotmim = method()
    (s, _), (_, t) = branches(slotmim, batch_for(slotmim))
    for student_active in (torch.zeros_like(t.active), ~t.active):
        loss = slotmim.contrast(s._replace(active=student_active), t)
        assert loss.item() == 0
        slotmim.zero_grad()
        loss.backward(retain_graph=True)
        assert all(not p.grad.any() for p in slotmim.predictor.parameters())


def test_keys_of_all_images_repel_and_only_active_ones() -> None:
    slotmim = method()
    (s, _), (_, t) = branches(slotmim, batch_for(slotmim))
    loss = slotmim.contrast(s, t)
    moved = t.slots.clone()
    moved[~t.active] = torch.randn_like(moved[~t.active])
    assert torch.equal(slotmim.contrast(s, t._replace(slots=moved)), loss)
    # Queries of image 0 alone, so that the other images give nothing but negatives.
    first = torch.zeros_like(s.active)
    first[0] = s.active[0]
    alone = slotmim.contrast(s._replace(active=first), t)
    fewer = t._replace(active=t.active & (torch.arange(4) < 1)[:, None])
    assert slotmim.contrast(s._replace(active=first), fewer) < alone


def halves(rows: slice) -> dict[str, Tensor]:
    """Losses and gradients of some rows of a batch whose masks, overlaps and slots are uneven."""
    out = {}
    for i, options in enumerate(OPTIONS):
        slotmim = method(**options)
        batch = batch_for(slotmim)
        batch.boxes[1] = torch.tensor([[0.0, 0.0, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9]])  # no overlap
        for mask in batch.masks:
            mask[:2], mask[0, 0] = False, True
        batch = batch.split(4 // (rows.stop - rows.start))[rows.start // 2]
        parts = slotmim.losses(batch, 0)
        parts["loss"].backward()
        out |= {f"{i} {name}": parts[name].detach() for name in ("within", "cross", "slot")}
        for name, parameter in slotmim.named_parameters():
            if parameter.grad is not None:
                out[f"{i} {name}"] = parameter.grad
    return out


def half(rank: int) -> dict[str, Tensor]:
    return halves(slice(2 * rank, 2 * rank + 2))


@pytest.mark.xdist_group("gloo")
def test_two_processes_are_one_in_losses_and_gradients(tmp_path: Path) -> None:
    whole, two = halves(slice(0, 4)), in_processes(half, tmp_path)
    assert two[0]["0 within"] < two[1]["0 within"] / 2  # one has a masked patch, one has many
    for name, value in whole.items():
        mean = torch.stack([out[name] for out in two]).mean(0)
        torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-6, msg=name)

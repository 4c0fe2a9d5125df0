"""MoCo v3: the contrast in float64, one process against two, and what moves when."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.checkpoint import load_model
from bench.errors import SpecError
from bench.vit import build_vit
from tests.trainers.processes import in_processes
from tests.trainers.tiny import batch_for, drift, float64, tiny_method
from trainers.blocks.heads import BatchNorm
from trainers.blocks.photometric import PRESETS
from trainers.blocks.views import Batch
from trainers.blocks.vit import init_mocov3
from trainers.loop import train
from trainers.methods.mocov3 import MoCoV3
from trainers.optim import make_optimizer

HALVES = [slice(0, 4), slice(4, 8)]


def method(**options: Any) -> MoCoV3:
    """A student away from its teacher, in batches of eight."""
    moco = tiny_method(MoCoV3, **({"batch_size": 8} | options))
    drift(moco)
    return moco


def head64(head: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """A projector or predictor in float64, normalised with the mean and variance of ``x``."""
    for module in head:
        if isinstance(module, nn.Linear):
            assert module.bias is None
            x = x @ float64(module.weight).T
        elif isinstance(module, BatchNorm):
            x = (x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).mean(0) + 1e-5)
            if module.weight is not None:
                x = x * float64(module.weight) + float64(module.bias)
        else:
            assert isinstance(module, nn.ReLU)
            x = np.maximum(x, 0)
    return x


def test_the_loss_is_the_float64_contrast_in_both_directions_summed() -> None:
    moco = method()
    batch = batch_for(moco, 8)
    found = moco.losses(batch, 0)
    assert found.keys() == {"loss", "feature_std"}
    queries, keys = [], []
    for view in batch.images:
        cls = float64(moco.student["encoder"](view).cls)
        queries.append(head64(moco.predictor, head64(moco.student["projector"], cls)))
        cls = float64(moco.teacher.model["encoder"](view).cls)
        keys.append(head64(moco.teacher.model["projector"], cls))
    terms = []
    for q, k in ((queries[0], keys[1]), (queries[1], keys[0])):
        for i in range(8):
            cosines = [q[i] @ k[j] / np.linalg.norm(q[i]) / np.linalg.norm(k[j]) for j in range(8)]
            scores = np.exp(np.array(cosines) / 0.2)
            terms.append(-np.log(scores[i] / scores.sum()))
    assert found["loss"].item() == pytest.approx(2 * 0.2 * 2 * np.mean(terms), rel=1e-4)


def test_both_heads_are_those_of_the_paper() -> None:
    moco = method(head_hidden=4096, head_dim=256)
    projector, predictor = moco.student["projector"], moco.predictor
    middle = [nn.Linear, BatchNorm, nn.ReLU]
    assert [type(m) for m in projector] == [*middle, *middle, nn.Linear, BatchNorm]
    assert [type(m) for m in predictor] == [*middle, nn.Linear, BatchNorm]
    for head in (projector, predictor):
        assert head[-1].weight is None
        assert head[1].weight is not None
    assert [tuple(m.weight.shape) for m in projector[::3]] == [
        (4096, 24),
        (4096, 4096),
        (256, 4096),
    ]
    assert [tuple(m.weight.shape) for m in predictor[::3]] == [(4096, 256), (256, 4096)]


def gradients(moco: MoCoV3, batch: Batch) -> dict[str, Tensor]:
    loss = moco.losses(batch, 0)["loss"]
    loss.backward()
    named = {name: p.grad for name, p in moco.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **named}


def part(batch: Batch, rows: slice) -> Batch:
    images = [view[rows] for view in batch.images]
    return Batch(images, batch.boxes[rows], batch.flips[rows], batch.masks, batch.index[rows])


def norm_of(rows: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """A batch norm's output and gradients of rows, for a loss that is a sum over all rows."""
    torch.manual_seed(0)
    norm = BatchNorm(3)
    nn.init.normal_(norm.weight)
    x = rows.clone().requires_grad_()
    out = norm(x)
    (out * weight).sum().backward()
    return {"out": out.detach(), "x": x.grad, "weight": norm.weight.grad}


def ragged() -> tuple[Tensor, Tensor, list[slice]]:
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    return rows * torch.tensor([1.0, 5.0, 0.5]) + 2, rows.flip(0), [slice(0, 2), slice(2, 7)]


def worker(rank: int) -> dict[str, Any]:
    moco = method()
    x, weight, rows = ragged()
    return {
        "half": gradients(moco, part(batch_for(moco, 8), HALVES[rank])),
        "ragged": norm_of(x[rows[rank]], weight[rows[rank]]),
        "rowless": norm_of(x[: 7 * rank], weight[: 7 * rank]),
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return in_processes(worker, tmp_path_factory.mktemp("gloo"))


@pytest.mark.xdist_group("gloo")
def test_two_processes_train_as_one_with_the_whole_batch(two: list[dict[str, Any]]) -> None:
    moco = method()
    whole = gradients(moco, batch_for(moco, 8))
    scale = max(float(value.abs().max()) for value in whole.values())
    for name, value in whole.items():
        # Distributed training averages gradients over processes.
        mean = torch.stack([out["half"][name] for out in two]).mean(0)
        torch.testing.assert_close(mean, value, rtol=1e-3, atol=1e-5 * scale, msg=name)


@pytest.mark.xdist_group("gloo")
@pytest.mark.parametrize("case", ["ragged", "rowless"])
def test_batch_norm_over_two_processes(case: str, two: list[dict[str, Any]]) -> None:
    x, weight, _ = ragged()
    whole = norm_of(x, weight)
    for name in ("out", "x"):
        torch.testing.assert_close(torch.cat([out[case][name] for out in two]), whole[name])
    torch.testing.assert_close(sum(out[case]["weight"] for out in two), whole["weight"])


def test_the_teacher_moves_by_the_momentum_of_the_step_that_it_looks_in() -> None:
    moco = method(epochs=1.0, images=64)  # 8 steps
    for step in range(8):
        before = [p.clone() for p in moco.teacher.model.parameters()]
        moco.after_step(step)
        m = 1 - 0.5 * (1 + np.cos(np.pi * (step + 1) / 8)) * (1 - 0.99)
        pairs = zip(moco.teacher.model.parameters(), before, moco.student.parameters(), strict=True)
        for now, old, student in pairs:
            torch.testing.assert_close(now, m * old + (1 - m) * student, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_patches_learn_only_where_they_are_not_frozen(frozen: bool) -> None:
    moco = method(freeze_patch_embed=frozen)
    moco.losses(batch_for(moco, 8), 0)["loss"].backward()
    student = {n for n, p in moco.student["encoder"].named_parameters() if p.grad is None}
    patches = {"vit.patch_embed.proj.weight", "vit.patch_embed.proj.bias"}
    assert student == {"vit.pos_embed"} | (patches if frozen else set())


def test_queries_keys_and_values_start_with_bounds_of_their_own() -> None:
    torch.manual_seed(0)
    vit = build_vit("vit_mini_patch16_64")
    init_mocov3(vit)
    block, patches = vit.blocks[0], vit.patch_embed.proj
    for weight, ends in (
        (block.attn.qkv.weight, 96 + 96),
        (block.mlp.fc1.weight, 96 + 384),
        (patches.weight, 3 * 16 * 16 + 96),
    ):
        assert weight.abs().max().item() == pytest.approx((6 / ends) ** 0.5, rel=1e-3)
    assert not patches.bias.any()
    assert vit.cls_token.std().item() == pytest.approx(1e-6, rel=0.3)


def test_all_parameters_are_decayed() -> None:
    moco = method()
    groups = make_optimizer(moco, moco.plan.recipe).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1]
    assert len(groups[0]["params"]) == sum(p.requires_grad for p in moco.parameters())


def test_views_are_two_bilinear_crops_with_the_byol_pair() -> None:
    one, two = method().view_specs()
    assert (one.photometric, two.photometric) == (PRESETS["byol_a"], PRESETS["byol_b"])
    for view in (one, two):
        assert (view.size_px, view.area, view.flip) == (16, (0.08, 1.0), 0.5)
        assert view.interpolation == "bilinear"


def test_twelve_heads_survive_the_checkpoint(mini: Path, tmp_path: Path) -> None:
    run = train(
        "mocov3@mini_objects[n=48,seed=0]?preset=small&arch=vit_mini_patch8_32&heads=12&epochs=1"
        "&batch_size=16&workers=0&head_hidden=16&head_dim=8",
        tmp_path / "run",
        data=mini,
    )
    vit = load_model(str(run)).backbone.vit
    assert {block.attn.num_heads for block in vit.blocks} == {12}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": 1}, "at least 2"),
        ({"batch_size": 4, "accumulate": 4}, "at least 8"),
        ({"heads": 5}, "5 attention heads do not divide the width 24"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, int], expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        method(**options)


def test_the_paper_s_recipe() -> None:
    recipe = MoCoV3.recipe()
    assert recipe.peak_lr() == pytest.approx(1.5e-4 * 16)  # batch 4096
    assert (recipe.epochs, recipe.warmup_epochs, recipe.min_lr) == (300.0, 40.0, 0.0)
    assert (recipe.beta1, recipe.beta2, recipe.weight_decay) == (0.9, 0.999, 0.1)
    assert (recipe.schedule, recipe.clip, recipe.drop_path) == ("mae", 0.0, 0.0)
    assert (recipe.temperature, recipe.momentum) == (0.2, 0.99)
    small = MoCoV3.recipe(**MoCoV3.presets["vit_small"])
    assert (small.arch, small.heads) == ("vit_small_patch16_224", 12)

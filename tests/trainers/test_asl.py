"""ASL: both losses in float64, where gradients stop, when it is MAE, and what it costs."""

import copy
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.errors import SpecError
from tests.trainers.tiny import batch_for, float64, shaken, tiny_method
from trainers.blocks.masks import uniform_keep
from trainers.blocks.views import Batch
from trainers.method import Method
from trainers.methods.asl import ASL, agreement
from trainers.methods.mae import MAE
from trainers.recipe import Plan

CPU = torch.device("cpu")
BRANCHES = ("aee", "dle")


def method(**options: Any) -> ASL:
    return shaken(tiny_method(ASL, **options))


def seeded(method: Method, batch: Batch, seed: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return method.losses(batch, 0)


def branches(asl: ASL, images: Tensor, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions (b, 1 + n, pixels) of each branch in a decoder pass of its own, and the mask."""
    torch.manual_seed(seed)
    keep, mask = uniform_keep(len(images), 16, 0.75, CPU)
    both = asl.features(images, keep)
    pairs = zip(both.cls.chunk(2), both.patches.chunk(2), strict=True)
    ori, aug = (float64(asl.decoder.predictions(cls, x, keep)) for cls, x in pairs)
    return ori, aug, mask.numpy()


def distance64(a: np.ndarray, b: np.ndarray, kind: str) -> float:
    if kind == "l1":
        return float(np.abs(a - b).mean())
    return float(1 - a @ b / np.sqrt((a @ a) * (b @ b)))


def targets64(images: Tensor) -> np.ndarray:
    """Pixels of each patch (b, 16, 48) with mean 0 and unbiased variance 1."""
    rows = []
    for image in float64(images):
        for y in range(0, 16, 4):
            for x in range(0, 16, 4):
                patch = image[:, y : y + 4, x : x + 4].transpose(1, 2, 0).ravel()
                rows.append((patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6))
    return np.array(rows).reshape(len(images), 16, 48)


@pytest.mark.parametrize("align_cls", [False, True])
@pytest.mark.parametrize("align", ["l1", "cosine"])
@pytest.mark.parametrize("branch", BRANCHES)
def test_reconstruction_and_agreement_are_those_of_float64(
    branch: str, align: str, align_cls: bool
) -> None:
    asl = method(branch=branch, align=align, align_cls=align_cls, align_weight=0.7)
    batch = batch_for(asl)
    found = seeded(asl, batch)
    ori, aug, mask = branches(asl, batch.images[0])
    target = targets64(batch.images[0])
    places = np.argwhere(mask)
    assert len(places) == 4 * 12
    errors = [np.mean((p[i, 1 + j] - target[i, j]) ** 2) for i, j in places for p in (ori, aug)]
    assert found["reconstruction"].item() == pytest.approx(np.mean(errors), rel=1e-5)
    # Both terms have the same value: they differ in their gradients.
    terms = [2 * distance64(ori[i, 1 + j], aug[i, 1 + j], align) for i, j in places]
    expected = np.mean(terms)
    if align_cls:
        expected += np.mean([2 * distance64(ori[i, 0], aug[i, 0], align) for i in range(4)])
    assert found["alignment"].item() == pytest.approx(expected, rel=1e-4)
    total = np.mean(errors) + 0.7 * expected
    assert found["loss"].item() == pytest.approx(total, rel=1e-5)
    assert found.keys() == {"loss", "reconstruction", "alignment", "feature_std"}


@pytest.mark.parametrize("branch", BRANCHES)
def test_the_original_branch_alone_can_reconstruct(branch: str) -> None:
    asl = method(branch=branch, mae_on="ori")
    batch = batch_for(asl)
    ori, _, mask = branches(asl, batch.images[0])
    target = targets64(batch.images[0])
    errors = [np.mean((ori[i, 1 + j] - target[i, j]) ** 2) for i, j in np.argwhere(mask)]
    found = seeded(asl, batch)["reconstruction"].item()
    assert found == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize("distance", ["l1", "cosine"])
def test_each_term_stops_the_gradient_of_one_prediction(distance: Any) -> None:
    torch.manual_seed(0)
    ori, aug = torch.randn(2, 5, 7, requires_grad=True), torch.randn(2, 5, 7, requires_grad=True)
    mask = torch.rand(2, 5) < 0.6
    agreement(ori, aug, mask, distance).backward()

    def alone(moving: Tensor, still: Tensor) -> Tensor:
        """Gradient of the mean distance where only one of the two is a variable."""
        x = moving.detach().clone().requires_grad_()
        pairs = [(x[i, j], still[i, j].detach()) for i, j in mask.nonzero().tolist()]
        if distance == "l1":
            terms = [(a - b).abs().mean() for a, b in pairs]
        else:
            terms = [1 - torch.cosine_similarity(a, b, dim=0) for a, b in pairs]
        torch.stack(terms).mean().backward()
        assert x.grad is not None
        return x.grad

    torch.testing.assert_close(ori.grad, alone(ori, aug))
    torch.testing.assert_close(aug.grad, alone(aug, ori))


def test_without_stop_gradients_agreement_would_pull_twice() -> None:
    ori, aug = torch.tensor([[[2.0]]], requires_grad=True), torch.tensor([[[1.0]]])
    agreement(ori, aug, torch.ones(1, 1, dtype=torch.bool), "l1").backward()
    assert ori.grad.item() == 1.0


def moved_by_alignment(asl: ASL, batch: Batch) -> set[str]:
    """Parameters to which the agreement alone sends a gradient."""
    seeded(asl, batch)["alignment"].backward()
    return {name for name, p in asl.named_parameters() if p.grad is not None and p.grad.any()}


def test_agreement_reaches_encoder_block_and_decoder() -> None:
    asl = method()
    moved = moved_by_alignment(asl, batch_for(asl))
    assert {name.split(".")[0] for name in moved} == {"encoder", "block", "decoder"}


@pytest.mark.parametrize("branch", BRANCHES)
def test_without_agreement_and_second_reconstruction_it_is_mae_bit_for_bit(branch: str) -> None:
    asl = tiny_method(ASL, branch=branch, align_weight=0.0, mae_on="ori")
    mae = tiny_method(MAE)
    batch = batch_for(mae)
    one, two = seeded(asl, batch), seeded(mae, batch)
    assert one["loss"].item() == two["loss"].item() == one["reconstruction"].item()
    assert one["feature_std"].item() == two["feature_std"].item()
    one["loss"].backward()
    two["loss"].backward()
    ours, theirs = dict(asl.named_parameters()), dict(mae.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, parameter in theirs.items():
        assert torch.equal(ours[name], parameter), name
        if parameter.requires_grad:
            assert torch.equal(ours[name].grad, parameter.grad), name


def test_the_extra_block_leaves_mae_s_weights_and_masks_as_they_were() -> None:
    asl, mae = tiny_method(ASL), tiny_method(MAE)
    for name, parameter in mae.named_parameters():
        assert torch.equal(dict(asl.named_parameters())[name], parameter), name
    batch = batch_for(mae)
    masks = []

    def note(*args: Any) -> tuple[Tensor, Tensor]:
        masks.append(uniform_keep(*args))
        return masks[-1]

    for file, one in (("trainers.methods.asl", asl), ("trainers.methods.mae", mae)):
        with mock.patch(f"{file}.uniform_keep", note):
            seeded(one, batch)
    assert torch.equal(masks[0][0], masks[1][0])


def test_the_second_branch_without_agreement_is_kept_and_reconstructs() -> None:
    asl = method(align_weight=0.0)
    found = seeded(asl, batch_for(asl))
    assert found["loss"].item() == found["reconstruction"].item()
    assert found["alignment"].item() > 0
    found["loss"].backward()
    assert all(p.grad.any() for p in asl.block.parameters())


def test_the_extra_block_sees_visible_tokens_and_the_class_token() -> None:
    asl, seen = method(), []
    asl.block.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    seeded(asl, batch_for(asl))
    assert [tuple(x.shape) for x in seen] == [(4, 1 + 4, 24)]
    assert asl.backbone() is asl.encoder.vit
    assert not any(
        "block." in name for name in asl.backbone().state_dict() if "blocks." not in name
    )


@pytest.mark.parametrize("after_norm", [True, False])
def test_the_extra_block_reads_normed_features_or_is_normed_itself(after_norm: bool) -> None:
    asl = method(aee_after_norm=after_norm)
    images = batch_for(asl).images[0]
    keep, _ = uniform_keep(4, 16, 0.75, CPU)
    both = asl.features(images, keep)
    ori, norm = asl.encoder(images, keep=keep), asl.encoder.vit.norm
    torch.testing.assert_close(both.patches[:4], ori.patches)
    assert asl.block is not None
    inside: list[Tensor] = []
    asl.encoder.vit.norm.register_forward_hook(lambda _, x, __: inside.append(x[0]))
    asl.encoder(images, keep=keep)
    plain = inside[0]  # (4, 1 + k, d) before the final norm
    expected = asl.block(norm(plain)) if after_norm else norm(asl.block(plain))
    torch.testing.assert_close(both.cls[4:], expected[:, 0])
    torch.testing.assert_close(both.patches[4:], expected[:, 1:])


def test_dropout_gives_two_features_of_the_same_visible_patches() -> None:
    asl = method(branch="dle")
    seen: list[Any] = []
    asl.encoder.register_forward_hook(
        lambda _, inputs, kwargs, __: seen.append(kwargs), with_kwargs=True
    )
    images = batch_for(asl).images[0]
    keep, _ = uniform_keep(4, 16, 0.75, CPU)
    both = asl.features(images, keep)
    assert torch.equal(seen[0]["keep"][:4], seen[0]["keep"][4:])
    assert seen[0]["dropout"] == 0.1
    one, two = both.patches.chunk(2)
    assert not torch.isclose(one, two).any(-1).all()
    asl.r = copy.copy(asl.r)
    object.__setattr__(asl.r, "dle_p", 0.0)
    one, two = asl.features(images, keep).patches.chunk(2)
    torch.testing.assert_close(one, two)


def test_dropout_takes_features_of_the_embedding_before_positions() -> None:
    encoder = method().encoder
    images = batch_for(method()).images[0]
    with torch.no_grad():
        encoder.vit.patch_embed.proj.weight.zero_()
        encoder.vit.patch_embed.proj.bias.fill_(0.5)
    seen: list[Tensor] = []
    encoder.vit.norm_pre.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    encoder(images, dropout=0.25)
    left = seen[0][:, 1:] - encoder.vit.pos_embed[:, 1:]
    kept = left.abs() > 1e-4
    torch.testing.assert_close(left[kept], torch.full_like(left[kept], 0.5 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.05)


def flops(method_class: type[Method], **options: Any) -> int:
    """Of a forward and backward pass of one image at ViT-B/16, without memory or values."""
    with torch.device("meta"):
        method = method_class(Plan.of(method_class.recipe(**options), 4096))
        image = torch.empty(1, 3, 224, 224)
        batch = Batch([image], torch.empty(1, 1, 4), torch.empty(1, 1), [None], torch.arange(1))
        with FlopCounterMode(display=False) as counter:
            method.losses(batch, 0)["loss"].backward()
    return int(counter.get_total_flops())


def test_the_cost_over_mae_is_that_of_the_paper() -> None:
    mae = flops(MAE)
    # Table 7 prints ~1.5x and ~2x.
    assert flops(ASL) / mae == pytest.approx(1.588, abs=0.001)
    assert flops(ASL, branch="dle") == 2 * mae
    assert flops(ASL, align_weight=0.0) == flops(ASL)
    assert flops(ASL, align_weight=0.0, mae_on="ori") == mae


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_a_dropout_that_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(SpecError, match="from 0 to below 1"):
        method(dle_p=p)


def test_the_recipe_is_mae_s_in_all_that_mae_has() -> None:
    ours, theirs = ASL.recipe(), MAE.recipe()
    assert all(getattr(ours, name) == value for name, value in vars(theirs).items())


@pytest.mark.parametrize(
    ("preset", "images", "iterations"),
    [
        ("in100_coco", 244_976, 47_200),
        ("in100_coco_long", 244_976, 236_000),
        ("imagenet", 1_281_167, 499_200),
    ],
)
def test_schedules_are_as_long_as_the_tables_say(preset: str, images: int, iterations: int) -> None:
    plan = Plan.of(ASL.recipe(**ASL.presets[preset]), images)
    assert plan.steps == pytest.approx(iterations, rel=0.01)

"""TokenSwin against timm and the authors' numbers, and methods of the DINO family on a Swin.

How the goldens were made. Weights, images and masks come from `numpy.random.RandomState`. On these
cases the official Swin of bytedance/ibot (da316d82636a7a7356835ef224b13d5f3ace0489) was run beside
ours on a CPU (torch 2.15, timm 1.0.31, one thread), its tensors renamed to timm's. Tokens agree bit
for bit in float64 and float32, and so do those of Swin-T with windows of 7 and 14 at 224, 160 and
96 px, with and without masks; gradients of all tensors to 4e-16, all weights after 4 AdamW steps on
224 and 96 px exactly in float64 and to 4e-7 in float32. timm's own forward differs from both by
0.05 to 0.3 of the largest token wherever windows do not divide a grid.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench.backbone import Backbone
from bench.checkpoint import load_model
from bench.engine import Settings, evaluate
from bench.errors import SpecError
from bench.network import build_network
from bench.spec import parse
from bench.store import Store
from tests.trainers.goldens import fill, normal
from tests.trainers.tiny import shaken
from trainers.blocks.encoder import encoder_of
from trainers.blocks.swin import TokenSwin
from trainers.blocks.views import Batch, collate
from trainers.blocks.vit import TokenViT
from trainers.loop import input_spec, prepare, resolve, train
from trainers.method import Method
from trainers.optim import make_optimizer
from trainers.recipe import Plan

ARCH = "swin_mini_patch2_window4_32"  # 2 x 2 patches of 16 px in the last stage
METHODS = ("dino", "ibot", "massl", "sove")
SMALL: dict[str, str] = dict.fromkeys(METHODS, "") | {
    "massl": "&bank=64&block=16",
    "sove": "&bank=64&patch_bank=64&anchors=16&patch_anchors=16",
}


def encoder(seed: int = 0, arch: str = ARCH) -> TokenSwin:
    torch.manual_seed(seed)
    found: TokenSwin = shaken(encoder_of(arch, mask_token=True))
    return found


def masks(side: int, seed: int) -> Tensor:
    drawn = np.random.RandomState(seed).random_sample((2, side, side)) < 0.4
    return torch.from_numpy(drawn).flatten(1)


# The encoder


def test_tokens_are_timms_and_their_average_is_the_class_token() -> None:
    model = encoder()
    images = normal(0, 2, 3, 32, 32)
    found, expected = model(images), model.vit.forward_features(images)
    torch.testing.assert_close(found.patches, expected.flatten(1, 2))
    torch.testing.assert_close(found.cls, expected.mean((1, 2)))
    assert (model.embed_dim, model.grid, model.patch_size) == (192, 2, 16)


def test_what_evaluation_reads_is_what_was_trained() -> None:
    model = encoder().eval()
    images = normal(0, 2, 3, 48, 48)
    with torch.no_grad():
        found, read = model(images), Backbone(model.vit, None).tokens(images)  # type: ignore[arg-type]
    assert torch.equal(found.patches, read.patches.flatten(1, 2))
    torch.testing.assert_close(found.cls, read.cls)


def test_masked_cells_become_the_mask_token_in_the_first_stage() -> None:
    model = encoder()
    mask = masks(2, 3)
    assert 0 < mask.sum() < mask.numel()
    seen: list[Tensor] = []
    model.vit.layers[0].blocks[0].norm1.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    plain, masked = model(normal(0, 2, 3, 32, 32)), model(normal(0, 2, 3, 32, 32), mask=mask)
    assert not torch.allclose(plain.patches, masked.patches)
    before, after = seen  # (b, 16, 16, c)
    for i in range(2):
        for y in range(16):
            for x in range(16):
                hidden = mask[i, (y // 8) * 2 + x // 8]
                expected = model.mask_token[0, 0, 0] if hidden else before[i, y, x]
                assert torch.equal(after[i, y, x], expected)


def test_what_a_masked_cell_shows_does_not_matter() -> None:
    model = encoder()
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[:, 1] = True  # above, right
    images = normal(0, 2, 3, 32, 32)
    one = model(images, mask=mask).patches
    images[:, :, :16, 16:] += 1
    assert torch.equal(model(images, mask=mask).patches, one)
    images[:, :, 16:, 16:] += 1
    assert not torch.allclose(model(images, mask=mask).patches, one)


def test_a_mask_token_that_is_not_asked_for_changes_no_bit_but_has_a_gradient() -> None:
    model = encoder()
    images = normal(0, 2, 3, 32, 32)
    plain = TokenSwin(model.vit)(images)
    found = model(images)
    assert torch.equal(found.patches, plain.patches)
    found.patches.sum().backward()
    assert torch.equal(model.mask_token.grad, torch.zeros_like(model.mask_token))


def test_views_and_inputs_that_a_swin_cannot_take_are_refused() -> None:
    model = encoder()
    with pytest.raises(SpecError, match="views of 40 px do not divide into patches of 16"):
        model(torch.zeros(1, 3, 40, 40))
    with pytest.raises(SpecError, match="cannot leave patches out"):
        model(torch.zeros(1, 3, 32, 32), keep=torch.zeros(1, 1, dtype=torch.long))


GOLDEN: dict[tuple[int, bool], list[float]] = {
    (32, False): [18.957140240055374, -0.021330258447, 39.54623121985004, -24.65189994668974],
    (32, True): [
        *(18.667299669963977, -8.193921301133562, 39.83372792093907, -19.002699754247114),
        *(260.44393927178436, -159.06327039984336, 242.6803633317137, 20.01463205021789),
    ],
    (64, False): [
        *(17.857162363293984, 0.8113971437238359),
        *(78.88444236969774, -6.8704843239717235),
    ],
    (64, True): [
        *(17.905751468116836, -1.3384646227945538, 79.6837986604099, -2.5540111689535046),
        *(1632.102336682424, -493.64129112728307, 371.8581567289584, -48.13555810810385),
    ],
}


def probes(x: Tensor) -> list[float]:
    """Norm, and a projection that sees order and sign."""
    x = x.detach().double().flatten()
    return [float(x.norm()), float(x @ torch.arange(len(x), dtype=torch.float64).cos())]


@pytest.mark.parametrize(("size", "masked"), GOLDEN)
def test_the_official_swin_gives_the_same_on_grids_that_no_window_divides(
    size: int, masked: bool
) -> None:
    model = TokenSwin(build_network("swin_mini_patch2_window3_32"), mask_token=True)  # type: ignore[arg-type]
    fill(model, 5)
    images = normal(size, 2, 3, size, size)
    found = model(images, masks(size // 16, size) if masked else None)
    numbers = probes(found.cls) + probes(found.patches)
    if masked:
        (found.cls.square().sum() + found.patches.square().sum()).backward()
        numbers += probes(model.mask_token.grad) + probes(model.vit.patch_embed.proj.weight.grad)
    golden = GOLDEN[size, masked]
    for i, value in enumerate(golden):
        assert numbers[i] == pytest.approx(value, abs=1e-5 * golden[i // 2 * 2]), i


def test_the_factory_knows_both_architectures() -> None:
    vit = encoder_of("vit_mini_patch4_32", drop_path=0.2, mask_token=True)
    assert isinstance(vit, TokenViT)
    assert vit.mask_token is not None
    assert 0.01 < vit.vit.cls_token.std() < 0.03
    swin = encoder_of(ARCH, drop_path=0.2)
    assert isinstance(swin, TokenSwin)
    assert swin.mask_token is None
    rates = [block.drop_path2 for stage in swin.vit.layers for block in stage.blocks]
    assert [round(getattr(rate, "drop_prob", 0.0), 4) for rate in rates] == pytest.approx(
        np.linspace(0, 0.2, 8), abs=1e-4
    )


# Methods


def build(name: str, more: str = "", seed: int = 0) -> Method:
    """A method as its ``small`` preset has it, on a Swin at 32 px in batches of 4."""
    text = f"{name}@mini_objects?preset=small&arch={ARCH}&batch_size=4{SMALL[name]}{more}"
    cls, recipe = resolve(parse(text))
    torch.manual_seed(seed)
    return cls(Plan.of(recipe, 40))


def batch_for(method: Method, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)) for _ in range(4)]
    batch = collate([(i, method.views(image, rng)) for i, image in enumerate(images)])
    return prepare(batch, method, seed)


@pytest.mark.parametrize("name", METHODS)
def test_every_trainable_parameter_gets_a_finite_gradient(name: str) -> None:
    method = build(name)
    batch = batch_for(method)
    assert [view.shape[-1] for view in batch.images] == [32, 32] + [16] * 4
    parts = method.losses(batch, 0)
    parts["loss"].backward()
    assert all(torch.isfinite(value) for value in parts.values())
    assert 0 < parts["feature_std"] <= 1.5
    for key, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_reproducible_and_its_state_complete(name: str) -> None:
    one, two, other = build(name), build(name), build(name, seed=1)
    for method in (one, two):
        optimizer = make_optimizer(method, method.plan.recipe)
        method.losses(batch_for(method), 0)["loss"].backward()
        optimizer.step()
        method.after_step(0)
    other.load_state_dict(one.state_dict())
    values = [m.losses(batch_for(m, 1), 1)["loss"].item() for m in (one, two, other)]
    assert len(set(values)) == 1


@pytest.mark.parametrize("name", METHODS)
def test_losses_change_nothing_until_the_step_is_over(name: str) -> None:
    method = build(name)
    before = copy.deepcopy(method.state_dict())
    method.losses(batch_for(method), 0)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_falls_when_one_batch_is_repeated(name: str) -> None:
    method = build(name, "&epochs=100&warmup_epochs=0")
    optimizer = make_optimizer(method, method.plan.recipe)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    batch = batch_for(method)
    values = []
    for _ in range(20):
        loss = method.losses(batch, 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]


@pytest.mark.parametrize("name", METHODS)
def test_the_backbone_is_one_that_evaluation_can_read(name: str) -> None:
    method = build(name)
    build_network(ARCH).load_state_dict(method.backbone().state_dict())
    backbone = Backbone(method.backbone(), input_spec(method), method.pos_interp).eval()
    with torch.no_grad():
        assert backbone.tokens(torch.zeros(2, 3, 32, 32)).patches.shape == (2, 2, 2, 192)


def test_masks_begin_at_their_epoch() -> None:
    method = build("ibot", "&mim_start_epoch=1&mask_ratios=0.5&mask_spreads=0")
    batch = batch_for(method)
    assert batch.masks[0].shape == (4, 4)
    assert batch.masks[0].any()
    assert method.losses(batch, 0)["patch"].item() == 0
    assert method.losses(batch, 10)["patch"].item() > 0


def test_the_teacher_has_no_stochastic_depth() -> None:
    method: Any = build("dino", "&drop_path=0.5")
    rates = {
        name: [m.drop_prob for m in network.modules() if type(m).__name__ == "DropPath"]
        for name, network in (("student", method.student), ("teacher", method.teacher))
    }
    assert max(rates["student"]) == 0.5
    assert set(rates["teacher"]) == {0.0}


@pytest.mark.parametrize("name", ["ibot", "sove"])
def test_swin_tiny_is_a_preset_with_windows_of_14(name: str) -> None:
    _, recipe = resolve(parse(f"{name}@imagenet1k?preset=swin_tiny"))
    assert recipe.arch == "swin_tiny_patch4_window14_224"
    assert (recipe.epochs, recipe.mim_start_epoch) == (300.0, 50.0)  # type: ignore[attr-defined]


PLAIN = ("asl", "mae", "mocov3", "slotcon", "slotmim")


@pytest.mark.parametrize("name", PLAIN)
def test_methods_that_need_a_plain_vit_say_so(name: str) -> None:
    cls, recipe = resolve(parse(f"{name}@mini_objects?preset=small&arch={ARCH}&batch_size=4"))
    with pytest.raises(SpecError, match="is a Swin Transformer, expected a plain"):
        cls(Plan.of(recipe, 40))


# From spec to score


def test_a_run_on_a_swin_trains_resumes_and_is_evaluated(mini: Path, tmp_path: Path) -> None:
    spec = (
        f"dino@mini_objects[n=32]?preset=small&arch={ARCH}&batch_size=16&epochs=3&workers=0"
        "&local_crops=1&out_dim=16&log_every=1"
    )
    train(spec, tmp_path / "whole", data=mini)
    train(spec, tmp_path / "parts", data=mini, stop_at=2)
    train(spec, tmp_path / "parts", data=mini, resume=True)
    whole, parts = (load_model(str(tmp_path / name)) for name in ("whole", "parts"))
    assert whole.report.complete
    assert whole.record.weights == parts.record.weights
    assert whole.record.arch == ARCH
    assert not isinstance(whole.backbone.vit.norm, nn.Identity)
    settings = Settings(data=mini, cache=tmp_path / "cache", workers=0)
    report = evaluate(
        [str(tmp_path / "whole")],
        ["knn@mini_objects[n=40]", "linear@mini_objects[n=40]?epochs=1"],
        Store(tmp_path / "results"),
        settings,
    )
    assert not report.failed
    assert len(report.ran) == 2

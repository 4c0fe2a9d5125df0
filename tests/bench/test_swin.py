"""Swin Transformers as architectures, behind a Backbone, and through tasks and checkpoints."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from bench import plan
from bench.backbone import Backbone, weights_digest
from bench.checkpoint import load_model
from bench.checkpoints.native import write_checkpoint
from bench.engine import Settings, evaluate
from bench.errors import SpecError
from bench.network import build_network, empty_network, seeded_network
from bench.recipes import RECIPES
from bench.store import Store
from bench.swin import block_outputs, embed, window_block
from bench.transforms import InputSpec
from bench.vit import build_vit
from tasks.linear_protocols import PROTOCOLS

ARCH = "swin_mini_patch2_window4_32"  # grids of 16, 8, 4 and 2; the last two are one window
WIDTHS = (24, 24, 48, 48, 96, 96, 192, 192)


def swin_of(arch: str = ARCH, seed: int = 0) -> Any:
    """A Swin whose every parameter is random: zero biases and fresh norms would hide mistakes."""
    swin = seeded_network(arch, seed).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in swin.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return swin


def images_of(height: int = 32, width: int = 32, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def backbone() -> Backbone:
    return Backbone(swin_of(), InputSpec(32)).eval()


# The function


def window_block64(block: Any, x: np.ndarray) -> np.ndarray:
    """One image (h, w, c) through a block, token by token, in float64."""
    state = {k: v.double().numpy() for k, v in block.state_dict().items()}
    (side, _), (shift, _) = block.window_size, block.shift_size
    h, w, c = x.shape
    heads, table = block.attn.num_heads, state["attn.relative_position_bias_table"]

    def norm(v: np.ndarray, name: str) -> np.ndarray:
        eps = getattr(block, name).eps
        v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + eps)
        return v * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(v: np.ndarray, name: str) -> np.ndarray:
        return v @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    high, wide = -(-h // side) * side, -(-w // side) * side
    padded = np.zeros((high, wide, c))
    padded[:h, :w] = norm(x, "norm1")
    qkv = linear(padded, "attn.qkv").reshape(high, wide, 3, heads, c // heads)

    def place(i: int, j: int) -> tuple[int, int, tuple[int, ...]]:
        """Of a token on the shifted grid: its place there, and which tokens it may look at."""
        row, column = (i - shift) % high, (j - shift) % wide
        # Only those that were neighbours before the shift brought both edges together.
        torn = (shift > 0 and i < shift, shift > 0 and j < shift)
        return row, column, (row // side, column // side, *torn)

    places = {(i, j): place(i, j) for i in range(high) for j in range(wide)}
    mixed = np.zeros((high, wide, c))
    for (i, j), (row, column, group) in places.items():
        others = [o for o, (_, _, theirs) in places.items() if theirs == group]
        for head in range(heads):
            scores = []
            for o in others:
                down = row - places[o][0] + side - 1
                right = column - places[o][1] + side - 1
                score = qkv[i, j, 0, head] @ qkv[(*o, 1, head)] * (c // heads) ** -0.5
                scores.append(score + table[down * (2 * side - 1) + right, head])
            weights = np.exp(scores - np.max(scores))
            weights /= weights.sum()
            value = sum(p * qkv[(*o, 2, head)] for p, o in zip(weights, others, strict=True))
            mixed[i, j, head * (c // heads) : (head + 1) * (c // heads)] = value
    x = x + linear(mixed, "attn.proj")[:h, :w]
    hidden = torch.nn.functional.gelu(torch.from_numpy(linear(norm(x, "norm2"), "mlp.fc1")))
    return x + linear(hidden.numpy(), "mlp.fc2")


@pytest.mark.parametrize("grid", [(8, 8), (6, 6), (7, 5), (3, 3)])
@pytest.mark.parametrize("index", [0, 1])
def test_a_block_equals_its_definition_on_grids_that_windows_do_not_divide(
    index: int, grid: tuple[int, int]
) -> None:
    block = swin_of().double().layers[1].blocks[index]
    assert block.shift_size == ((0, 0), (2, 2))[index]
    x = torch.randn(1, *grid, 48, dtype=torch.float64)
    with torch.no_grad():
        found = window_block(block, x)
    # -100 stands for minus infinity in the mask.
    np.testing.assert_allclose(found[0].numpy(), window_block64(block, x[0].numpy()), atol=1e-10)


@pytest.mark.parametrize("size", [32, 64])
def test_tokens_equal_timms_own_forward_where_windows_divide_the_grids(size: int) -> None:
    swin = swin_of()
    with torch.no_grad():
        found = Backbone(swin, InputSpec(32)).tokens(images_of(size, size)).patches
        torch.testing.assert_close(found, swin.forward_features(images_of(size, size)))


@pytest.mark.parametrize("size", [(24, 24), (40, 56), (34, 33), (2, 2)])
def test_images_of_any_size_are_read(backbone: Backbone, size: tuple[int, int]) -> None:
    with torch.no_grad():
        tokens = backbone.tokens(images_of(*size))
    assert tokens.patches.shape == (2, -(-(size[0] // 2) // 8), -(-(size[1] // 2) // 8), 192)
    assert torch.isfinite(tokens.patches).all()


def test_an_image_smaller_than_a_patch_is_refused(backbone: Backbone) -> None:
    with pytest.raises(SpecError, match="smaller than one 2 px patch"):
        backbone.tokens(images_of(1, 32))


def test_features_of_an_image_do_not_depend_on_its_batch(backbone: Backbone) -> None:
    images = images_of(24, 24, count=3)
    with torch.no_grad():
        together = backbone.features(images, ["cls4"])["cls4"]
        alone = [backbone.features(image[None], ["cls4"])["cls4"] for image in images]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        swin = swin_of().train()
        swin.set_grad_checkpointing(checkpointing)
        Backbone(swin, InputSpec(32))(images_of()).patches.square().sum().backward()
        gradients.append(swin.patch_embed.proj.weight.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


# Recipes


def test_every_recipe_follows_from_the_outputs_of_the_blocks(backbone: Backbone) -> None:
    swin, images = backbone.vit, images_of()
    with torch.no_grad():
        outputs = list(block_outputs(swin, embed(swin, images)))
        found = backbone.features(
            images, ["cls", "avg", "avg_fcnorm", "cls4", "cls4+avg", "patch", "patch@(2,3)"]
        )
        normed = [swin.norm(x) for x in outputs[-2:]]
    assert tuple(x.shape[-1] for x in outputs) == WIDTHS
    last = normed[-1].mean((1, 2))
    torch.testing.assert_close(found["cls"], last)
    torch.testing.assert_close(found["avg"], last)
    torch.testing.assert_close(found["avg_fcnorm"], swin.norm(outputs[-1].mean((1, 2))))
    # The final norm fits the last stage only; blocks before it are averaged as they are.
    four = torch.cat([x.mean((1, 2)) for x in (*outputs[-4:-2], *normed)], 1)
    assert four.shape == (2, 96 + 96 + 192 + 192)
    torch.testing.assert_close(found["cls4"], four)
    torch.testing.assert_close(found["cls4+avg"], torch.cat([four, last], 1))
    torch.testing.assert_close(found["patch"], normed[-1])
    torch.testing.assert_close(found["patch@(2,3)"], torch.stack(outputs[2:4], 1))


def test_tokens_carry_the_average_of_the_patches_as_cls(backbone: Backbone) -> None:
    with torch.no_grad():
        tokens = backbone.tokens(images_of(64, 32), layers=(3, -1))
    first, last = tokens.layers
    assert (first.patches.shape, last.patches.shape) == ((2, 16, 8, 48), (2, 4, 2, 192))
    for tap in tokens.layers:
        torch.testing.assert_close(tap.cls, tap.patches.mean((1, 2)))
    assert tokens.patches is last.patches


def test_what_a_swin_is(backbone: Backbone) -> None:
    facts = (backbone.embed_dim, backbone.depth, backbone.patch_size, backbone.has_cls)
    assert facts == (192, 8, 16, False)
    assert [backbone.width(b) for b in ("cls@-4", "cls@-1", "avg")] == [96, 192, 192]
    missing = [recipe for recipe in RECIPES if not backbone.available(recipe)]
    assert missing == ["patch@(3,5,7,11)", "key_last", "attn_cls", "proto"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("attn_cls", "a Swin attends within windows: use 'patch'"),
        ("key_last", "a Swin attends within windows: use 'patch'"),
        ("patch@(1,2)", "choose blocks of one stage of 0-1, 2-3, 4-5, 6-7"),
        ("patch@(1,8)", "has 8 blocks"),
        ("cls@-9", "has 8 blocks"),
    ],
)
def test_recipes_that_a_swin_cannot_give_say_why(
    backbone: Backbone, recipe: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        backbone.features(images_of(), [recipe])


def test_blocks_that_nobody_reads_do_not_run(backbone: Backbone) -> None:
    ran: list[int] = []
    blocks = [block for stage in backbone.vit.layers for block in stage.blocks]
    for index, block in enumerate(blocks):
        block.norm1.register_forward_hook(lambda *_, index=index: ran.append(index))
    with torch.no_grad():
        backbone.features(images_of(), ["patch@(2,3)"])
    assert ran == [0, 1, 2, 3]


def test_means_stay_in_float32_under_autocast(backbone: Backbone) -> None:
    with torch.no_grad():
        exact = backbone.features(images_of(), ["cls4"])["cls4"]
        with torch.autocast("cpu", torch.bfloat16):
            low = backbone.features(images_of(), ["cls4"])["cls4"]
    assert (low - exact).abs().mean() < 0.03 * exact.abs().mean()


def test_a_copy_of_a_backbone_reads_its_own_weights(backbone: Backbone) -> None:
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        before = backbone.tokens(images_of()).cls
        for parameter in other.vit.parameters():
            parameter.mul_(2)
        assert torch.equal(backbone.tokens(images_of()).cls, before)
        assert not torch.equal(other.tokens(images_of()).cls, before)


# Names, hashes, checkpoints


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swin_base_patch4_window12_384"])
def test_state_dicts_are_those_of_timm(name: str) -> None:
    ours = empty_network(name).state_dict()
    with torch.device("meta"):
        timms = timm.create_model(name, num_classes=0).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in timms.items()}


def test_windows_are_cut_down_to_the_grids_of_the_named_size() -> None:
    swin: Any = empty_network("swin_tiny_patch4_window14_224")
    blocks = [block for stage in swin.layers for block in stage.blocks]
    assert [b.window_size[0] for b in blocks] == [14] * 10 + [7] * 2
    assert [b.shift_size[0] for b in blocks] == [0, 7, 0, 7] + [0] * 8
    assert {m.eps for m in swin.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("swin_mini_patch2_window4_40", "choose a multiple of 16"),
        ("swin_mini_patch2_window0_32", "choose a multiple"),
        ("swin_tinny_patch4_window7_224", "did you mean 'swin_tiny_patch4_window7_224'"),
        ("swinv2_tiny_window8_256", "is a SwinTransformerV2"),
    ],
)
def test_unknown_architectures_are_refused_with_advice(arch: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_network(arch)


def test_what_needs_a_plain_vit_refuses_a_swin() -> None:
    with pytest.raises(SpecError, match="is a Swin Transformer, expected a plain Vision"):
        build_vit(ARCH)


def test_a_subclass_of_swin_is_not_read() -> None:
    class Other(type(swin_of())):  # type: ignore[misc]
        """A subclass might do more than the loop over blocks does."""

    with torch.device("meta"), pytest.raises(SpecError, match="this is a Other"):
        Backbone(Other(), InputSpec(224))


def test_signature_and_layout_tell_networks_apart_whose_weights_look_alike() -> None:
    # Windows of 4 are the whole last stage at 64 px, and are shifted there at 128 px.
    small, large = (Backbone(build_network(ARCH, img_size=s), InputSpec(32)) for s in (64, 128))
    heads = Backbone(build_network(ARCH, img_size=64, num_heads=(2, 2, 4, 8)), InputSpec(32))
    shapes = [{k: v.shape for k, v in b.vit.state_dict().items()} for b in (small, large)]
    assert shapes[0] == shapes[1]
    assert len({b.signature() for b in (small, large, heads)}) == 3
    assert len({str(b.layout()) for b in (small, large, heads)}) == 3


@pytest.mark.parametrize("name", ["random:" + ARCH, "timm:swin_tiny_patch4_window7_224"])
def test_families_load_a_swin(name: str) -> None:
    option = "seed=3" if name.startswith("random") else "pretrained=false&seed=3"
    one, two = load_model(f"{name}?{option}"), load_model(f"{name}?{option}")
    assert one.record.weights == two.record.weights
    assert plan.model_digest(one) == plan.model_digest(two)
    assert one.record.input["size_px"] == (32 if name.startswith("random") else 224)


def test_a_native_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    swin = swin_of()
    meta = {"arch": ARCH, "input": InputSpec.of_size(32).to_json(), "pos_interp": "dino"}
    write_checkpoint(tmp_path / "checkpoint", swin, None, meta)
    model = load_model(str(tmp_path))
    assert model.report.complete
    assert model.record.weights == weights_digest(swin.state_dict())
    assert not any(t.is_meta for t in (*model.backbone.parameters(), *model.backbone.buffers()))
    with torch.no_grad():
        found = model.backbone.tokens(images_of(24, 24)).patches
        assert torch.equal(found, Backbone(swin, InputSpec(32)).tokens(images_of(24, 24)).patches)


def test_a_file_of_timms_tensors_loads_whole(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    torch.save(timm.create_model(name).state_dict(), tmp_path / "swin.pth")
    model = load_model(f"timm:{name}?file={tmp_path / 'swin.pth'}")
    assert model.report.complete
    assert set(model.report.dropped) == {"head.fc.weight", "head.fc.bias"}
    with torch.no_grad():
        assert model.backbone.tokens(images_of(64, 64)).patches.shape == (2, 2, 2, 768)


# Tasks


def test_linear_reads_what_ibot_reads_of_a_swin(backbone: Backbone) -> None:
    resolved, lost = PROTOCOLS["linear_dino"].for_backbone(backbone)
    assert (resolved.tokens, lost) == (("cls4",), ())
    resolved, lost = PROTOCOLS["linear_cached"].for_backbone(backbone)
    assert (resolved.tokens, lost) == (("avg",), ())


def test_knn_and_linear_run_on_a_swin(mini: Path, tmp_path: Path) -> None:
    tasks = [
        "knn@mini_objects[n=40]",
        "knn@mini_objects[n=40]?token=cls",
        "linear@mini_objects[n=40]?epochs=2",
        "linear@mini_objects[n=40]?epochs=2&tokens=cls4:cls4+avg",
    ]
    settings = Settings(data=mini, cache=tmp_path / "cache", workers=0)
    report = evaluate([f"random:{ARCH}?seed=0"], tasks, Store(tmp_path / "results"), settings)
    assert not report.failed
    auto, named, *_ = [result.metrics["top1"].value for result in report.ran]
    assert auto == named, "the average of the patches is what cls means"

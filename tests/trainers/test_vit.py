"""TokenViT against timm, loops over images, and float64 position tables."""

import math

import numpy as np
import pytest
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.errors import SpecError
from tests.trainers.tiny import float64, tiny_vit
from trainers.blocks.vit import (
    TokenViT,
    init_mae,
    patchify,
    set_sincos_positions,
    sincos_positions,
)


def pictures(count: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def transformed(vit: VisionTransformer, patches: Tensor) -> Tensor:
    """One image's embedded patches (k, d), with their positions, through the blocks: (1 + k, d)."""
    cls = vit.cls_token[0, 0] + vit.pos_embed[0, 0]
    return vit.norm(vit.blocks(torch.stack((cls, *patches))[None]))[0]


def embedded(vit: VisionTransformer, images: Tensor) -> Tensor:
    """(b, n, d) patches without positions: each patch's pixels times the kernel, as a matrix."""
    kernel = vit.patch_embed.proj.weight.flatten(1)  # (d, 3 * p * p), channels first
    p = vit.patch_embed.patch_size[0]
    cells = (
        images.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    )
    return cells @ kernel.T + vit.patch_embed.proj.bias


def test_without_mask_and_keep_it_is_timms_forward_features() -> None:
    vit = tiny_vit()
    found = TokenViT(vit)(pictures())
    expected = vit.forward_features(pictures())
    torch.testing.assert_close(found.cls, expected[:, 0])
    torch.testing.assert_close(found.patches, expected[:, 1:])


def test_masked_patches_become_the_mask_token_before_positions_are_added() -> None:
    vit = tiny_vit()
    model = TokenViT(vit, mask_token=True)
    nn.init.normal_(model.mask_token)
    mask = torch.rand(3, 16, generator=torch.Generator().manual_seed(0)) < 0.4
    found = model(pictures(), mask=mask)
    patches = embedded(vit, pictures())
    for i in range(3):
        for j in range(16):
            if mask[i, j]:
                patches[i, j] = model.mask_token[0, 0]
        expected = transformed(vit, patches[i] + vit.pos_embed[0, 1:])
        torch.testing.assert_close(found.cls[i], expected[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.patches[i], expected[1:], atol=1e-5, rtol=1e-4)


def test_what_a_masked_patch_shows_does_not_matter() -> None:
    model = TokenViT(tiny_vit(), mask_token=True)
    mask = torch.zeros(3, 16, dtype=torch.bool)
    mask[:, 5] = True  # row 1, column 1 of the patches
    changed = pictures()
    changed[:, :, 4:8, 4:8] += 1
    one, two = model(pictures(), mask=mask), model(changed, mask=mask)
    assert torch.equal(one.patches, two.patches)
    changed[:, :, 4:8, 8:12] += 1
    assert not torch.allclose(one.patches, model(changed, mask=mask).patches)


def test_a_mask_token_that_is_not_asked_for_changes_no_bit_but_has_a_gradient() -> None:
    vit = tiny_vit()
    plain, with_token = TokenViT(vit), TokenViT(vit, mask_token=True)
    nn.init.normal_(with_token.mask_token)
    found = with_token(pictures())
    assert torch.equal(found.patches, plain(pictures()).patches)
    assert torch.equal(
        found.patches, with_token(pictures(), mask=torch.zeros(3, 16, dtype=torch.bool)).patches
    )
    found.patches.sum().backward()
    assert torch.equal(with_token.mask_token.grad, torch.zeros_like(with_token.mask_token))


def test_kept_patches_alone_enter_the_transformer_with_their_positions() -> None:
    vit = tiny_vit()
    keep = torch.stack([torch.randperm(16)[:5] for _ in range(3)])
    found = TokenViT(vit)(pictures(), keep=keep)
    placed = embedded(vit, pictures()) + vit.pos_embed[:, 1:]
    for i in range(3):
        expected = transformed(vit, torch.stack([placed[i, j] for j in keep[i]]))
        torch.testing.assert_close(found.cls[i], expected[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.patches[i], expected[1:], atol=1e-5, rtol=1e-4)


def test_the_size_convention_resamples_positions_as_timm_does() -> None:
    small, large = tiny_vit(), tiny_vit("vit_mini_patch4_28")
    state = small.state_dict()
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], [7, 7], [4, 4])
    large.load_state_dict(state)
    found = TokenViT(small, pos_interp="size")(pictures(size=28))
    expected = large.forward_features(pictures(size=28))
    torch.testing.assert_close(found.patches, expected[:, 1:], atol=1e-5, rtol=1e-4)


def cubic(t: float) -> float:
    """Keys' convolution kernel with a = -0.75."""
    t, a = abs(t), -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def resampling(old: int, new: int) -> np.ndarray:
    """(new, old) weights of DINO's bicubic interpolation, whose scale is (new + 0.1) / old."""
    weights = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * old / (new + 0.1) - 0.5
        for k in range(math.floor(centre) - 1, math.floor(centre) + 3):
            weights[i, min(max(k, 0), old - 1)] += cubic(centre - k)
    return weights


@pytest.mark.parametrize("grid", [2, 3, 7])
def test_dinos_convention_samples_positions_at_a_slightly_larger_grid(grid: int) -> None:
    small, other = tiny_vit(), tiny_vit(f"vit_mini_patch4_{4 * grid}")
    table = float64(small.pos_embed)[0, 1:].reshape(4, 4, -1)
    weights = resampling(4, grid)
    placed = np.einsum("ia,jb,abd->ijd", weights, weights, table).reshape(grid * grid, -1)
    state = small.state_dict()
    positions = torch.from_numpy(placed).float()[None]
    state["pos_embed"] = torch.cat((small.pos_embed[:, :1], positions), 1)
    other.load_state_dict(state)
    crops = pictures(size=4 * grid)
    found = TokenViT(small, pos_interp="dino")(crops)
    torch.testing.assert_close(found.patches, other.forward_features(crops)[:, 1:])


def test_sincos_positions_equal_a_float64_loop() -> None:
    dim, grid = 24, 5
    found = sincos_positions(dim, grid, prefix=2)
    assert found.shape == (1, 27, dim)
    assert not found[0, :2].any()
    for row in range(grid):
        for column in range(grid):
            for i in range(dim // 4):
                rate = 10000.0 ** (-i / (dim / 4))
                cell = found[0, 2 + row * grid + column]
                expected = [
                    f(place * rate) for place in (column, row) for f in (math.sin, math.cos)
                ]
                assert cell[i :: dim // 4].tolist() == pytest.approx(expected, abs=1e-6)


def test_sincos_positions_refuse_a_width_that_four_does_not_divide() -> None:
    with pytest.raises(ValueError, match="divisible by 4, found 30"):
        sincos_positions(30, 4, prefix=1)


@pytest.mark.parametrize("frozen", [True, False])
def test_sincos_positions_of_a_vit_are_trained_unless_frozen(frozen: bool) -> None:
    vit = tiny_vit()
    set_sincos_positions(vit, frozen=frozen)
    assert torch.equal(vit.pos_embed, sincos_positions(24, 4, prefix=1))
    assert vit.pos_embed.requires_grad != frozen


def test_mae_initialisation_is_xavier_with_the_patch_embedding_as_a_matrix() -> None:
    vit = tiny_vit()
    init_mae(vit)
    linear = vit.blocks[1].mlp.fc1  # 24 -> 96
    cases = [(linear.weight, 24 + 96), (vit.patch_embed.proj.weight, 3 * 4 * 4 + 24)]
    for weight, fans in cases:
        bound = math.sqrt(6 / fans)
        assert 0.95 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert not linear.bias.any()
    assert 0.01 < vit.cls_token.std() < 0.03


def test_patches_list_their_pixels_by_row_column_and_channel() -> None:
    images = pictures(2, 12)
    found = patchify(images, 4)
    assert found.shape == (2, 9, 48)
    for row in range(3):
        for column in range(3):
            pixels = [
                images[1, channel, 4 * row + y, 4 * column + x].item()
                for y in range(4)
                for x in range(4)
                for channel in range(3)
            ]
            assert found[1, 3 * row + column].tolist() == pixels


@pytest.mark.parametrize(
    "options", [{"reg_tokens": 2}, {"class_token": False}, {"no_embed_class": True}]
)
def test_a_vit_with_another_prefix_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(SpecError, match="class token"):
        TokenViT(tiny_vit(**options))


def test_images_that_patches_do_not_divide_are_refused() -> None:
    with pytest.raises(SpecError, match="10 px do not divide into patches of 4 px"):
        TokenViT(tiny_vit())(pictures(size=10))


def test_sizes_are_those_of_the_wrapped_vit() -> None:
    model = TokenViT(tiny_vit("vit_mini_patch4_28"))
    assert (model.embed_dim, model.grid, model.patch_size) == (24, 7, 4)

"""Photometric steps against torchvision, and where their parameters come from."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from trainers.blocks.photometric import (
    PRESETS,
    Photometric,
    augment,
    color_jitter,
    gaussian_blur,
    luma,
    preset,
    shift_hue,
    solarize,
)

NOTHING = Photometric(0, 0, 0, 0, jitter_p=0, gray_p=0, blur_p=0, solarize_p=0)
ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
STEPS = ("brightness", "contrast", "saturation", "hue")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 6, size: int = 12, seed: int = 0) -> Tensor:
    """Noise, with gray, primary and extreme pixels, where hue is undefined or at its corners."""
    out = torch.rand(count, 3, size, size, generator=generator(seed))
    out[:, :, 0, :3] = torch.tensor([0.0, 0.5, 1.0])
    out[:, :, 1, :3] = torch.eye(3)
    out[:, :, 2, :3] = 1 - torch.eye(3)
    return out


def drawn(strengths: dict[str, float], count: int, seed: int) -> tuple[Tensor, list[int]]:
    """The documented draws of color_jitter: (4, count) factors and the order of the steps."""
    g = generator(seed)
    noise = torch.stack([torch.rand(count, 1, 1, 1, generator=g).flatten() for _ in STEPS]) * 2 - 1
    centre = torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None]
    strength = torch.tensor([strengths.get(step, 0.0) for step in STEPS])[:, None]
    return centre + strength * noise, torch.randperm(4, generator=g).tolist()


@pytest.mark.parametrize(
    "strengths",
    [
        {"brightness": 0.8},
        {"contrast": 0.8},
        {"saturation": 0.8},
        {"hue": 0.2},
        {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1},
    ],
    ids=[*STEPS, "all"],
)
def test_jitter_equals_torchvision_with_the_same_factors(strengths: dict[str, float]) -> None:
    orders = set()
    for seed in range(12):
        x = images(seed=seed)
        found = color_jitter(x, replace(NOTHING, **strengths), generator(seed))
        factors, order = drawn(strengths, len(x), seed)
        orders.add(tuple(order))
        for i, image in enumerate(x):
            expected = image
            for step in order:
                if STEPS[step] in strengths:
                    expected = ADJUST[step](expected, factors[step, i].item())
            torch.testing.assert_close(found[i], expected, atol=2e-5, rtol=0)
    assert len(orders) > 3


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.07, 0.5])
def test_hue_shift_equals_torchvision(turns: float) -> None:
    x = images()
    found = shift_hue(x, torch.full((len(x), 1, 1, 1), turns))
    torch.testing.assert_close(found, tv.adjust_hue(x, turns), atol=1e-5, rtol=0)


def test_gray_equals_torchvision() -> None:
    x = images()
    torch.testing.assert_close(luma(x), tv.rgb_to_grayscale(x), atol=1e-6, rtol=0)
    gray = augment(x, replace(NOTHING, gray_p=1.0), generator())
    torch.testing.assert_close(gray, tv.rgb_to_grayscale(x, 3), atol=1e-6, rtol=0)


def test_solarize_equals_torchvision_on_every_byte() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, -1, -1)
    found = solarize(levels.float() / 255) * 255
    assert torch.equal(found.round().byte(), tv.solarize(levels, 128))


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_blur_equals_torchvision_with_the_same_sigma(sigma: float) -> None:
    x = images(size=24)
    side = 2 * math.ceil(3 * sigma) + 1
    expected = tv.gaussian_blur(x, [side, side], [sigma, sigma])
    torch.testing.assert_close(
        gaussian_blur(x, torch.full((len(x),), sigma)), expected, atol=1e-5, rtol=0
    )


def test_each_sample_is_blurred_with_its_own_sigma() -> None:
    x, sigmas = images(3, 24), torch.tensor([0.3, 1.0, 2.0])
    together = gaussian_blur(x, sigmas)
    for i in range(3):
        alone = gaussian_blur(x[i : i + 1], sigmas[i : i + 1])
        # The kernel's reach follows the widest: beyond 3 sigma lie 0.3 % of a Gaussian.
        torch.testing.assert_close(together[i], alone[0], atol=3e-3, rtol=0)


def test_blur_keeps_flat_images_and_takes_views_smaller_than_its_kernel() -> None:
    flat = torch.full((2, 3, 4, 5), 0.3)
    torch.testing.assert_close(gaussian_blur(flat, torch.tensor([0.5, 9.0])), flat)


def test_presets_are_those_of_the_published_table() -> None:
    byol = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
    rest = {"jitter_p": 0.8, "gray_p": 0.2, "sigma": (0.1, 2.0)}
    table = {
        "byol_a": Photometric(**byol, **rest, blur_p=1.0, solarize_p=0.0),
        "byol_b": Photometric(**byol, **rest, blur_p=0.1, solarize_p=0.2),
        "local": Photometric(**byol, **rest, blur_p=0.5, solarize_p=0.0),
        "simclr": Photometric(0.8, 0.8, 0.8, 0.2, **rest, blur_p=0.5, solarize_p=0.0),
    }
    assert table == PRESETS


def test_another_largest_sigma_changes_nothing_else() -> None:
    assert preset("byol_b") == PRESETS["byol_b"]
    assert preset("byol_b", 0.5) == replace(PRESETS["byol_b"], sigma=(0.1, 0.5))
    assert preset("byol_b", 0.05).sigma == (0.05, 0.05)


def test_a_largest_sigma_of_zero_means_no_blur() -> None:
    x = images()
    found = augment(x, replace(preset("byol_a", 0.0), jitter_p=0, gray_p=0), generator())
    assert torch.equal(found, x)


@pytest.mark.parametrize(
    ("field", "p"), [("jitter_p", 0.8), ("gray_p", 0.2), ("blur_p", 0.1), ("solarize_p", 0.2)]
)
def test_each_step_happens_with_its_probability(field: str, p: float) -> None:
    count = 4000
    x = images(1, 4).expand(count, -1, -1, -1)
    strength = replace(NOTHING, brightness=0.4, **{field: p}, sigma=(0.5, 1.0))
    changed = (augment(x, strength, generator()) != x).flatten(1).any(1).double().mean()
    assert abs(changed - p) < 4.5 * math.sqrt(p * (1 - p) / count)


def test_widths_of_the_blur_are_uniform_in_their_range() -> None:
    x = torch.zeros(1000, 3, 17, 17)
    x[:, :, 8, 8] = 1  # a blurred point is the kernel, whose variance is sigma squared
    rows = augment(x, replace(NOTHING, blur_p=1.0, sigma=(0.5, 1.5)), generator())[:, 0].sum(1)
    sigma = (rows * (torch.arange(17) - 8.0) ** 2).sum(1).sqrt()
    assert 0.45 < sigma.min() < 0.55
    assert 1.4 < sigma.max() < 1.52
    assert abs(sigma.mean() - 1) < 4.5 / math.sqrt(12 * 1000) + 0.01


def test_steps_are_chosen_independently() -> None:
    count = 4000
    x = images(1, 4).expand(count, -1, -1, -1)
    found = augment(x, replace(NOTHING, gray_p=0.5, solarize_p=0.5), generator())
    gray = (found[:, 0] == found[:, 1]).flatten(1).all(1).double()
    inverted = (found[:, :, 0, 2] < 0.01).all(1).double()  # the white pixel of images()
    joint = (gray * inverted).mean() - gray.mean() * inverted.mean()
    assert abs(joint) < 4.5 * 0.25 / math.sqrt(count)


@pytest.mark.parametrize("name", PRESETS)
def test_augmentation_follows_its_generator_and_nothing_else(name: str) -> None:
    x = images(16)
    kept = x.clone()
    torch.manual_seed(0)
    one = augment(x, PRESETS[name], generator(3))
    torch.manual_seed(1)
    assert torch.equal(one, augment(x, PRESETS[name], generator(3)))
    assert not torch.equal(one, augment(x, PRESETS[name], generator(4)))
    assert torch.equal(x, kept)
    assert one.min() >= 0
    assert one.max() <= 1


@pytest.mark.parametrize("name", PRESETS)
def test_what_one_image_shows_changes_no_other(name: str) -> None:
    x = images(16)
    other = x.clone()
    other[5] = 1 - other[5]
    one, two = (augment(y, PRESETS[name], generator(3)) for y in (x, other))
    rest = [i for i in range(16) if i != 5]
    assert torch.equal(one[rest], two[rest])
    assert not torch.equal(one[5], two[5])


def test_equal_images_get_different_parameters() -> None:
    x = images(1).expand(16, -1, -1, -1)
    found = augment(x, replace(PRESETS["byol_a"], jitter_p=1.0), generator())
    assert all(not torch.equal(found[0], other) for other in found[1:])


def test_zero_probabilities_leave_the_images_alone() -> None:
    assert torch.equal(augment(images(), NOTHING, generator()), images())

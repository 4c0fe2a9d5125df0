"""Photometric augmentation, batched on the device with its own parameters for each sample.

Semantics follow torchvision (factors, luma weights, clamping after each step); the blur is a true
Gaussian where PIL approximates one by boxes. The order of the four jitter steps is drawn once a
batch, not once an image: the published pipelines differ in that order without effect.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Photometric:
    """Strengths and probabilities of one preset.

    Attributes:
        brightness: factor drawn from [1 - b, 1 + b]; ``contrast`` and ``saturation`` likewise.
        contrast: see brightness.
        saturation: see brightness.
        hue: shift drawn from [-h, h] turns of the colour circle.
        jitter_p: probability of the four steps above.
        gray_p: probability of turning gray.
        blur_p: probability of a Gaussian blur.
        sigma: range of the blur's standard deviation in pixels.
        solarize_p: probability of inverting all values of at least one half.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    jitter_p: float = 0.8
    gray_p: float = 0.2
    blur_p: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0


PRESETS = {
    "byol_a": Photometric(blur_p=1.0),
    "byol_b": Photometric(blur_p=0.1, solarize_p=0.2),
    "local": Photometric(blur_p=0.5),
    "simclr": Photometric(0.8, 0.8, 0.8, 0.2, blur_p=0.5),
}


def preset(name: str, sigma_max: float = 2.0) -> Photometric:
    """A named preset of the published pipelines, with another largest blur if wanted.

    The published 2 px belong to 224 px views; small images need less, and 0 means no blur at all.
    """
    if sigma_max <= 0:
        return replace(PRESETS[name], blur_p=0.0)
    low = PRESETS[name].sigma[0]
    return replace(PRESETS[name], sigma=(min(low, sigma_max), sigma_max))


def augment(images: Tensor, strength: Photometric, generator: torch.Generator) -> Tensor:
    """Augmented copies of ``images``.

    Args:
        images: (b, 3, h, w) float in [0, 1].
        strength: what to draw from.
        generator: CPU generator; parameters are drawn on the host so that devices agree.

    Returns:
        (b, 3, h, w) float in [0, 1].
    """

    def chosen(p: float) -> Tensor:
        return torch.rand(len(images), generator=generator).lt(p).nonzero().flatten()

    images = images.clone()
    # Each step touches only the samples that drew it: most of the cost is in the blur.
    picked = chosen(strength.jitter_p)
    if len(picked):
        picked = picked.to(images.device)
        images[picked] = color_jitter(images[picked], strength, generator)
    picked = chosen(strength.gray_p)
    if len(picked):
        picked = picked.to(images.device)
        images[picked] = luma(images[picked]).expand(-1, 3, -1, -1)
    picked = chosen(strength.blur_p)
    if len(picked):
        low, high = strength.sigma
        sigma = low + (high - low) * torch.rand(len(picked), generator=generator)
        picked = picked.to(images.device)
        images[picked] = gaussian_blur(images[picked], sigma)
    picked = chosen(strength.solarize_p)
    if len(picked):
        picked = picked.to(images.device)
        images[picked] = solarize(images[picked])
    return images


def color_jitter(images: Tensor, strength: Photometric, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue of (b, 3, h, w), with factors for each sample."""

    def factor(strength: float, centre: float) -> Tensor:
        noise = torch.rand(len(images), 1, 1, 1, generator=generator) * 2 - 1
        return (centre + strength * noise).to(images.device, images.dtype)

    factors = (
        factor(strength.brightness, 1.0),
        factor(strength.contrast, 1.0),
        factor(strength.saturation, 1.0),
        factor(strength.hue, 0.0),
    )
    for step in torch.randperm(4, generator=generator).tolist():
        if step == 0:
            images = images * factors[0]
        elif step == 1:
            mean = luma(images).mean((1, 2, 3), keepdim=True)
            images = torch.lerp(mean.expand_as(images), images, factors[1])
        elif step == 2:
            images = torch.lerp(luma(images).expand_as(images), images, factors[2])
        elif strength.hue > 0:
            images = shift_hue(images, factors[3])
        images = images.clamp(0, 1)
    return images


def luma(images: Tensor) -> Tensor:
    """(b, 3, h, w) -> (b, 1, h, w), ITU-R 601 weights as torchvision has them."""
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Hue of (b, 3, h, w) in [0, 1] moved by ``turns`` (b, 1, 1, 1) of the colour circle.

    With value v and chroma c each channel of an HSV colour is ``v - c * clamp(min(k, 4 - k), 0,
    1)`` for ``k = (n + 6 * hue) mod 6``, n = 5, 3, 1 for red, green, blue: no case distinction is
    needed.
    """
    value, argmax = images.max(1)
    chroma = value - images.amin(1)
    red, green, blue = images.unbind(1)
    safe = chroma.clamp_min(1e-12)
    sector = torch.stack(
        ((green - blue) / safe, (blue - red) / safe + 2, (red - green) / safe + 4), 1
    )
    hue6 = sector.gather(1, argmax.unsqueeze(1)) + 6 * turns  # (b, 1, h, w), in sixths of a turn
    offset = torch.tensor([5.0, 3.0, 1.0], device=images.device, dtype=images.dtype)
    k = (offset.view(1, 3, 1, 1) + hue6) % 6
    return value.unsqueeze(1) - chroma.unsqueeze(1) * torch.minimum(k, 4 - k).clamp(0, 1)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Separable Gaussian blur of (b, 3, h, w) with a ``sigma`` (b,) in pixels for each sample.

    All kernels reach three times the largest ``sigma``; on the host, it makes no device wait.
    """
    b, c, h, w = images.shape
    radius = min(math.ceil(3 * float(sigma.max())), h - 1, w - 1)
    sigma = sigma.to(images)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma[:, None] ** 2), 1)  # (b, k)
    kernel = kernel.repeat_interleave(c, 0)  # (b * 3, k)
    flat = F.pad(images, (radius,) * 4, mode="reflect").view(
        1, b * c, h + 2 * radius, w + 2 * radius
    )
    flat = F.conv2d(flat, kernel.view(b * c, 1, 1, -1), groups=b * c)
    flat = F.conv2d(flat, kernel.view(b * c, 1, -1, 1), groups=b * c)
    return flat.view(b, c, h, w)


def solarize(images: Tensor, threshold: float = 128 / 255) -> Tensor:
    """Values of at least ``threshold`` inverted."""
    return torch.where(images >= threshold, 1 - images, images)

"""Policies: from what is seen at one moment to one action, in (-1, 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.robot.cloning.pooling import AttentivePooling
from tasks.robot.cloning.task import Pooling

HIDDEN = (512, 256, 128)
#: Side at which the convolutional policy sees a frame, in pixels.
PIXELS = 112
_CONVOLUTIONS = ((32, 8, 4), (64, 3, 2), (64, 3, 2))  # channels, side, stride


class ActionHead(nn.Sequential):
    """Linear layers of 512, 256, 128 with ReLU, then tanh: (b, d) -> (b, a), as in Hu et al.

    Weights start orthogonal, with a gain of one, and biases at zero: the first actions are small.
    """

    def __init__(self, dim: int, actions: int) -> None:
        layers: list[nn.Module] = []
        for width in HIDDEN:
            layers += [_linear(dim, width), nn.ReLU()]
            dim = width
        super().__init__(*layers, _linear(dim, actions), nn.Tanh())


def _linear(dim: int, width: int) -> nn.Linear:
    layer = nn.Linear(dim, width)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class TokenPolicy(nn.Module):
    """Frozen tokens (b, t, d) through attentive pooling, LayerNorm and the action head."""

    def __init__(self, dim: int, heads: int, actions: int) -> None:
        super().__init__()
        self.pooling = AttentivePooling(dim, heads)
        self.norm = nn.LayerNorm(dim)
        self.head = ActionHead(dim, actions)

    def forward(self, tokens: Tensor) -> Tensor:
        action: Tensor = self.head(self.norm(self.pooling(tokens)))
        return action


class VectorPolicy(nn.Module):
    """One frozen vector of the image (b, d) through LayerNorm and the action head."""

    def __init__(self, dim: int, actions: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.head = ActionHead(dim, actions)

    def forward(self, vectors: Tensor) -> Tensor:
        action: Tensor = self.head(self.norm(vectors))
        return action


class PixelPolicy(nn.Module):
    """Small frames (b, p, p, 3) uint8 through three convolutions, trained with the rest.

    The convolutions of Mnih et al. (2015) on 112 px, up to their widths; the plane that is left is
    read whole, so that where things are is kept.
    """

    def __init__(self, actions: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels, side, stride in _CONVOLUTIONS:
            layer = nn.Conv2d(before, channels, side, stride, padding=(side - stride + 1) // 2)
            nn.init.orthogonal_(layer.weight, math.sqrt(2))
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            layers += [layer, nn.ReLU()]
            before = channels
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        dim = before * (PIXELS // math.prod(stride for _, _, stride in _CONVOLUTIONS)) ** 2
        self.norm = nn.LayerNorm(dim)
        self.head = ActionHead(dim, actions)

    def forward(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(0.5)  # (b, 3, p, p)
        action: Tensor = self.head(self.norm(self.convolutions(images)))
        return action


def shrunk(frames: npt.NDArray[np.uint8]) -> Tensor:
    """(n, p, p, 3) uint8 frames at the side that `PixelPolicy` sees, each pixel a mean."""
    found = torch.empty((len(frames), PIXELS, PIXELS, 3), dtype=torch.uint8)
    for start in range(0, len(frames), 64):
        images = torch.from_numpy(frames[start : start + 64]).permute(0, 3, 1, 2).float()
        small = F.interpolate(images, (PIXELS, PIXELS), mode="area")
        found[start : start + 64] = small.round().byte().permute(0, 2, 3, 1)
    return found


class StatePolicy(nn.Module):
    """States (b, s), at the demonstrations' mean and spread, through the action head."""

    mean: Tensor
    spread: Tensor

    def __init__(self, states: npt.NDArray[np.float64], actions: int) -> None:
        super().__init__()
        spread = states.std(axis=0)
        still = spread < 1e-6 * np.maximum(np.abs(states).max(axis=0), 1.0)  # never moved
        self.register_buffer("mean", torch.from_numpy(states.mean(axis=0)).float())
        self.register_buffer("spread", torch.from_numpy(np.where(still, 1.0, spread)).float())
        self.head = ActionHead(states.shape[1], actions)

    def forward(self, states: Tensor) -> Tensor:
        action: Tensor = self.head((states - self.mean) / self.spread)
        return action


def pooled(pooling: Pooling, tokens: Tensor, has_cls: bool) -> Tensor:
    """What a policy reads of tokens (b, t, d): all of them for `map`, else one vector (b, d)."""
    if pooling == "map":
        return tokens
    return tokens[:, 0] if pooling == "cls" else tokens[:, int(has_cls) :].mean(dim=1)


def frozen_policy(pooling: Pooling, dim: int, heads: int, actions: int, seed: int) -> nn.Module:
    """An untrained policy on what `pooled` gives, of width `dim`.

    Raises:
        SpecError: the heads do not divide the width.
    """
    with _drawn_from(seed):
        if pooling == "map":
            return TokenPolicy(dim, heads, actions)
        return VectorPolicy(dim, actions)


def pixel_policy(actions: int, seed: int) -> PixelPolicy:
    """An untrained policy on pixels."""
    with _drawn_from(seed):
        return PixelPolicy(actions)


def state_policy(states: npt.NDArray[np.float64], actions: int, seed: int) -> StatePolicy:
    """An untrained policy on states, scaled by those of the demonstrations (n, s)."""
    with _drawn_from(seed):
        return StatePolicy(states, actions)


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """Initial weights follow from the seed alone, and nothing else changes."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield

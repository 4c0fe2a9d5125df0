"""Collapse canaries: numbers that fall to their floor when all images look alike to a network."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainers.blocks.prototypes import l2

# Below these a run has collapsed: all images on (nearly) one point, or all mass on one prototype.
LEAST_FEATURE_STD = 0.01
LEAST_PROTOTYPES = 1.05


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Spread of representations: 1 when they point in all directions alike, 0 when in one.

    The standard deviation over images of each feature of the normalised representations, its mean
    over features times ``sqrt(d)`` (Chen and He, "Exploring Simple Siamese Representation
    Learning", 2021, section 4.1). One image has no spread: it gives 1.

    Args:
        features: (n, d), one row an image.
    """
    if len(features) < 2:
        return features.new_ones((), dtype=torch.float32)
    z = l2(features.float())
    return z.std(0, correction=0).mean() * z.shape[-1] ** 0.5


@torch.no_grad()
def prototype_entropy(targets: Tensor) -> Tensor:
    """Entropy in nats of the mean target: log K when all prototypes are in use, 0 on collapse.

    Without a row there is nothing to watch: it gives log K.

    Args:
        targets: (..., K) probabilities.
    """
    rows = targets.float().flatten(0, -2)
    mean = rows.mean(0) if len(rows) else torch.full_like(rows.sum(0), 1 / rows.shape[1])
    return torch.special.entr(mean).sum()


def collapse(parts: Mapping[str, float]) -> str:
    """What of a step's canaries says collapse, in words; empty for a healthy run."""
    spread = parts.get("feature_std", 1.0)
    if spread < LEAST_FEATURE_STD:
        return f"all images have nearly the same features (feature_std {spread:.2g} of 1)"
    used = math.e ** parts.get("prototype_entropy", 1.0)
    if used < LEAST_PROTOTYPES:
        return f"one prototype takes all patches or images ({used:.3g} in use)"
    return ""

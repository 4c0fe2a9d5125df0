"""Methods small enough to test in milliseconds, and batches for them from the real pipeline."""

import math
from typing import Any, TypeVar
from unittest import mock

import numpy as np
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from bench.transforms import InputSpec
from bench.vit import WIDTHS, Width, build_vit
from trainers.blocks.views import Batch, collate, cut_views
from trainers.method import Method
from trainers.recipe import Plan

ARCH = "vit_mini_patch4_16"  # 4 x 4 patches
M = TypeVar("M", bound=Method)

SMALL_HEADS: dict[str, dict[str, Any]] = {
    "MAE": {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2},
    "DINO": {"head_hidden": 20, "head_dim": 12, "out_dim": 10, "local_crops": 2, "drop_path": 0.0},
    "iBOT": {"head_hidden": 20, "head_dim": 12, "out_dim": 10, "local_crops": 2, "drop_path": 0.0},
    "MaSSL": {
        "head_hidden": 20,
        "head_dim": 12,
        "bank": 64,
        "block": 16,
        "local_crops": 2,
        "drop_path": 0.0,
    },
    "SOVE": {
        "head_hidden": 20,
        "head_dim": 12,
        "bank": 64,
        "patch_bank": 32,
        "anchors": 10,
        "patch_anchors": 8,
        "judges": 4,
        "patch_judges": 1,
        "tasks": 2,
        "patch_tasks": 2,
        "local_crops": 2,
        "drop_path": 0.0,
    },
    "SlotMIM": {"head_hidden": 20, "head_dim": 12, "prototypes": 6, "drop_path": 0.0},
    "SlotCon": {"head_hidden": 20, "head_dim": 12, "prototypes": 6, "drop_path": 0.0},
    "MoCoV3": {"head_hidden": 20, "head_dim": 12},
    "ASL": {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2},
}


def tiny_vit(arch: str = ARCH, seed: int = 0, **options: Any) -> VisionTransformer:
    """A ViT 24 wide with 2 blocks, its biases and norms away from their initial 0 and 1."""
    torch.manual_seed(seed)
    with mock.patch.dict(WIDTHS, {"mini": Width(24, 2, 2)}):
        vit = build_vit(arch, **options)
    return shaken(vit)


def shaken(module: nn.Module) -> Any:
    """The module with noise on every trainable parameter, so that no 0 or 1 hides a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def tiny_method(cls: type[M], images: int = 64, seed: int = 0, **options: Any) -> M:
    """A method on the tiny ViT, in batches of 4: 16 steps an epoch, 10 epochs."""
    fixed = {"arch": ARCH, "batch_size": 4, "epochs": 10.0}
    recipe = cls.recipe(**(fixed | SMALL_HEADS[cls.__name__] | options))
    torch.manual_seed(seed)
    with mock.patch.dict(WIDTHS, {"mini": Width(24, 2, 2)}):
        return cls(Plan.of(recipe, images))


def batch_for(method: Method, count: int = 4, seed: int = 0) -> Batch:
    """Views of noise images, cut and masked by the method's own specs, normalised."""
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 256, (40, 52, 3), np.uint8)) for _ in range(count)]
    samples = [(i, cut_views(image, method.view_specs(), rng)) for i, image in enumerate(images)]
    batch = collate(samples)
    batch.images = [InputSpec().normalise(view) for view in batch.images]
    return batch


def drift(method: Method, seed: int = 1) -> None:
    """Move the student away from its teacher, as training does."""
    torch.manual_seed(seed)
    for child in method.children():
        if type(child).__name__ != "MomentumTeacher":
            shaken(child)


def softmax64(x: np.ndarray) -> np.ndarray:
    """Softmax over the last axis in float64."""
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def float64(x: torch.Tensor) -> np.ndarray:
    """A tensor as a float64 array without history."""
    return x.detach().double().numpy()


def mlp64(head: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """An MLP head of linear layers with the exact GELU between them, in float64."""
    linears = [module for module in head if isinstance(module, nn.Linear)]
    for i, layer in enumerate(linears):
        x = x @ float64(layer.weight).T + float64(layer.bias)
        if i < len(linears) - 1:
            x = x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return x

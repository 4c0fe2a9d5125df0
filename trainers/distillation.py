"""What methods with a momentum teacher share: recipe fields, networks, crops, losses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.errors import SpecError
from trainers.blocks.encoder import Encoder, encoder_of
from trainers.blocks.heads import mlp_head
from trainers.blocks.losses import soft_ce
from trainers.blocks.photometric import preset
from trainers.blocks.prototypes import Prototypes
from trainers.blocks.schedules import linear_warmup
from trainers.blocks.views import Batch, MaskSampler, ViewSpec
from trainers.blocks.vit import TokenOutput
from trainers.recipe import Plan, Recipe

# What the ``small`` presets of methods with local crops have in common.
SMALL: dict[str, Any] = {
    "batch_size": 128,
    "head_hidden": 256,
    "head_dim": 64,
    "local_crops": 4,
    "teacher_temp": 0.04,
    "momentum": 0.99,  # short runs: a teacher that follows within a hundred steps
    "warmup_epochs": 2.0,
    "drop_path": 0.0,
    "blur_sigma": 0.5,
}
# What makes of the ``small`` ones a run of minutes on the built-in mini benchmark.
MINI: dict[str, Any] = {
    "arch": "vit_mini_patch4_32",
    "epochs": 4.0,
    "lr": 2e-3,
    "warmup_epochs": 0.5,
    "momentum": 0.98,
}
# Without local crops, as SOVE's Table 7 compares methods.
TWO_CROP: dict[str, Any] = {"epochs": 300.0, "local_crops": 0, "global_area": (0.14, 1.0)}
# Where checkpoints have the first layer of the head, for fine-tuning from it (``Method.extras``).
HEAD_LAYER: dict[str, Any] = {"head": {"layer": "teacher.model.head.0"}}


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(Recipe):
    """Settings of a student that follows its own moving average.

    Attributes:
        student_temp: temperature of the student.
        teacher_temp: temperature of the teacher after its warm-up.
        teacher_temp_start: temperature of the teacher at the start.
        teacher_temp_epochs: epochs of that warm-up.
        momentum: of the teacher at the start; a cosine takes it to 1.
        blur_sigma: largest standard deviation of the Gaussian blur in pixels.
    """

    weight_decay_end: float | None = 0.4
    drop_path: float = 0.1
    student_temp: float = 0.1
    teacher_temp: float = 0.07
    teacher_temp_start: float = 0.04
    teacher_temp_epochs: float = 30.0
    momentum: float = 0.996
    blur_sigma: float = 2.0


@dataclass(frozen=True, kw_only=True)
class MultiCropRecipe(DistillationRecipe):
    """Settings of two global crops, which the teacher sees too, and local crops for the student.

    Attributes:
        global_area: area range of the two global crops.
        local_area: area range of the local crops.
        local_crops: number of local crops.
        local_size: side of a local crop in pixels; 0 means 3/7 of the global side (96 of 224),
            rounded to whole patches.
    """

    global_area: tuple[float, float] = (0.25, 1.0)
    local_area: tuple[float, float] = (0.05, 0.25)
    local_crops: int = 10
    local_size: int = 0


@dataclass(frozen=True, kw_only=True)
class PrototypeHeadRecipe(MultiCropRecipe):
    """Settings of an MLP head that ends in prototypes.

    Attributes:
        out_dim: number of prototypes K.
        head_hidden: hidden width of the head.
        head_dim: bottleneck width of the head.
        norm_last_layer: whether the gain of the last layer is frozen at 1 (True for ViT-B, False
            for ViT-S).
        centre_momentum: of the centre of the teacher's outputs.
        freeze_last_epochs: epochs in which the prototypes do not move.
    """

    out_dim: int = 65536
    head_hidden: int = 2048
    head_dim: int = 256
    norm_last_layer: bool = False
    centre_momentum: float = 0.9
    freeze_last_epochs: float = 1.0


@dataclass(frozen=True, kw_only=True)
class MaskedRecipe(MultiCropRecipe):
    """Settings of a loss between views beside one between masked patches and the teacher's.

    Attributes:
        cls_weight: of the loss between different views; 0 turns it off.
        patch_weight: of the loss between masked patches and the same patches of the teacher; 0
            turns it off (in iBOT not the masks: ``mask=none`` does).
        mask: shape of the masks of the student's global views.
        mask_ratios: centres of the mask ratio, one drawn for each view.
        mask_spreads: half-width of the mask ratio around each centre.
        mim_start_epoch: epochs before the first mask (50 for Swin).
    """

    cls_weight: float = 1.0
    patch_weight: float = 1.0
    mask: Literal["blockwise", "random", "none"] = "blockwise"
    mask_ratios: tuple[float, ...] = (0.0, 0.3)
    mask_spreads: tuple[float, ...] = (0.0, 0.2)
    mim_start_epoch: float = 0.0


def check_masked(recipe: MaskedRecipe) -> None:
    """Raise SpecError where nothing would be learned, or views and masks would have no loss."""
    r = recipe
    if not (r.cls_weight or r.patch_weight):
        raise SpecError("cls_weight and patch_weight are both 0: leave at least one loss on")
    if r.patch_weight and (r.mask == "none" or not any((*r.mask_ratios, *r.mask_spreads))):
        raise SpecError(
            f"patch_weight={r.patch_weight:g} with no patch masked: choose mask=blockwise and a "
            "mask ratio above 0, or set patch_weight=0"
        )
    if r.local_crops and not r.cls_weight:
        raise SpecError(
            f"local_crops={r.local_crops} with cls_weight=0: only the loss between views uses "
            "local crops, set local_crops=0"
        )


def student_masks(plan: Plan, batch: Batch, step: int) -> list[Tensor | None]:
    """The mask of each view: none of local ones, and nothing hidden before ``mim_start_epoch``."""
    r, masks = plan.recipe, batch.masks[:2]
    assert isinstance(r, MaskedRecipe)
    if plan.epoch(step) < r.mim_start_epoch:
        masks = [None if mask is None else torch.zeros_like(mask) for mask in masks]
    return masks + [None] * (len(batch.images) - 2)


def student_network(recipe: PrototypeHeadRecipe, *, mask_token: bool = False) -> nn.ModuleDict:
    """``encoder``, ``head`` and ``prototypes``, as DINO and iBOT start them."""
    r = recipe
    encoder = encoder_of(r.arch, drop_path=r.drop_path, mask_token=mask_token)
    gain: Literal["fixed", "free"] = "fixed" if r.norm_last_layer else "free"
    return nn.ModuleDict(
        {
            "encoder": encoder,
            "head": mlp_head(encoder.embed_dim, r.head_hidden, r.head_dim),
            "prototypes": Prototypes(r.head_dim, r.out_dim, gain=gain, init="linear"),
        }
    )


def multi_crop(
    recipe: MultiCropRecipe, encoder: Encoder, mask: MaskSampler | None = None
) -> tuple[ViewSpec, ...]:
    """Two global views, both masked by ``mask``, and the local ones behind them."""
    r, patch = recipe, encoder.patch_size
    size = encoder.grid * patch
    local = r.local_size or max(1, round(size * 3 / 7 / patch)) * patch
    return (
        ViewSpec(size, r.global_area, photometric=preset("byol_a", r.blur_sigma), mask=mask),
        ViewSpec(size, r.global_area, photometric=preset("byol_b", r.blur_sigma), mask=mask),
        *(ViewSpec(local, r.local_area, photometric=preset("local", r.blur_sigma)),)
        * r.local_crops,
    )


def tokens_by_view(
    encoder: Encoder, images: Sequence[Tensor], masks: Sequence[Tensor | None] | None = None
) -> list[TokenOutput]:
    """Tokens of each view; views of one size, masked alike or not at all, share a forward pass.

    Args:
        encoder: the network.
        images: per view (b, 3, s, s); views of one size stand together.
        masks: per view (b, patches) bool or None; without it no view is masked.

    Returns:
        Per view class tokens (b, d) and patches (b, n, d), in the order of ``images``.
    """
    masks = [None] * len(images) if masks is None else masks
    out: list[TokenOutput] = []
    start = 0
    for end in range(1, len(images) + 1):
        if end < len(images) and (
            images[end].shape[-1] == images[start].shape[-1]
            and (masks[end] is None) == (masks[start] is None)
        ):
            continue
        packed = [m for m in masks[start:end] if m is not None]
        tokens = encoder(torch.cat(list(images[start:end])), torch.cat(packed) if packed else None)
        pairs = zip(tokens.cls.chunk(end - start), tokens.patches.chunk(end - start), strict=True)
        out += [TokenOutput(cls, patches) for cls, patches in pairs]
        start = end
    return out


def class_scores(network: nn.ModuleDict, views: Sequence[TokenOutput]) -> list[Tensor]:
    """Prototype scores of each view's class token, per view (b, K)."""
    tokens = torch.cat([view.cls for view in views])
    return list(network["prototypes"](network["head"](tokens)).chunk(len(views)))


def cross_view_ce(student: Sequence[Tensor], targets: Sequence[Tensor], temp: float) -> Tensor:
    """Mean over teacher views i and student views v != i of CE(target_i, student_v / temp).

    Args:
        student: per view (b, K) scores.
        targets: per teacher view (b, K) probabilities; teacher views are the first student views.
        temp: temperature of the student.
    """
    terms = [
        soft_ce(s / temp, target).mean()
        for i, target in enumerate(targets)
        for v, s in enumerate(student)
        if v != i
    ]
    return torch.stack(terms).mean()


def teacher_temp(plan: Plan, step: int) -> float:
    """Teacher temperature of a step; it changes once an epoch, as in DINO's code."""
    r = plan.recipe
    assert isinstance(r, DistillationRecipe)
    epoch = int(plan.epoch(step))
    return linear_warmup(epoch, r.teacher_temp_start, r.teacher_temp, r.teacher_temp_epochs)


def teacher_temp_by_step(plan: Plan, step: int) -> float:
    """Teacher temperature of a step; it changes with every step, as in MaSSL's code."""
    r = plan.recipe
    assert isinstance(r, DistillationRecipe)
    steps = plan.at_epoch(r.teacher_temp_epochs)
    return linear_warmup(step, r.teacher_temp_start, r.teacher_temp, steps)


def frozen_until(plan: Plan, step: int, epochs: float, module: nn.Module) -> list[nn.Parameter]:
    """Parameters of ``module`` while fewer than ``epochs`` are done, then none."""
    if plan.epoch(step) >= epochs:
        return []
    return [p for p in module.parameters() if p.requires_grad]

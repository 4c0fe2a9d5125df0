"""iBOT: self-distillation of class tokens between crops, and of masked patches within a view."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.network import Network
from trainers.blocks.canaries import feature_std, prototype_entropy
from trainers.blocks.losses import mean_by_image, soft_ce
from trainers.blocks.masks import mask_sampler
from trainers.blocks.schedules import cosine, linear_warmup
from trainers.blocks.targets import Centre
from trainers.blocks.teacher import MomentumTeacher
from trainers.blocks.views import Batch, ViewSpec
from trainers.blocks.vit import TokenOutput
from trainers.distillation import (
    HEAD_LAYER,
    MINI,
    SMALL,
    TWO_CROP,
    MaskedRecipe,
    PrototypeHeadRecipe,
    check_masked,
    class_scores,
    cross_view_ce,
    frozen_until,
    multi_crop,
    student_masks,
    student_network,
    teacher_temp,
    tokens_by_view,
)
from trainers.method import Method
from trainers.recipe import Plan

VIT_BASE = {
    "arch": "vit_base_patch16_224",
    "epochs": 400.0,
    "lr": 7.5e-4,
    "min_lr": 2e-6,
    "clip": 0.3,
    "global_area": (0.32, 1.0),
    "local_area": (0.05, 0.32),
    "norm_last_layer": True,
    "teacher_temp_epochs": 50.0,
    "freeze_last_epochs": 3.0,
}


@dataclass(frozen=True, kw_only=True)
class iBOTRecipe(MaskedRecipe, PrototypeHeadRecipe):
    """Zhou et al., "iBOT: Image BERT Pre-Training with Online Tokenizer" (2022), ViT-S, 800 epochs.

    Attributes:
        patch_temp: temperature of the teacher's patches after its warm-up.
        patch_temp_start: their temperature until then; it rises along with the class token's.
    """

    arch: str = "vit_small_patch16_224"
    epochs: float = 800.0
    clip: float = 3.0
    out_dim: int = 8192
    patch_temp: float = 0.07
    patch_temp_start: float = 0.04


class iBOT(Method):
    """Image BERT with an online tokenizer: class token and patches share head and prototypes.

    ``L = w_cls (DINO's loss, the student's global views masked) + w_patch mean over global views
    and images of the mean over masked patches of CE(softmax((t - c) / tau_t), s / tau_s)``; the
    teacher sees no mask.
    """

    recipe = iBOTRecipe
    presets = {
        "vit_base": VIT_BASE,
        "vit_large": VIT_BASE | {"arch": "vit_large_patch16_224", "epochs": 250.0},
        "swin_tiny": {
            "arch": "swin_tiny_patch4_window14_224",
            "epochs": 300.0,
            "batch_size": 1040,
            "mim_start_epoch": 50.0,
        },
        "two_crop": TWO_CROP,
        # On scenes SlotMIM's authors tuned the teacher's temperature "if necessary for
        # convergence"; they give no value, and .04 is where its warm-up starts.
        "coco_plus": VIT_BASE | {"epochs": 800.0, "teacher_temp": 0.04, "patch_temp": 0.04},
        "small": {
            **SMALL,
            "out_dim": 1024,
            "patch_temp": 0.04,
            "norm_last_layer": True,
        },
        "mini": MINI | {"freeze_last_epochs": 0.5},
    }
    eval_branch = "teacher"
    pos_interp = "dino"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.r = r = plan.recipe
        assert isinstance(r, iBOTRecipe)
        self.student = student_network(r, mask_token=True)
        self.mask = mask_sampler(
            r.mask, self.student["encoder"].grid, r.mask_ratios, r.mask_spreads
        )
        check_masked(r)
        self.teacher = MomentumTeacher(self.student)
        self.centre = Centre(r.out_dim, r.centre_momentum)
        self.patch_centre = Centre(r.out_dim, r.centre_momentum)

    def view_specs(self) -> tuple[ViewSpec, ...]:
        return multi_crop(self.r, self.student["encoder"], self.mask)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        r, masks = self.r, student_masks(self.plan, batch, step)
        with torch.no_grad():
            seen = tokens_by_view(self.teacher.model["encoder"], batch.images[:2])
            teacher = class_scores(self.teacher.model, seen)
            self.centre.observe(torch.cat(teacher))
            temp = teacher_temp(self.plan, step)
            targets = [self.centre.probabilities(t, temp) for t in teacher]
        student = tokens_by_view(self.student["encoder"], batch.images, masks)
        parts: dict[str, Tensor] = {}
        if r.cls_weight:
            cls = class_scores(self.student, student)
            parts["cls"] = cross_view_ce(cls, targets, r.student_temp)
        watched, features = torch.cat(targets), seen[0].cls
        if r.patch_weight:
            mask = torch.cat([m for m in masks if m is not None])
            parts["patch"], patch_targets = self.patch_loss(student[:2], seen, mask, step)
            if not r.cls_weight:  # a class token without a loss may be the same for all images
                watched, features = patch_targets, seen[0].patches.mean(1)
        weights = {"cls": r.cls_weight, "patch": r.patch_weight}
        return {
            "loss": torch.stack([weights[name] * part for name, part in parts.items()]).sum(),
            **parts,
            "prototype_entropy": prototype_entropy(watched),
            "feature_std": feature_std(features),
        }

    def patch_loss(
        self, student: list[TokenOutput], teacher: list[TokenOutput], mask: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Masked patches of the student against the same of the teacher.

        Args:
            student: tokens of both global views.
            teacher: tokens of both global views, seen without masks.
            mask: (2b, n) bool, one view behind the other.
            step: decides the temperature.

        Returns:
            The loss, and the targets (m, K) of the masked patches.
        """
        image, place = mask.nonzero(as_tuple=True)  # (m,) each: all masked patches
        with torch.no_grad():
            head, prototypes = self.teacher.model["head"], self.teacher.model["prototypes"]
            tokens = head(torch.cat([view.patches for view in teacher]))  # (2b, n, d)
            self.patch_centre.observe(prototypes.mean_scores(tokens)[None])
            scores = prototypes(tokens[image, place])  # (m, d) -> (m, K)
            target = self.patch_centre.probabilities(scores, self.patch_temp(step))
        masked = torch.cat([view.patches for view in student])[image, place]
        scores = self.student["prototypes"](self.student["head"](masked))
        error = soft_ce(scores / self.r.student_temp, target)
        return mean_by_image(error, image, len(mask)), target

    def patch_temp(self, step: int) -> float:
        """Teacher temperature of patches; its warm-up starts with the masks."""
        r = self.r
        epoch = max(int(self.plan.epoch(step)) - r.mim_start_epoch, 0.0)
        return linear_warmup(epoch, r.patch_temp_start, r.patch_temp, r.teacher_temp_epochs)

    def frozen(self, step: int) -> list[nn.Parameter]:
        return frozen_until(self.plan, step, self.r.freeze_last_epochs, self.student["prototypes"])

    def after_step(self, step: int) -> None:
        self.centre.update()
        if self.r.patch_weight:
            self.patch_centre.update()
        self.teacher.update(self.student, cosine(step, self.r.momentum, 1.0, self.plan.steps))

    def extras(self) -> dict[str, Any]:
        if not (self.r.patch_weight and self.r.norm_last_layer):
            return HEAD_LAYER  # a free gain is no part of what reads prototypes as cosines
        return HEAD_LAYER | {
            "proto": {
                "projector": "teacher.model.head",
                "prototypes": "teacher.model.prototypes.weight",
                "temperature": self.r.patch_temp,
            }
        }

    def backbone(self) -> Network:
        return self.teacher.model["encoder"].vit

"""DINO: self-distillation of class tokens between global and local crops."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.network import Network
from trainers.blocks.canaries import feature_std, prototype_entropy
from trainers.blocks.schedules import cosine
from trainers.blocks.targets import Centre
from trainers.blocks.teacher import MomentumTeacher
from trainers.blocks.views import Batch, ViewSpec
from trainers.distillation import (
    HEAD_LAYER,
    MINI,
    SMALL,
    TWO_CROP,
    PrototypeHeadRecipe,
    class_scores,
    cross_view_ce,
    frozen_until,
    multi_crop,
    student_network,
    teacher_temp,
    tokens_by_view,
)
from trainers.method import Method
from trainers.recipe import Plan


@dataclass(frozen=True, kw_only=True)
class DINORecipe(PrototypeHeadRecipe):
    """Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021), ViT-S, 800
    epochs.
    """

    arch: str = "vit_small_patch16_224"
    epochs: float = 800.0
    min_lr: float = 1e-5


VIT_BASE = {
    "arch": "vit_base_patch16_224",
    "epochs": 400.0,
    "lr": 7.5e-4,
    "min_lr": 2e-6,
    "clip": 0.3,
    "norm_last_layer": True,
    "teacher_temp_epochs": 50.0,
    "freeze_last_epochs": 3.0,
}


class DINO(Method):
    """Self-distillation with no labels.

    ``L = mean over teacher views i and student views v != i of CE(softmax((t_i - c) / tau_t), s_v /
    tau_s)``; the teacher sees the two global crops, the student all.
    """

    recipe = DINORecipe
    presets = {
        "vit_base": VIT_BASE,
        "two_crop": TWO_CROP,
        # On scenes SlotMIM's authors changed the teacher's temperature until the loss went down.
        "coco_plus": VIT_BASE | {"epochs": 800.0, "teacher_temp": 0.04},
        "cifar": {
            "arch": "vit_small_patch4_32",
            "epochs": 1600.0,
            "out_dim": 4096,
            "norm_last_layer": True,
            "teacher_temp": 0.04,
            "blur_sigma": 0.5,
        },
        "small": {
            **SMALL,
            "out_dim": 1024,
            "clip": 3.0,
            "norm_last_layer": True,
        },
        "mini": MINI | {"freeze_last_epochs": 0.5},
    }
    eval_branch = "teacher"
    pos_interp = "dino"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.r = r = plan.recipe
        assert isinstance(r, DINORecipe)
        self.student = student_network(r)
        self.teacher = MomentumTeacher(self.student)
        self.centre = Centre(r.out_dim, r.centre_momentum)

    def view_specs(self) -> tuple[ViewSpec, ...]:
        return multi_crop(self.r, self.student["encoder"])

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        with torch.no_grad():
            seen = tokens_by_view(self.teacher.model["encoder"], batch.images[:2])
            teacher = class_scores(self.teacher.model, seen)
            self.centre.observe(torch.cat(teacher))
            temp = teacher_temp(self.plan, step)
            targets = [self.centre.probabilities(t, temp) for t in teacher]
        student = class_scores(self.student, tokens_by_view(self.student["encoder"], batch.images))
        return {
            "loss": cross_view_ce(student, targets, self.r.student_temp),
            "prototype_entropy": prototype_entropy(torch.cat(targets)),
            "feature_std": feature_std(seen[0].cls),
        }

    def frozen(self, step: int) -> list[nn.Parameter]:
        return frozen_until(self.plan, step, self.r.freeze_last_epochs, self.student["prototypes"])

    def after_step(self, step: int) -> None:
        self.centre.update()
        self.teacher.update(self.student, cosine(step, self.r.momentum, 1.0, self.plan.steps))

    def extras(self) -> dict[str, Any]:
        return HEAD_LAYER

    def backbone(self) -> Network:
        return self.teacher.model["encoder"].vit

"""DINO: self-distillation of class tokens between global and local crops."""

from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.vit import build_vit
from trainers.blocks.canaries import feature_std, prototype_entropy
from trainers.blocks.heads import mlp_head
from trainers.blocks.prototypes import Prototypes
from trainers.blocks.schedules import cosine
from trainers.blocks.targets import Centre
from trainers.blocks.teacher import MomentumTeacher
from trainers.blocks.views import Batch, ViewSpec
from trainers.blocks.vit import TokenOutput, TokenViT
from trainers.distillation import (
    MultiCropRecipe,
    cross_view_ce,
    frozen_until,
    multi_crop,
    teacher_temp,
    tokens_by_view,
)
from trainers.method import Method
from trainers.recipe import Plan


@dataclass(frozen=True, kw_only=True)
class DINORecipe(MultiCropRecipe):
    """Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021), ViT-S, 800
    epochs.

    Attributes:
        out_dim: number of prototypes K.
        head_hidden: hidden width of the head.
        head_dim: bottleneck width of the head.
        norm_last_layer: whether the gain of the last layer is frozen at 1 (True for ViT-B, False
            for ViT-S).
        centre_momentum: of the centre of the teacher's outputs.
        freeze_last_epochs: epochs in which the prototypes do not move.
    """

    arch: str = "vit_small_patch16_224"
    epochs: float = 800.0
    min_lr: float = 1e-5
    out_dim: int = 65536
    head_hidden: int = 2048
    head_dim: int = 256
    norm_last_layer: bool = False
    centre_momentum: float = 0.9
    freeze_last_epochs: float = 1.0


class DINO(Method):
    """Self-distillation with no labels.

    ``L = mean over teacher views i and student views v != i of CE(softmax((t_i - c) / tau_t), s_v /
    tau_s)``; the teacher sees the two global crops, the student all.
    """

    recipe = DINORecipe
    presets = {
        "vit_base": {
            "arch": "vit_base_patch16_224",
            "epochs": 400.0,
            "lr": 7.5e-4,
            "min_lr": 2e-6,
            "clip": 0.3,
            "norm_last_layer": True,
            "teacher_temp_epochs": 50.0,
            "freeze_last_epochs": 3.0,
        },
        "small": {
            "batch_size": 128,
            "out_dim": 1024,
            "head_hidden": 256,
            "head_dim": 64,
            "local_crops": 4,
            "teacher_temp": 0.04,
            "momentum": 0.99,  # short runs: a teacher that follows within a hundred steps
            "warmup_epochs": 2.0,
            "clip": 3.0,
            "norm_last_layer": True,
            "drop_path": 0.0,
            "blur_sigma": 0.5,
        },
    }
    eval_branch = "teacher"
    pos_interp = "dino"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.r = r = plan.recipe
        assert isinstance(r, DINORecipe)
        vit = build_vit(r.arch, drop_path_rate=r.drop_path)
        nn.init.trunc_normal_(vit.cls_token, std=0.02)  # timm starts it at 1e-6
        encoder = TokenViT(vit)
        self.student = nn.ModuleDict(
            {
                "encoder": encoder,
                "head": mlp_head(encoder.embed_dim, r.head_hidden, r.head_dim),
                "prototypes": Prototypes(
                    r.head_dim,
                    r.out_dim,
                    gain="fixed" if r.norm_last_layer else "free",
                    init="linear",
                ),
            }
        )
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

    def backbone(self) -> VisionTransformer:
        return self.teacher.model["encoder"].vit


def class_scores(network: nn.ModuleDict, views: list[TokenOutput]) -> list[Tensor]:
    """Prototype scores of each view's class token, per view (b, K)."""
    tokens = torch.cat([view.cls for view in views])
    return list(network["prototypes"](network["head"](tokens)).chunk(len(views)))

"""DINO: self-distillation of class tokens between global and local crops."""

from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.vit import build_vit
from trainers.blocks.heads import mlp_head
from trainers.blocks.losses import soft_ce
from trainers.blocks.photometric import preset
from trainers.blocks.prototypes import Prototypes
from trainers.blocks.schedules import cosine, linear_warmup
from trainers.blocks.targets import Centre
from trainers.blocks.teacher import MomentumTeacher
from trainers.blocks.views import Batch, ViewSpec
from trainers.blocks.vit import TokenViT
from trainers.method import Method
from trainers.recipe import Plan, Recipe


@dataclass(frozen=True, kw_only=True)
class DINORecipe(Recipe):
    """Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021), ViT-S, 800
    epochs.

    Attributes:
        out_dim: number of prototypes K.
        head_hidden: hidden width of the head.
        head_dim: bottleneck width of the head.
        norm_last_layer: whether the gain of the last layer is frozen at 1 (True for ViT-B, False
            for ViT-S).
        global_area: area range of the two global crops.
        local_area: area range of the local crops.
        local_crops: number of local crops.
        local_size: side of a local crop in pixels; 0 means 3/7 of the global side (96 of 224),
            rounded to whole patches.
        student_temp: temperature of the student.
        teacher_temp: temperature of the teacher after its warm-up.
        teacher_temp_start: temperature of the teacher at the start.
        teacher_temp_epochs: epochs of that warm-up.
        momentum: of the teacher at the start; a cosine takes it to 1.
        centre_momentum: of the centre of the teacher's outputs.
        freeze_last_epochs: epochs in which the prototypes do not move.
        blur_sigma: largest standard deviation of the Gaussian blur in pixels.
    """

    arch: str = "vit_small_patch16_224"
    epochs: float = 800.0
    min_lr: float = 1e-5
    weight_decay_end: float | None = 0.4
    drop_path: float = 0.1
    out_dim: int = 65536
    head_hidden: int = 2048
    head_dim: int = 256
    norm_last_layer: bool = False
    global_area: tuple[float, float] = (0.25, 1.0)
    local_area: tuple[float, float] = (0.05, 0.25)
    local_crops: int = 10
    local_size: int = 0
    student_temp: float = 0.1
    teacher_temp: float = 0.07
    teacher_temp_start: float = 0.04
    teacher_temp_epochs: float = 30.0
    momentum: float = 0.996
    centre_momentum: float = 0.9
    freeze_last_epochs: float = 1.0
    blur_sigma: float = 2.0


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
        r, encoder = self.r, self.student["encoder"]
        size = encoder.grid * encoder.patch_size
        local = (
            r.local_size or max(1, round(size * 3 / 7 / encoder.patch_size)) * encoder.patch_size
        )
        return (
            ViewSpec(size, r.global_area, photometric=preset("byol_a", r.blur_sigma)),
            ViewSpec(size, r.global_area, photometric=preset("byol_b", r.blur_sigma)),
            *(ViewSpec(local, r.local_area, photometric=preset("local", r.blur_sigma)),)
            * r.local_crops,
        )

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        with torch.no_grad():
            teacher = scores_by_view(self.teacher.model, batch.images[:2])
            self.centre.observe(torch.cat(teacher))
            targets = [self.centre.probabilities(t, self.teacher_temp(step)) for t in teacher]
        student = scores_by_view(self.student, batch.images)
        terms = [
            soft_ce(s / self.r.student_temp, target).mean()
            for i, target in enumerate(targets)
            for v, s in enumerate(student)
            if v != i
        ]
        return {"loss": torch.stack(terms).mean(), "target_entropy": entropy(targets)}

    def teacher_temp(self, step: int) -> float:
        """Teacher temperature; it changes once an epoch, as in the official code."""
        r = self.r
        epoch = int(self.plan.epoch(step))
        return linear_warmup(epoch, r.teacher_temp_start, r.teacher_temp, r.teacher_temp_epochs)

    def frozen(self, step: int) -> list[nn.Parameter]:
        early = self.plan.epoch(step) < self.r.freeze_last_epochs
        return list(self.student["prototypes"].parameters()) if early else []

    def after_step(self, step: int) -> None:
        self.centre.update()
        self.teacher.update(self.student, cosine(step, self.r.momentum, 1.0, self.plan.steps))

    def backbone(self) -> VisionTransformer:
        return self.teacher.model["encoder"].vit


def scores_by_view(network: nn.ModuleDict, images: list[Tensor]) -> list[Tensor]:
    """Prototype scores of each view's class token; views of one size share a forward pass.

    Args:
        network: ``encoder``, ``head`` and ``prototypes``.
        images: per view (b, 3, s, s); views of one size stand together.

    Returns:
        Per view (b, K), in the order of ``images``.
    """
    tokens: list[Tensor] = []
    start = 0
    for end in range(1, len(images) + 1):
        if end == len(images) or images[end].shape[-1] != images[start].shape[-1]:
            tokens.append(network["encoder"](torch.cat(images[start:end])).cls)
            start = end
    scores = network["prototypes"](network["head"](torch.cat(tokens)))
    return list(scores.chunk(len(images)))


def entropy(targets: list[Tensor]) -> Tensor:
    """Entropy in nats of the mean target: log K when all prototypes are in use, 0 on collapse."""
    mean = torch.cat(targets).mean(0)
    return -(mean * mean.clamp_min(1e-12).log()).sum()

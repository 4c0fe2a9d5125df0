"""MoCo v3: contrast of two crops of an image against the other images, with a momentum encoder."""

from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.errors import SpecError
from bench.vit import build_vit
from trainers.blocks.canaries import feature_std
from trainers.blocks.heads import mlp_head
from trainers.blocks.losses import info_nce
from trainers.blocks.photometric import preset
from trainers.blocks.schedules import cosine
from trainers.blocks.teacher import MomentumTeacher
from trainers.blocks.views import Batch, ViewSpec
from trainers.blocks.vit import TokenViT, init_mocov3, set_sincos_positions
from trainers.distillation import tokens_by_view
from trainers.method import Method
from trainers.recipe import Plan, Recipe, Schedule


@dataclass(frozen=True, kw_only=True)
class MoCoV3Recipe(Recipe):
    """Chen et al., "An Empirical Study of Training Self-Supervised Vision Transformers" (2021),
    ViT-B, 300 epochs.

    Attributes:
        heads: attention heads of the encoder; 0 means those of ``arch`` (the paper's ViT-S has 12).
        freeze_patch_embed: whether the random patch embedding stays as it is.
        head_hidden: hidden width of projector and predictor.
        head_dim: width of queries and keys.
        area: area range of both crops.
        temperature: tau of the contrast.
        momentum: of the momentum encoder at the start; a cosine takes it to 1.
        blur_sigma: largest standard deviation of the Gaussian blur in pixels.
    """

    batch_size: int = 4096
    lr: float = 1.5e-4
    min_lr: float = 0.0
    warmup_epochs: float = 40.0
    schedule: Schedule = "mae"
    weight_decay: float = 0.1
    decay_1d: bool = True
    heads: int = 0
    freeze_patch_embed: bool = True
    head_hidden: int = 4096
    head_dim: int = 256
    area: tuple[float, float] = (0.08, 1.0)
    temperature: float = 0.2
    momentum: float = 0.99
    blur_sigma: float = 2.0


class MoCoV3(Method):
    """Momentum contrast of class tokens.

    ``L = 2 tau (InfoNCE(q_1, k_2) + InfoNCE(q_2, k_1))`` with ``q = predictor(projector(student))``
    and ``k = projector(teacher)``; the images of all processes are each other's negatives.
    """

    recipe = MoCoV3Recipe
    presets = {
        "vit_small": {"arch": "vit_small_patch16_224", "heads": 12},
        "coco_plus": {"epochs": 800.0},
        "small": {
            "batch_size": 128,
            "lr": 1e-3,
            "warmup_epochs": 2.0,
            "head_hidden": 256,
            "head_dim": 64,
            "momentum": 0.996,  # the authors' advice for small batches
            "blur_sigma": 0.5,
        },
        "mini": {"arch": "vit_mini_patch4_32", "epochs": 4.0, "warmup_epochs": 0.5},
    }

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.r = r = plan.recipe
        assert isinstance(r, MoCoV3Recipe)
        if r.batch_size // r.accumulate < 2:
            raise SpecError(
                f"batch_size={r.batch_size} in accumulate={r.accumulate} parts leaves one image at "
                "a time, which has nothing to differ from: choose a batch_size of at least "
                f"{2 * r.accumulate}"
            )
        vit = build_vit(r.arch, drop_path_rate=r.drop_path, **self.arch_kwargs())
        set_sincos_positions(vit, frozen=True)
        init_mocov3(vit)
        vit.patch_embed.requires_grad_(not r.freeze_patch_embed)
        encoder = TokenViT(vit)
        self.student = nn.ModuleDict(
            {"encoder": encoder, "projector": self.head(encoder.embed_dim, 3)}
        )
        self.predictor = self.head(r.head_dim, 2)
        self.teacher = MomentumTeacher(self.student)

    def head(self, in_dim: int, layers: int) -> nn.Sequential:
        """Linear layers without bias, batch normalisation after each, the last one without gain."""
        return mlp_head(
            in_dim,
            self.r.head_hidden,
            self.r.head_dim,
            layers,
            norm="bn",
            act="relu",
            bias=False,
            last_norm="bn",
            last_affine=False,
            init="linear",
        )

    def view_specs(self) -> tuple[ViewSpec, ...]:
        r, encoder = self.r, self.student["encoder"]
        size = encoder.grid * encoder.patch_size
        return tuple(
            ViewSpec(size, r.area, photometric=preset(name, r.blur_sigma), interpolation="bilinear")
            for name in ("byol_a", "byol_b")
        )

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        tokens = [view.cls for view in tokens_by_view(self.student["encoder"], batch.images)]
        # Heads see one view at a time: their batch statistics are of a view.
        q1, q2 = (self.predictor(self.student["projector"](cls)) for cls in tokens)
        with torch.no_grad():
            teacher = self.teacher.model
            seen = tokens_by_view(teacher["encoder"], batch.images)
            k1, k2 = (teacher["projector"](view.cls) for view in seen)
        tau = self.r.temperature
        return {
            "loss": 2 * tau * (info_nce(q1, k2, tau) + info_nce(q2, k1, tau)),
            "feature_std": feature_std(tokens[0]),
        }

    def after_step(self, step: int) -> None:
        # The code moves the teacher before it looks, which is after the step but one index later.
        self.teacher.update(self.student, cosine(step + 1, self.r.momentum, 1.0, self.plan.steps))

    def arch_kwargs(self) -> dict[str, Any]:
        return {"num_heads": self.r.heads} if self.r.heads else {}

    def backbone(self) -> VisionTransformer:
        return self.student["encoder"].vit

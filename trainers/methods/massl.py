"""MaSSL: class tokens of crops agree on random blocks of a memory of earlier images."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import SpecError
from bench.network import Network
from trainers.blocks.bank import Bank, check_bank
from trainers.blocks.canaries import feature_std, prototype_entropy
from trainers.blocks.encoder import encoder_of
from trainers.blocks.heads import mlp_head
from trainers.blocks.judges import cosines, cross_view_votes, draw_anchors, embed
from trainers.blocks.schedules import cosine
from trainers.blocks.teacher import MomentumTeacher
from trainers.blocks.views import Batch, ViewSpec
from trainers.distillation import (
    HEAD_LAYER,
    MINI,
    SMALL,
    MultiCropRecipe,
    multi_crop,
    teacher_temp_by_step,
    tokens_by_view,
)
from trainers.method import Method
from trainers.recipe import Plan


@dataclass(frozen=True, kw_only=True)
class MaSSLRecipe(MultiCropRecipe):
    """Silva et al., "Learning from Memory" (2024), ViT-S, 800 epochs, by the published commands.

    The warm-up of the teacher's temperature goes by steps here, not by epochs.

    Attributes:
        bank: embeddings in memory (the published commands; the code's default is 65,536).
        block: embeddings in one block of the memory; it divides ``bank``.
        head_hidden: hidden width of the head.
        head_dim: width of embeddings.
    """

    arch: str = "vit_small_patch16_224"
    epochs: float = 800.0
    warmup_epochs: float = 0.0
    clip: float = 3.0
    momentum: float = 0.992
    global_area: tuple[float, float] = (0.32, 1.0)
    local_area: tuple[float, float] = (0.05, 0.32)
    bank: int = 131072
    block: int = 16384
    head_hidden: int = 2048
    head_dim: int = 256


class MaSSL(Method):
    """Memory-augmented self-supervised learning, without prototypes and without centring.

    ``L = mean over blocks of the memory, teacher views i and student views v != i of
    CE(softmax(z_i M_block^T / tau_t), softmax(z_v M_block^T / tau_s))``. A new permutation cuts the
    memory into blocks in each step; then the teacher's second view goes into it.
    """

    recipe = MaSSLRecipe
    presets = {
        "vit_base": {
            "arch": "vit_base_patch16_224",
            "epochs": 400.0,
            "lr": 7.5e-4,
            "min_lr": 2e-6,
            "warmup_epochs": 10.0,
            "momentum": 0.996,
            "teacher_temp_epochs": 50.0,
        },
        "small": {
            **SMALL,
            "bank": 2048,
            "block": 256,
        },
        "mini": MINI,
    }
    eval_branch = "teacher"
    pos_interp = "dino"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.r = r = plan.recipe
        assert isinstance(r, MaSSLRecipe)
        check_bank("bank", r.bank, r.batch_size, plan.steps * r.batch_size)
        if r.block < 2 or r.bank % r.block:
            raise SpecError(
                f"block={r.block} does not cut bank={r.bank} into equal blocks: choose "
                f"block={largest_divisor(r.bank, r.block)}, or another of its divisors above 1"
            )
        encoder = encoder_of(r.arch, drop_path=r.drop_path)
        head = mlp_head(encoder.embed_dim, r.head_hidden, r.head_dim)
        self.student = nn.ModuleDict({"encoder": encoder, "head": head})
        self.teacher = MomentumTeacher(self.student)
        self.bank = Bank(r.bank, r.head_dim)

    def view_specs(self) -> tuple[ViewSpec, ...]:
        return multi_crop(self.r, self.student["encoder"])

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        r = self.r
        with torch.no_grad():
            seen = tokens_by_view(self.teacher.model["encoder"], batch.images[:2])
            teacher = embed(self.teacher.model["head"], [view.cls for view in seen])
            self.bank.observe(teacher[1])
            temp = teacher_temp_by_step(self.plan, step)
        views = tokens_by_view(self.student["encoder"], batch.images)
        student = embed(self.student["head"], [view.cls for view in views])
        # Drawn from the step alone: all processes, and all parts of a batch, see the same blocks.
        blocks = draw_anchors(r.bank, r.block, r.bank // r.block, (r.seed, step, 0), "partition")
        losses, entropies = [], []
        for places in blocks.to(self.bank.rows.device):
            block = self.bank.rows[places]  # (K, d)
            targets = [(cosines(t, block) / temp).softmax(-1) for t in teacher]
            votes = partial(log_softmax, block=block, temp=r.student_temp)
            losses.append(cross_view_votes(student, targets, votes, r.block))
            entropies.append(prototype_entropy(torch.cat(targets)))
        return {
            "loss": torch.stack(losses).mean(),
            "prototype_entropy": torch.stack(entropies).mean(),
            "feature_std": feature_std(seen[0].cls),
        }

    def after_step(self, step: int) -> None:
        self.bank.update()
        self.teacher.update(self.student, cosine(step, self.r.momentum, 1.0, self.plan.steps))

    def extras(self) -> dict[str, Any]:
        return HEAD_LAYER

    def backbone(self) -> Network:
        return self.teacher.model["encoder"].vit


def log_softmax(z: Tensor, block: Tensor, temp: float) -> Tensor:
    """Log-probabilities (m, K) of embeddings (m, d) over a block (K, d)."""
    return (cosines(z, block) / temp).log_softmax(-1)


def largest_divisor(number: int, limit: int) -> int:
    """Largest divisor of ``number`` that is at most ``limit``, or its smallest above 1."""
    divisors = [d for d in range(2, number + 1) if number % d == 0]
    return max([d for d in divisors if d <= limit], default=divisors[0])

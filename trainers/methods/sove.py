"""SOVE: views and masked patches agree on concepts, groups of embeddings of earlier images."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.errors import SpecError
from bench.network import Network
from trainers.blocks.bank import Bank, check_bank
from trainers.blocks.canaries import feature_std, prototype_entropy
from trainers.blocks.encoder import encoder_of
from trainers.blocks.heads import mlp_head
from trainers.blocks.judges import (
    Concepts,
    check_concepts,
    cross_view_votes,
    draw_anchors,
    draw_patches,
    embed,
    form_concepts,
    vote_ce,
)
from trainers.blocks.losses import mean_by_image
from trainers.blocks.masks import mask_sampler
from trainers.blocks.schedules import cosine
from trainers.blocks.teacher import MomentumTeacher
from trainers.blocks.views import Batch, ViewSpec
from trainers.blocks.vit import TokenOutput
from trainers.distillation import (
    HEAD_LAYER,
    MINI,
    SMALL,
    TWO_CROP,
    MaskedRecipe,
    check_masked,
    multi_crop,
    student_masks,
    teacher_temp_by_step,
    tokens_by_view,
)
from trainers.method import Method
from trainers.recipe import Plan

SIZES = ("bank", "anchors", "judges", "tasks")  # fields; those of patches begin with patch_
VIT_BASE: dict[str, Any] = {
    "arch": "vit_base_patch16_224",
    "epochs": 400.0,
    "lr": 7.5e-4,
    "min_lr": 2e-6,
    "teacher_temp_epochs": 50.0,
}


@dataclass(frozen=True, kw_only=True)
class SOVERecipe(MaskedRecipe):
    """ "Self-Organizing Visual Embeddings" (2024), ViT-S, 800 epochs; optimisation as in MaSSL.

    The warm-up of the teacher's temperature goes by steps here, not by epochs. ``patch_weight=0``
    turns masks off too.

    Attributes:
        head_hidden: hidden width of the head, which class tokens and patches share.
        head_dim: width of embeddings.
        token: what stands for a view: its class token, or the average of its patches (Table B.2).
        bank: embeddings of views in memory.
        patch_bank: embeddings of patches in memory.
        anchors: concepts of a task, K (Table B.3).
        patch_anchors: concepts of a task on patches (Table B.4).
        judges: members of a concept, its anchor counted (Table 8).
        patch_judges: the same on patches.
        tasks: independent draws of anchors in a step, averaged (Table B.1).
        patch_tasks: the same on patches.
        labels: whether a judge votes as much as it resembles its anchor, or fully (Table 9).
        smoothing: mass that an anchor of soft labels gives away to the other concepts.
        judges_from: entries that can be judges: ``others`` than anchors (code), or ``all`` (paper).
        anchors_from: ``uniform`` draws, or blocks of a ``partition`` of the bank (MaSSL).
        anchor_filter: whether half of the anchors are dropped at random, as the code does where it
            means to drop those of low energy.
    """

    arch: str = "vit_small_patch16_224"
    epochs: float = 800.0
    clip: float = 3.0
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    global_area: tuple[float, float] = (0.32, 1.0)
    local_area: tuple[float, float] = (0.05, 0.32)
    head_hidden: int = 2048
    head_dim: int = 256
    token: Literal["cls", "avg"] = "cls"
    bank: int = 65536
    patch_bank: int = 8192
    anchors: int = 8192
    patch_anchors: int = 512
    judges: int = 9
    patch_judges: int = 1
    tasks: int = 4
    patch_tasks: int = 4
    labels: Literal["soft", "one_hot"] = "soft"
    smoothing: float = 0.1
    judges_from: Literal["others", "all"] = "others"
    anchors_from: Literal["uniform", "partition"] = "uniform"
    anchor_filter: bool = False


class SOVE(Method):
    """Self-organizing visual embeddings: non-parametric clusters for views and for patches.

    ``P(u) = softmax(u D^T / tau) Y``: D are K concepts, each an anchor drawn from a bank of the
    teacher's embeddings and its nearest entries; Y are their soft labels. ``L = w_cls mean over
    teacher views i and student views v != i of CE(P(z_i), P(z_v)) + w_patch mean over global views
    and images of the mean over masked patches of CE(P'(z), P'(z masked))``, the mean over tasks.
    """

    recipe = SOVERecipe
    presets = {
        "vit_base": VIT_BASE,
        "vit_large": VIT_BASE | {"arch": "vit_large_patch16_224", "epochs": 250.0},
        "swin_tiny": {
            "arch": "swin_tiny_patch4_window14_224",
            "epochs": 300.0,
            "mim_start_epoch": 50.0,
        },
        "two_crop": TWO_CROP,
        "random_mask": {"mask": "random", "mask_ratios": (0.7,), "mask_spreads": (0.0,)},
        "small": {
            **SMALL,
            "precision": "32-true",
            "bank": 2048,
            "patch_bank": 2048,
            "anchors": 256,
            "patch_anchors": 128,
            "judges": 5,
            "tasks": 1,
            "patch_tasks": 1,
        },
        "mini": MINI,
    }
    eval_branch = "teacher"
    pos_interp = "dino"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.r = r = plan.recipe
        assert isinstance(r, SOVERecipe)
        check(r, plan)
        encoder = encoder_of(r.arch, drop_path=r.drop_path, mask_token=r.patch_weight > 0)
        head = mlp_head(encoder.embed_dim, r.head_hidden, r.head_dim)
        self.mask = (
            mask_sampler(r.mask, encoder.grid, r.mask_ratios, r.mask_spreads)
            if r.patch_weight
            else None
        )
        self.student = nn.ModuleDict({"encoder": encoder, "head": head})
        self.teacher = MomentumTeacher(self.student)
        if r.cls_weight:
            self.bank = Bank(r.bank, r.head_dim)
        if r.patch_weight:
            self.patch_bank = Bank(r.patch_bank, r.head_dim)

    def view_specs(self) -> tuple[ViewSpec, ...]:
        return multi_crop(self.r, self.student["encoder"], self.mask)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        r, masks = self.r, student_masks(self.plan, batch, step)
        with torch.no_grad():
            seen = tokens_by_view(self.teacher.model["encoder"], batch.images[:2])
        student = tokens_by_view(self.student["encoder"], batch.images, masks)
        parts: dict[str, Tensor] = {}
        entropies: dict[str, Tensor] = {}
        if r.cls_weight:
            parts["cls"], entropies["cls"] = self.cls_loss(student, seen, step)
        if r.patch_weight:
            self.observe_patches(seen[1], batch.index, step)
            mask = torch.cat([m for m in masks if m is not None])
            parts["patch"], entropies["patch"] = self.patch_loss(student[:2], seen, mask, step)
        weights = {"cls": r.cls_weight, "patch": r.patch_weight}
        # A class token without a loss may be the same for all images.
        features = self.whole(seen[0]) if r.cls_weight else seen[0].patches.mean(1)
        return {
            "loss": torch.stack([weights[name] * part for name, part in parts.items()]).sum(),
            **parts,
            "prototype_entropy": next(iter(entropies.values())),
            "feature_std": feature_std(features),
        }

    def whole(self, view: TokenOutput) -> Tensor:
        """What stands for a view as a whole, (b, d)."""
        return view.cls if self.r.token == "cls" else view.patches.mean(1)

    def cls_loss(
        self, student: list[TokenOutput], teacher: list[TokenOutput], step: int
    ) -> tuple[Tensor, Tensor]:
        """Each student view against each other teacher view; the loss, and the targets' entropy."""
        with torch.no_grad():
            keys = embed(self.teacher.model["head"], [self.whole(view) for view in teacher])
            self.bank.observe(keys[1])
        queries = embed(self.student["head"], [self.whole(view) for view in student])
        losses, entropies = [], []
        for concepts in self.concepts(step, patches=False):
            targets = [
                concepts.probabilities(key, teacher_temp_by_step(self.plan, step)) for key in keys
            ]
            votes = partial(concepts.log_probabilities, temp=self.r.student_temp)
            losses.append(cross_view_votes(queries, targets, votes, concepts.count))
            entropies.append(prototype_entropy(torch.cat(targets)))
        return torch.stack(losses).mean(), torch.stack(entropies).mean()

    def patch_loss(
        self, student: list[TokenOutput], teacher: list[TokenOutput], mask: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Masked patches of the student against the same of the teacher, which saw them.

        Args:
            student: tokens of both global views.
            teacher: the same, seen without masks.
            mask: (2b, n) bool, one view behind the other.
            step: decides temperature and anchors.

        Returns:
            The loss, and the targets' entropy.
        """
        image, place = mask.nonzero(as_tuple=True)  # (m,) each: all masked patches
        with torch.no_grad():
            tokens = torch.cat([view.patches for view in teacher])[image, place]
            (keys,) = embed(self.teacher.model["head"], [tokens])
        tokens = torch.cat([view.patches for view in student])[image, place]
        (queries,) = embed(self.student["head"], [tokens])
        losses, entropies = [], []
        for concepts in self.concepts(step, patches=True):
            targets = concepts.probabilities(keys, teacher_temp_by_step(self.plan, step))  # (m, K)
            votes = partial(concepts.log_probabilities, temp=self.r.student_temp)
            (error,) = vote_ce(queries, targets[None], votes, concepts.count)
            losses.append(mean_by_image(error, image, len(mask)))
            entropies.append(prototype_entropy(targets))
        return torch.stack(losses).mean(), torch.stack(entropies).mean()

    def concepts(self, step: int, *, patches: bool) -> Iterator[Concepts]:
        """The concepts of each task, from the bank as it was before this step.

        They are drawn from the step alone: all processes, and all parts of a batch, see the same.
        """
        r, prefix = self.r, "patch_" if patches else ""
        _, anchors, judges, tasks = (int(getattr(r, prefix + name)) for name in SIZES)
        bank = (self.patch_bank if patches else self.bank).rows
        words = (r.seed, step, int(patches))
        drawn = draw_anchors(len(bank), anchors, tasks, words, r.anchors_from)
        options = {"labels": r.labels, "smoothing": r.smoothing, "judges_from": r.judges_from}
        for places in drawn[:, : anchors // 2 if r.anchor_filter else anchors].to(bank.device):
            yield form_concepts(bank, places, judges, **options)

    @torch.no_grad()
    def observe_patches(self, view: TokenOutput, index: Tensor, step: int) -> None:
        """Note one random patch of each image for the bank."""
        places = draw_patches(view.patches.shape[1], index, (self.r.seed, step))
        (rows,) = embed(
            self.teacher.model["head"], [view.patches[torch.arange(len(index)), places]]
        )
        self.patch_bank.observe(rows)

    def after_step(self, step: int) -> None:
        if self.r.cls_weight:
            self.bank.update()
        if self.r.patch_weight:
            self.patch_bank.update()
        self.teacher.update(self.student, cosine(step, self.r.momentum, 1.0, self.plan.steps))

    def extras(self) -> dict[str, Any]:
        """The head's first layer, and as prototypes of patches the anchors of one more task.

        No prototype is learned: the bank holds patches of random images, so that any K of its rows
        are such a draw. Concepts of several members are no prototypes.
        """
        r = self.r
        if not r.patch_weight or r.patch_judges > 1:
            return HEAD_LAYER
        return HEAD_LAYER | {
            "proto": {
                "projector": "teacher.model.head",
                "prototypes": "patch_bank.rows",
                "temperature": r.teacher_temp,
                "count": r.patch_anchors,
            }
        }

    def backbone(self) -> Network:
        return self.teacher.model["encoder"].vit


def check(recipe: SOVERecipe, plan: Plan) -> None:
    """Raise SpecError where losses have nothing to learn from, or banks too few entries."""
    r = recipe
    check_masked(r)
    if not 0 <= r.smoothing < 1:
        raise SpecError(f"smoothing={r.smoothing:g}: expected at least 0 and below 1")
    for weight, prefix in ((r.cls_weight, ""), (r.patch_weight, "patch_")):
        if weight:
            sizes = {name: int(getattr(r, prefix + name)) for name in SIZES}
            check_bank(f"{prefix}bank", sizes["bank"], r.batch_size, plan.steps * r.batch_size)
            check_concepts(prefix, **sizes, judges_from=r.judges_from, how=r.anchors_from)

"""SlotMIM: patch distillation on few prototypes, within and across views, and slot contrast."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.errors import SpecError
from bench.vit import build_vit
from trainers.blocks.canaries import feature_std, prototype_entropy
from trainers.blocks.geometry import align, overlap_boxes
from trainers.blocks.heads import mlp_head
from trainers.blocks.losses import info_nce, mean_of_all, soft_ce
from trainers.blocks.masks import mask_sampler
from trainers.blocks.photometric import preset
from trainers.blocks.prototypes import Prototypes
from trainers.blocks.schedules import cosine
from trainers.blocks.targets import Centre, sinkhorn
from trainers.blocks.teacher import MomentumTeacher
from trainers.blocks.views import Batch, ViewSpec
from trainers.blocks.vit import TokenViT, init_mae, set_sincos_positions
from trainers.distillation import MINI, DistillationRecipe, frozen_until, teacher_temp
from trainers.method import Method
from trainers.recipe import Plan


@dataclass(frozen=True, kw_only=True)
class SlotMIMRecipe(DistillationRecipe):
    """Wen et al., "SlotMIM" (2024): ViT-B on COCO+; where paper and code disagree see each field.

    Attributes:
        prototypes: number of prototypes K (512 for COCO and COCO+, 1024 elsewhere).
        head_layers: linear layers of the projector.
        head_hidden: hidden width of projector and predictor (paper 4096, code 2048).
        head_dim: width of projected tokens and slots.
        predictor_layers: linear layers of the predictor (paper 3, code 2).
        area: area range of both crops.
        min_overlap: least share of the second crop inside the first.
        mask_ratio: centre of the student's mask ratio; 0 shows the student clean views.
        mask_spread: half-width of the mask ratio.
        within_weight: of the masked loss between the same view of student and teacher; 0 turns it
            off.
        cross_weight: of the loss between aligned positions of different views; 0 turns it off.
        slot_weight: of the slot contrast (paper 1; the code's value is 0.5); 0 turns it off.
        two_tau: whether the contrast is multiplied by 2 * tau, as MoCo v3 and the code do.
        slot_pool_temp: temperature of the student's pooling: the ``teacher``'s (code) or its own
            (paper).
        slot_temp: tau of the contrast.
        slot_negatives: active teacher slots that repel: of ``all`` images of the batch (code), or
            of the same ``image`` (Equation 2).
        targets: ``centre`` or ``sinkhorn`` (Table 5c).
        centre_momentum: of the centre of the teacher's scores.
        freeze_prototype_epochs: epochs in which the prototypes do not move.
    """

    epochs: float = 800.0
    lr: float = 1.5e-4
    min_lr: float = 2e-6
    clip: float = 0.3
    teacher_temp_epochs: float = 50.0
    prototypes: int = 512
    head_layers: int = 3
    head_hidden: int = 4096
    head_dim: int = 256
    predictor_layers: int = 3
    area: tuple[float, float] = (0.08, 1.0)
    min_overlap: float = 0.01
    mask_ratio: float = 0.3
    mask_spread: float = 0.2
    within_weight: float = 0.5
    cross_weight: float = 0.5
    slot_weight: float = 1.0
    two_tau: bool = True
    slot_pool_temp: Literal["teacher", "student"] = "teacher"
    slot_temp: float = 0.2
    slot_negatives: Literal["all", "image"] = "all"
    targets: Literal["centre", "sinkhorn"] = "centre"
    centre_momentum: float = 0.9
    freeze_prototype_epochs: float = 3.0


class Branch(NamedTuple):
    """What one network says of one view."""

    scores: Tensor  # (b, n, K) cosine of each patch with each prototype, float32
    slots: Tensor  # (b, K, d) projected tokens pooled by prototype
    active: Tensor  # (b, K) bool: the prototype is the best of at least one patch
    tokens: Tensor  # (b, n, d) projected patches


class SlotMIM(Method):
    """Slots by few prototypes.

    ``L = w_within CE(same view, masked) + w_cross CE(other view, aligned) + w_slot 2 tau
    InfoNCE(slots)``, each loss averaged over both directions; the class token receives none. The
    code's ``group_loss_weight`` g stands for weights of g, g and 1 - g. So these are the rows of
    Table 4, a single loss having the weight 1:

        1  mask_ratio=0&within_weight=0&cross_weight=1&slot_weight=0
        2  within_weight=0&cross_weight=1&slot_weight=0
        3  within_weight=1&cross_weight=0&slot_weight=0
        4  within_weight=0
        5  as it is

    Table 5 varies ``prototypes``, ``mask_ratio`` and ``targets``.
    """

    recipe = SlotMIMRecipe
    presets = {
        "code": {"head_hidden": 2048, "predictor_layers": 2, "slot_weight": 0.5},
        "paper": {
            "area": (0.14, 1.0),  # iBOT's without local crops
            "teacher_temp_epochs": 0.0,
            "two_tau": False,
            "slot_pool_temp": "student",
            "slot_negatives": "image",
            "weight_decay": 0.05,
            "weight_decay_end": None,
        },
        "coco_plus": {"prototypes": 512, "epochs": 800.0},
        "241k": {"prototypes": 1024, "epochs": 800.0},  # of ImageNet, CC12M or Ego4D
        "1.28m": {"prototypes": 1024, "epochs": 400.0},
        "4m": {
            "prototypes": 1024,
            "epochs": 200.0,
            "warmup_epochs": 5.0,
            "teacher_temp_epochs": 30.0,
            "freeze_prototype_epochs": 1.0,
        },
        "small": {
            "batch_size": 128,
            "prototypes": 64,
            "head_hidden": 256,
            "head_dim": 64,
            "predictor_layers": 2,
            "lr": 1e-3,
            "warmup_epochs": 2.0,
            "teacher_temp_epochs": 0.0,
            "momentum": 0.99,  # short runs: a teacher that follows within a hundred steps
            "clip": 3.0,
            "freeze_prototype_epochs": 1.0,
            "drop_path": 0.0,
            "blur_sigma": 0.5,
        },
        "mini": MINI | {"freeze_prototype_epochs": 0.25},
    }
    eval_branch = "teacher"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.r = r = plan.recipe
        assert isinstance(r, SlotMIMRecipe)
        vit = build_vit(r.arch, drop_path_rate=r.drop_path)
        init_mae(vit)
        set_sincos_positions(vit, frozen=False)
        encoder = TokenViT(vit, mask_token=True)
        self.student = nn.ModuleDict(
            {
                "encoder": encoder,
                "projector": mlp_head(encoder.embed_dim, r.head_hidden, r.head_dim, r.head_layers),
                "prototypes": Prototypes(r.head_dim, r.prototypes),
            }
        )
        shape: Literal["blockwise", "none"] = "blockwise" if r.mask_ratio else "none"
        self.mask = mask_sampler(shape, encoder.grid, (r.mask_ratio,), (r.mask_spread,))
        check_recipe(r, encoder.grid**2)
        self.teacher = MomentumTeacher(self.student)
        # Without its loss it would get no gradient, which distributed training does not allow.
        self.predictor = (
            mlp_head(r.head_dim, r.head_hidden, r.head_dim, r.predictor_layers)
            if r.slot_weight
            else nn.Identity()
        )
        self.centre = Centre(r.prototypes, r.centre_momentum)

    def view_specs(self) -> tuple[ViewSpec, ...]:
        r, encoder = self.r, self.student["encoder"]
        size = encoder.grid * encoder.patch_size
        return (
            ViewSpec(size, r.area, photometric=preset("byol_a", r.blur_sigma), mask=self.mask),
            ViewSpec(
                size,
                r.area,
                photometric=preset("byol_b", r.blur_sigma),
                mask=self.mask,
                overlaps=(0,),
                min_overlap=r.min_overlap,
            ),
        )

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        r, temp = self.r, teacher_temp(self.plan, step)
        pool_temp = temp if r.slot_pool_temp == "teacher" else r.student_temp
        student = self.look(self.student, batch.images, batch.masks, pool_temp)
        with torch.no_grad():
            teacher = self.look(self.teacher.model, batch.images, [None, None], temp)
            self.centre.observe(torch.cat([view.scores for view in teacher]))
        out: dict[str, Tensor] = {}
        if r.within_weight:
            pairs = zip(student, teacher, batch.masks, strict=True)
            out["within"] = mean([self.within(s, t, m, temp) for s, t, m in pairs])
        if r.cross_weight:
            out["cross"] = self.cross(student, teacher, batch, temp)
        if r.slot_weight:
            out["slot"] = mean(
                [self.contrast(s, t) for s, t in zip(student, teacher[::-1], strict=True)]
            )
        weights = {"within": r.within_weight, "cross": r.cross_weight, "slot": r.slot_weight}
        active = mean([view.active.sum(1).float().mean() for view in teacher])
        scores = teacher[0].scores
        # Sinkhorn spreads any scores evenly: there a plain softmax shows what prototypes take.
        use = self.target(scores, temp) if r.targets == "centre" else (scores / temp).softmax(-1)
        return {
            "loss": torch.stack([weights[name] * part for name, part in out.items()]).sum(),
            **out,
            "active_slots": active,
            "prototype_entropy": prototype_entropy(use),
            "feature_std": feature_std(teacher[0].tokens.mean(1)),
        }

    def look(
        self, network: nn.ModuleDict, images: list[Tensor], masks: list[Tensor | None], temp: float
    ) -> list[Branch]:
        """Scores and slots of each view; both views share a forward pass."""
        mask = None if masks[0] is None else torch.cat([m for m in masks if m is not None])
        tokens = network["projector"](network["encoder"](torch.cat(images), mask=mask).patches)
        scores = network["prototypes"](tokens).float()  # (2b, n, K)
        share = (scores / temp).softmax(-1) + 1e-12
        share = share / share.sum(1, keepdim=True)  # each slot's weights over positions sum to 1
        slots = torch.einsum("bnk,bnd->bkd", share.to(tokens.dtype), tokens)
        active = torch.zeros_like(scores[:, 0], dtype=torch.bool)
        active.scatter_(1, scores.argmax(-1), True)
        chunks = zip(scores.chunk(2), slots.chunk(2), active.chunk(2), tokens.chunk(2), strict=True)
        return [Branch(*chunk) for chunk in chunks]

    def within(self, student: Branch, teacher: Branch, mask: Tensor | None, temp: float) -> Tensor:
        """Masked patches of the student against the same of the teacher, mean over the batch."""
        if mask is None:
            mask = torch.ones_like(student.scores[..., 0], dtype=torch.bool)
        error = soft_ce(
            student.scores[mask] / self.r.student_temp, self.target(teacher.scores[mask], temp)
        )
        return mean_of_all(error)

    def cross(
        self, student: list[Branch], teacher: list[Branch], batch: Batch, temp: float
    ) -> Tensor:
        """Student against teacher of the other view, at positions aligned over the overlap."""
        boxes = batch.boxes
        one, two, valid = overlap_boxes(
            boxes[:, 0], boxes[:, 1], batch.flips[:, 0], batch.flips[:, 1]
        )
        frames = zip((one, two), batch.flips.unbind(1), strict=True)
        aligned = [
            (align(s.scores, box, flip), align(t.scores, box, flip))
            for s, t, (box, flip) in zip(student, teacher, frames, strict=True)
        ]
        terms = []
        for (s, _), (_, t) in zip(aligned, aligned[::-1], strict=True):
            # Crops without common pixels have nothing to align: they take no part.
            error = soft_ce(s[valid] / self.r.student_temp, self.target(t[valid], temp))
            terms.append(mean_of_all(error))
        return mean(terms)

    def contrast(self, student: Branch, teacher: Branch) -> Tensor:
        """Slots active in both views of an image attract; other active teacher slots repel."""
        r, both, keys = self.r, student.active & teacher.active, teacher.active  # (b, K) bool
        images = both.nonzero()[:, 0], keys.nonzero()[:, 0]  # (m,), (n,): where each slot is from
        loss = info_nce(
            self.predictor(student.slots[both]),
            teacher.slots[keys],
            r.slot_temp,
            positives=keys.flatten().cumsum(0)[both.flatten()] - 1,  # places among the active keys
            groups=images if r.slot_negatives == "image" else None,
        )
        return loss * (2 * r.slot_temp if r.two_tau else 1.0)

    def target(self, scores: Tensor, temp: float) -> Tensor:
        """Teacher scores (..., K) as probabilities."""
        if self.r.targets == "centre":
            return self.centre.probabilities(scores, temp)
        return sinkhorn(scores.flatten(0, -2), temp).view_as(scores)

    def frozen(self, step: int) -> list[nn.Parameter]:
        return frozen_until(
            self.plan, step, self.r.freeze_prototype_epochs, self.student["prototypes"]
        )

    def after_step(self, step: int) -> None:
        # The code updates before the teacher looks, which is after the step but one index later.
        self.centre.update()
        momentum = cosine(step + 1, self.r.momentum, 1.0, self.plan.steps)
        self.teacher.update(self.student, momentum)

    def extras(self) -> dict[str, Any]:
        return {
            "proto": {
                "projector": "teacher.model.projector",
                "prototypes": "teacher.model.prototypes.weight",
                "temperature": self.r.teacher_temp,
            }
        }

    def backbone(self) -> VisionTransformer:
        return self.teacher.model["encoder"].vit


def check_recipe(recipe: SlotMIMRecipe, patches: int) -> None:
    """Raise SpecError where nothing is learned, or ``patches`` a view leave prototypes empty."""
    r, batch = recipe, recipe.batch_size // recipe.accumulate
    if not (r.within_weight or r.cross_weight or r.slot_weight):
        raise SpecError(
            "within_weight, cross_weight and slot_weight are all 0: leave at least one loss on"
        )
    most, whose = 2 * batch * patches, "patches that the teacher sees at once"
    if r.targets == "sinkhorn":  # shares the patches of one loss in one direction out evenly
        masked = min(r.mask_ratio + r.mask_spread, 1.0) if r.within_weight and r.mask_ratio else 1.0
        most, whose = int(masked * batch * patches), "patches that targets=sinkhorn shares out"
    if r.prototypes > most:
        raise SpecError(
            f"prototypes={r.prototypes} for at most {most} {whose}: some would always be empty; "
            f"choose at most {most}, or a larger batch_size"
        )


def mean(terms: list[Tensor]) -> Tensor:
    """Mean of scalars."""
    return torch.stack(terms).mean()

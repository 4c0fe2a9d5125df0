"""ASL: MAE, and agreement of two predictions of each masked patch."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from bench.errors import SpecError
from trainers.blocks.canaries import feature_std
from trainers.blocks.decoder import pixel_targets
from trainers.blocks.losses import masked_regression
from trainers.blocks.masks import uniform_keep
from trainers.blocks.views import Batch, ViewSpec
from trainers.blocks.vit import TokenOutput, init_linear
from trainers.method import Method
from trainers.methods.mae import MAE, MAERecipe, autoencoder
from trainers.recipe import Plan

Distance = Literal["l1", "cosine"]


@dataclass(frozen=True, kw_only=True)
class ASLRecipe(MAERecipe):
    """Li et al., "Self-Supervised Representation Learning from Arbitrary Scenarios" (2024), ViT-B,
    800 epochs of COCO; the paper gives no optimisation settings: they are MAE's.

    Attributes:
        branch: how the second features come about: one more block after the encoder (``aee``), or a
            second pass, with dropout in the patch embeddings of both (``dle``).
        aee_after_norm: whether that block reads the features behind the encoder's final norm, or
            the ones before it and is normed itself (silent in the paper).
        dle_p: probability of that dropout (not in the paper: SimCSE's).
        align_weight: of the agreement; 0 turns it off and keeps both branches (Table 7, b and d).
        align: distance of two predictions, ``l1`` or ``cosine``.
        align_cls: whether the predictions at the class token shall agree too.
        mae_on: whether ``both`` branches reconstruct, with half the weight each, or the original
            alone (``ori``).
    """

    branch: Literal["aee", "dle"] = "aee"
    aee_after_norm: bool = True
    dle_p: float = 0.1
    align_weight: float = 1.0
    align: Distance = "l1"
    align_cls: bool = False
    mae_on: Literal["both", "ori"] = "both"


class ASL(Method):
    """Arbitrary self-supervised learning: patches agree, images are left apart.

    ``L = L_MAE + |p_ori - sg(p_aug)| + |sg(p_ori) - p_aug|``, means over masked patches; ``p_ori``
    and ``p_aug`` are decoded from two features of the same visible patches by one decoder. With
    ``align_weight=0`` and ``mae_on=ori`` nothing reads the second branch: it is left out, which is
    MAE.
    """

    recipe = ASLRecipe
    presets = {
        "coco": {"epochs": 800.0},
        "in100_coco": {"epochs": 800.0},
        "in100_coco_long": {"epochs": 4000.0},
        **{name: MAE.presets[name] for name in ("imagenet", "cifar", "small", "mini")},
    }

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.r = r = plan.recipe
        assert isinstance(r, ASLRecipe)
        if not 0 <= r.dle_p < 1:
            raise SpecError(f"dle_p={r.dle_p:g}: a probability from 0 to below 1 is expected")
        self.two_branches = r.align_weight > 0 or r.mae_on == "both"
        self.encoder, self.decoder = autoencoder(r)
        self.block: nn.Module | None = None
        if self.two_branches and r.branch == "aee":
            # After MAE's parts, so that those draw the numbers that they draw in MAE.
            self.block = extra_block(self.encoder.vit)

    def view_specs(self) -> tuple[ViewSpec, ...]:
        return (ViewSpec(self.encoder.grid * self.encoder.patch_size, self.r.area),)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        r, images = self.r, batch.images[0]
        keep, mask = uniform_keep(len(images), self.encoder.grid**2, r.mask_ratio, images.device)
        features = self.features(images, keep)
        branches = len(features.cls) // len(images)
        # One decoder pass for both branches: predictions (b, 1 + n, pixels) of each.
        predictions = self.decoder.predictions(
            features.cls, features.patches, keep.repeat(branches, 1)
        ).chunk(branches)
        target = pixel_targets(images, self.encoder.patch_size, r.norm_pix)
        reconstructing = predictions if r.mae_on == "both" else predictions[:1]
        errors = [masked_regression(p[:, 1:], target, mask) for p in reconstructing]
        reconstruction = torch.stack(errors).mean()
        out = {"loss": reconstruction, "reconstruction": reconstruction}
        if self.two_branches:
            ori, aug = predictions
            alignment = agreement(ori[:, 1:], aug[:, 1:], mask, r.align)
            if r.align_cls:
                every = torch.ones_like(mask[:, :1])
                alignment = alignment + agreement(ori[:, :1], aug[:, :1], every, r.align)
            out["alignment"] = alignment
            if r.align_weight:
                out["loss"] = reconstruction + r.align_weight * alignment
        patches = features.patches[: len(images)]
        return {**out, "feature_std": feature_std(patches.mean(1))}

    def features(self, images: Tensor, keep: Tensor) -> TokenOutput:
        """Visible tokens of the original branch; behind them those of the second, if any."""
        if not self.two_branches:
            return self.encoder(images, keep=keep)
        if self.block is None:
            return self.encoder(
                images.repeat(2, 1, 1, 1), keep=keep.repeat(2, 1), dropout=self.r.dle_p
            )
        plain = self.encoder(images, keep=keep, norm=False)
        before = torch.cat((plain.cls[:, None], plain.patches), 1)  # (b, 1 + k, d)
        norm = self.encoder.vit.norm
        ori = norm(before)
        aug = self.block(ori) if self.r.aee_after_norm else norm(self.block(before))
        both = torch.cat((ori, aug))
        return TokenOutput(both[:, 0], both[:, 1:])

    def backbone(self) -> VisionTransformer:
        return self.encoder.vit


def agreement(ori: Tensor, aug: Tensor, mask: Tensor, distance: Distance) -> Tensor:
    """Twice the mean distance of two predictions (b, n, d) where ``mask`` (b, n) is True.

    Each of the two terms moves one prediction and stops the gradient of the other.
    """
    return masked_regression(ori, aug, mask, distance) + masked_regression(aug, ori, mask, distance)


def extra_block(vit: VisionTransformer) -> Block:
    """One more block like the encoder's, as MAE starts it; it is not part of the backbone."""
    norm = partial(nn.LayerNorm, eps=1e-6)
    heads = vit.blocks[0].attn.num_heads
    return Block(vit.embed_dim, heads, mlp_ratio=4, qkv_bias=True, norm_layer=norm).apply(
        init_linear
    )

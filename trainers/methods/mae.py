"""MAE: masked autoencoder; reconstructs the pixels of the patches that it did not see."""

from dataclasses import dataclass

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from bench.vit import build_vit
from trainers.blocks.canaries import feature_std
from trainers.blocks.decoder import LightDecoder, pixel_targets
from trainers.blocks.losses import masked_regression
from trainers.blocks.masks import uniform_keep
from trainers.blocks.views import Batch, ViewSpec
from trainers.blocks.vit import TokenViT, init_mae, set_sincos_positions
from trainers.method import Method
from trainers.recipe import Plan, Recipe, Schedule


@dataclass(frozen=True, kw_only=True)
class MAERecipe(Recipe):
    """He et al., "Masked Autoencoders Are Scalable Vision Learners" (2022), ViT-B, 800 epochs.

    Attributes:
        mask_ratio: share of patches removed.
        area: range of the crop's share of the image.
        norm_pix: whether targets are normalised within each patch (with the unbiased variance).
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads of the decoder.
    """

    epochs: float = 800.0
    batch_size: int = 4096
    lr: float = 1.5e-4
    min_lr: float = 0.0
    warmup_epochs: float = 40.0
    schedule: Schedule = "mae"
    beta2: float = 0.95
    weight_decay: float = 0.05
    mask_ratio: float = 0.75
    area: tuple[float, float] = (0.2, 1.0)
    norm_pix: bool = True
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16


class MAE(Method):
    """Masked autoencoder.

    ``L = mean over masked patches of |prediction - normalised pixels|^2``; only visible patches
    enter the encoder, which has fixed sine-cosine positions.
    """

    recipe = MAERecipe
    presets = {
        "imagenet": {"epochs": 1600.0},
        "coco_plus": {"epochs": 800.0},
        "cifar": {"arch": "vit_small_patch4_32", "epochs": 1600.0},
        "small": {
            "batch_size": 128,
            "lr": 1e-3,
            "lr_rule": "sqrt",
            "warmup_epochs": 5.0,
            "decoder_dim": 64,
            "decoder_depth": 2,
            "decoder_heads": 4,
        },
        "mini": {"arch": "vit_mini_patch4_32", "epochs": 8.0, "warmup_epochs": 1.0},
    }

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.r = r = plan.recipe
        assert isinstance(r, MAERecipe)
        self.encoder, self.decoder = autoencoder(r)

    def view_specs(self) -> tuple[ViewSpec, ...]:
        return (ViewSpec(self.encoder.grid * self.encoder.patch_size, self.r.area),)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images = batch.images[0]
        keep, mask = uniform_keep(
            len(images), self.encoder.grid**2, self.r.mask_ratio, images.device
        )
        seen = self.encoder(images, keep=keep)
        prediction = self.decoder(seen.cls, seen.patches, keep)
        target = pixel_targets(images, self.encoder.patch_size, self.r.norm_pix)
        return {
            "loss": masked_regression(prediction, target, mask),
            "feature_std": feature_std(seen.patches.mean(1)),
        }

    def backbone(self) -> VisionTransformer:
        return self.encoder.vit


def autoencoder(recipe: MAERecipe) -> tuple[TokenViT, LightDecoder]:
    """Encoder with fixed positions, and the decoder that predicts pixels, as they start."""
    vit = build_vit(recipe.arch, drop_path_rate=recipe.drop_path)
    set_sincos_positions(vit, frozen=True)
    init_mae(vit)
    encoder = TokenViT(vit)
    decoder = LightDecoder(
        encoder.embed_dim,
        recipe.decoder_dim,
        recipe.decoder_depth,
        recipe.decoder_heads,
        out_dim=encoder.patch_size**2 * 3,
        grid=encoder.grid,
    )
    return encoder, decoder

"""MAE: the loss in float64, and what the encoder may see."""

import numpy as np
import pytest
import torch

from bench.errors import SpecError
from tests.trainers.tiny import batch_for, float64, shaken, tiny_method
from trainers.blocks.decoder import pixel_targets
from trainers.blocks.masks import uniform_keep
from trainers.blocks.views import ViewSpec
from trainers.methods.mae import MAE

CPU = torch.device("cpu")


def method(**options: object) -> MAE:
    return shaken(tiny_method(MAE, **options))


def reconstruct(mae: MAE, images: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Predicted patches (b, n, pixels) from the visible ones."""
    seen = mae.encoder(images, keep=keep)
    return mae.decoder(seen.cls, seen.patches, keep)


def patches64(images: torch.Tensor, p: int = 4) -> np.ndarray:
    """(b, n, p * p * 3) pixels, channels last, cut out one patch at a time."""
    pixels = float64(images)
    b, _, h, w = pixels.shape
    return np.array(
        [
            [
                pixels[i, :, y : y + p, x : x + p].transpose(1, 2, 0).ravel()
                for y in range(0, h, p)
                for x in range(0, w, p)
            ]
            for i in range(b)
        ]
    )


@pytest.mark.parametrize("norm_pix", [True, False])
def test_the_loss_is_the_mean_squared_error_of_masked_patches_in_float64(norm_pix: bool) -> None:
    mae = method(norm_pix=norm_pix)
    batch = batch_for(mae)
    torch.manual_seed(3)
    found = mae.losses(batch, 0)
    assert found.keys() == {"loss", "feature_std"}
    torch.manual_seed(3)
    keep, mask = uniform_keep(4, 16, 0.75, CPU)
    prediction = float64(reconstruct(mae, batch.images[0], keep))
    target = patches64(batch.images[0])
    if norm_pix:
        mean = target.mean(-1, keepdims=True)
        variance = ((target - mean) ** 2).sum(-1, keepdims=True) / (target.shape[-1] - 1)
        target = (target - mean) / np.sqrt(variance + 1e-6)
    terms = [np.mean((prediction[i, j] - target[i, j]) ** 2) for i, j in np.argwhere(mask.numpy())]
    assert len(terms) == 4 * 12
    assert found["loss"].item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_a_flat_patch_has_a_finite_target() -> None:
    target = pixel_targets(torch.ones(1, 3, 16, 16), 4, normalised=True)
    assert not target.any()


def test_predictions_do_not_depend_on_what_masked_patches_show() -> None:
    mae = method()
    images = batch_for(mae).images[0]
    keep, mask = uniform_keep(4, 16, 0.75, CPU)
    hidden = mask.view(4, 1, 4, 1, 4, 1).expand(-1, 3, -1, 4, -1, 4).reshape(4, 3, 16, 16)
    changed = torch.where(hidden, torch.randn_like(images), images)
    assert torch.equal(reconstruct(mae, changed, keep), reconstruct(mae, images, keep))
    assert not torch.equal(reconstruct(mae, changed + 1, keep), reconstruct(mae, images, keep))


def test_the_encoder_computes_visible_tokens_only() -> None:
    mae = method()
    seen = []
    mae.encoder.vit.blocks[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    mae.losses(batch_for(mae), 0)
    assert [tuple(x.shape) for x in seen] == [(4, 1 + 4, 24)]


def test_masks_follow_the_step_s_seed() -> None:
    mae, losses = method(), []
    batch = batch_for(mae)
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(mae.losses(batch, 0)["loss"].item())
    assert losses[0] == losses[1] != losses[2]


def test_positions_are_frozen_and_everything_else_learns() -> None:
    mae = method()
    mae.losses(batch_for(mae), 0)["loss"].backward()
    without = {name for name, p in mae.named_parameters() if p.grad is None}
    assert without == {"encoder.vit.pos_embed"}
    assert all(p.grad.any() for name, p in mae.named_parameters() if name not in without)


def test_there_is_one_plain_view_of_the_native_size() -> None:
    assert method().view_specs() == (ViewSpec(16, (0.2, 1.0), flip=0.5, photometric=None),)


def test_the_student_is_evaluated_and_nothing_follows_it() -> None:
    mae = method()
    assert mae.eval_branch == "student"
    assert mae.backbone() is mae.encoder.vit
    assert list(mae.frozen(0)) == []


def test_the_paper_s_recipe() -> None:
    recipe = MAE.recipe()
    assert recipe.peak_lr() == pytest.approx(1.5e-4 * 16)  # batch 4096
    assert (recipe.beta1, recipe.beta2, recipe.weight_decay) == (0.9, 0.95, 0.05)
    assert (recipe.schedule, recipe.warmup_epochs, recipe.min_lr) == ("mae", 40.0, 0.0)
    assert (recipe.clip, recipe.drop_path, recipe.weight_decay_end) == (0.0, 0.0, None)
    assert (recipe.decoder_dim, recipe.decoder_depth, recipe.decoder_heads) == (512, 8, 16)
    assert (recipe.mask_ratio, recipe.norm_pix) == (0.75, True)


def test_presets_for_the_tables_of_other_papers() -> None:
    assert MAE.recipe(**MAE.presets["imagenet"]).epochs == 1600.0  # ASL, Tables 3 to 5
    assert MAE.recipe(**MAE.presets["coco_plus"]).epochs == 800.0  # SlotMIM at 241K images
    cifar = MAE.recipe(**MAE.presets["cifar"])  # ASL, Table 6
    assert cifar.arch == "vit_small_patch4_32"
    assert (cifar.mask_ratio, cifar.decoder_dim, cifar.batch_size) == (0.75, 512, 4096)


def test_a_ratio_that_masks_nothing_is_refused() -> None:
    mae = method(mask_ratio=0.0)
    with pytest.raises(SpecError, match="mask_ratio=0 leaves 16 of 16"):
        mae.losses(batch_for(mae), 0)

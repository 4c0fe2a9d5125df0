"""Initial weights: the scales that the official code of each method starts from.

Measured on the official models beside ours, tensor by tensor (the commits stand in
`test_goldens.py`); timm's own start differs in the class token (1e-6) and the patch embedding.
"""

import pytest
import torch

from trainers.method import Method
from trainers.methods.dino import DINO
from trainers.methods.mae import MAE
from trainers.methods.slotmim import SlotMIM
from trainers.recipe import Plan

PIXELS, WIDTH = 3 * 16 * 16, 96
XAVIER = (2 / (PIXELS + WIDTH)) ** 0.5
CONVOLUTION = (1 / (3 * PIXELS)) ** 0.5  # torch's default: uniform within 1 / sqrt(inputs)


@pytest.mark.parametrize(
    ("method", "patch_std"), [(MAE, XAVIER), (DINO, CONVOLUTION), (SlotMIM, XAVIER)]
)
def test_patches_and_class_token_start_at_the_official_scale(
    method: type[Method], patch_std: float
) -> None:
    torch.manual_seed(0)
    recipe = method.recipe(**method.presets["small"], arch="vit_mini_patch16_64")
    vit = method(Plan.of(recipe, 1000)).backbone()
    patches, cls = vit.patch_embed.proj.weight.detach(), vit.cls_token.detach()
    assert float(patches.std()) == pytest.approx(patch_std, rel=0.02)  # 73,728 draws
    assert float(cls.std()) == pytest.approx(0.02, rel=0.3)  # 96 draws

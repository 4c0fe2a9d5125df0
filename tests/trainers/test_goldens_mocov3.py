"""Numbers of MoCo v3 that the authors' own code gives too.

How they were made: as those of `test_goldens.py`. On exactly these cases facebookresearch/moco-v3,
c349e6e24f40d3fedb22d973f92defa4cedf37a7, was run beside ours on a CPU (torch 2.15, timm 1.0.31, one
thread): its own model, `train`, schedules of rate and momentum, and AdamW over all parameters. The
frozen patch embedding of the recipe, which has no gradient to probe, was compared too. Measured
agreement, worst of all cases over six steps:

|                                                  | float64 | float32 |
|--------------------------------------------------|---------|---------|
| loss at the first step                           | 3e-16   | 5e-7    |
| loss at each step                                | 1e-14   | 4e-6    |
| each single gradient tensor                      | 3e-13   | 1.6e-4  |
| norm of all gradients                            | 2e-13   | 4e-5    |
| all weights of the student, of their movement    | 3e-13   | 1e-4    |
| all weights of the teacher, when it looks        | 2e-13   | 8e-5    |

Statistics of four images make float32 worse than that of the other methods. The official positions
hold rows before columns, ours columns before rows (MAE's order): the same up to the order of
features, all of which start alike. The official code moves the teacher in the forward pass, before
it looks; ours after the step before.
"""

from typing import Any

import pytest
import torch

from tests.trainers.goldens import IMAGES, SHARED, SIZE, check, fill, fill_teacher, trained
from trainers.blocks.heads import BatchNorm
from trainers.methods.mocov3 import MoCoV3, MoCoV3Recipe
from trainers.recipe import Plan

SPREAD = 3.0  # of the encoder's weights, so that images differ in their class tokens
LR = 0.002  # weights that move slowly leave float32 near float64
# Batch normalisation takes out what the last norm's bias adds to all images.
IDLE = ("encoder.vit.norm.bias",)


def make(**options: Any) -> MoCoV3:
    """A small model whose every unit is off for some image; `options` are of the recipe.

    A bias before a unit that is on for all four images is taken out by the next normalisation.
    """
    recipe = MoCoV3Recipe(
        **(SHARED | {"lr": LR}), head_hidden=40, head_dim=24, freeze_patch_embed=False, **options
    )
    method = MoCoV3(Plan.of(recipe, 2 * IMAGES))
    fill(method.student, 11)
    fill(method.predictor, 12)
    with torch.no_grad():
        for parameter in method.student["encoder"].parameters():
            if parameter.ndim > 1 and parameter.requires_grad:
                parameter.mul_(SPREAD)
        for module in (*method.student.modules(), *method.predictor.modules()):
            if isinstance(module, BatchNorm) and module.weight is not None:
                module.weight.add_(1.0)
                module.bias.abs_().neg_()
    fill_teacher(method)
    return method


CASES: dict[str, dict[str, Any]] = {"three_heads": {}, "four_heads": {"heads": 4}}
# Computed in float64 and rounded; what is asserted below runs in float32.
GOLDENS: dict[str, dict[str, list[float]]] = {
    "three_heads": {
        "loss": [1.85197943, 1.55149933, 1.49413468, 1.96960199],
        "gradients": [28.9780957, -12.695197, 1.08455525, -0.14919686, 0.0650290515, -0.0183462562],
        "norm": [83.5480951, 78.3972954, 136.386476, 94.3878637],
        "moved": [0.254769239],
    },
    "four_heads": {
        "loss": [1.94329898, 1.69278918, 1.38265591, 1.19572117],
        "gradients": [57.0141869, -47.0640864, 2.17596863, 1.12060421, 0.101266071, 0.0374700338],
        "norm": [147.186347, 52.7734614, 40.013146, 37.0225842],
        "moved": [0.25480295],
    },
}


@pytest.mark.parametrize("name", CASES)
def test_four_steps_give_the_numbers_of_the_official_code(name: str) -> None:
    check(trained(make(**CASES[name]), (SIZE, SIZE), idle=IDLE), GOLDENS[name], rel=2e-4)

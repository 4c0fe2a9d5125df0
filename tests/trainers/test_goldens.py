"""Numbers of MAE, DINO and SlotMIM that the authors' own code gives too.

How they were made. Weights, views, masks and boxes come from `numpy.random.RandomState`, whose
stream numpy keeps frozen, so nothing here depends on how torch initialises or draws. On exactly
these cases the official code of

- MAE      facebookresearch/mae   efb2a8062c206524e35e47d04501ed4f544c0ae8
- DINO     facebookresearch/dino  7c446df5b9f45747937fb0d72314eb9f7b66930a
- SlotMIM  CVMI-Lab/SlotMIM       23355ea92c07a64b3e820588e9a9f191099156d2

was run beside ours on a CPU (torch 2.15, timm 1.0.31, one thread): their own `train_one_epoch` or
`train`, with their schedules, parameter groups, clipping, frozen layers, centre and teacher update.
Measured agreement, worst case of all cases:

|                                                  | float64 | float32 |
|--------------------------------------------------|---------|---------|
| losses and their parts, at each of four steps    | 7e-16   | 8e-7    |
| norm of all gradients, at each step              | 2e-15   | 1.3e-6  |
| gradients of the three tensors below             | 3e-15   | 1.4e-6  |
| length of the way that the weights went          | 4e-16   | 1e-7    |

Beyond these cases, in float64: MAE's latent and prediction at 64 and 224 px 7e-16, DINO's tokens at
96, 112, 224 and 256 px 8e-16, each single gradient tensor 3e-15, all weights after 6 (DINO,
SlotMIM) or 12 (MAE) steps 1e-12 of their movement, schedules 3e-16, SlotMIM's centre on two
processes 2e-16.

Known and wanted differences: pairs of crops without overlap take no part in SlotMIM's cross-view
loss, where the official code trains on empty regions; its losses and Sinkhorn weigh every row alike
on any number of processes, where the official ones depend on how masked patches and active slots
are spread over them.

A change of these numbers is a change of the published method: run the official code again before
you write new ones.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.trainers.goldens import (
    IMAGES,
    SHARED,
    SIZE,
    check,
    fill,
    fill_teacher,
    trained,
    visible,
)
from trainers.method import Method
from trainers.methods import mae
from trainers.methods.dino import DINO, DINORecipe
from trainers.methods.mae import MAE, MAERecipe
from trainers.methods.slotmim import SlotMIM, SlotMIMRecipe
from trainers.recipe import Plan


def make_mae() -> MAE:
    recipe = MAERecipe(**SHARED, decoder_dim=64, decoder_depth=2, decoder_heads=4)
    method = MAE(Plan.of(recipe, 2 * IMAGES))
    fill(method, 1)
    return method


def make_dino(**options: Any) -> DINO:
    """Two global and two local crops; `options` are of the recipe."""
    small = {"out_dim": 48, "head_hidden": 40, "head_dim": 24, "local_crops": 2, "drop_path": 0.0}
    recipe = DINORecipe(**SHARED, **small, teacher_temp_epochs=3.0, **options)
    method = DINO(Plan.of(recipe, 2 * IMAGES))
    fill(method.student, 2)
    fill_teacher(method)
    return method


def make_slotmim(**options: Any) -> SlotMIM:
    """The sizes of heads and weights of losses of the published code; `options` are more."""
    small = {"prototypes": 20, "head_hidden": 40, "head_dim": 24, "predictor_layers": 2}
    fixed = {"drop_path": 0.0, "teacher_temp_epochs": 3.0, "freeze_prototype_epochs": 1.0}
    recipe = SlotMIMRecipe(**SHARED, **small, **fixed, slot_weight=0.5, **options)
    method = SlotMIM(Plan.of(recipe, 2 * IMAGES))
    fill(method.student, 3)
    fill(method.predictor, 4)
    fill_teacher(method)
    return method


CASES: dict[str, tuple[Callable[[], Method], tuple[int, ...]]] = {
    "mae": (make_mae, (SIZE,)),
    "dino": (lambda: make_dino(norm_last_layer=True, clip=0.3), (SIZE, SIZE, 32, 32)),
    "dino_free_gain": (lambda: make_dino(norm_last_layer=False), (SIZE, SIZE, 32, 32)),
    "slotmim_centre": (make_slotmim, (SIZE, SIZE)),
    "slotmim_sinkhorn": (lambda: make_slotmim(targets="sinkhorn"), (SIZE, SIZE)),
}


# Computed in float64 and rounded; what is asserted below runs in float32.
GOLDENS: dict[str, dict[str, list[float]]] = {
    "mae": {
        "loss": [1.16215578, 1.17266892, 1.15678025, 1.1384823],
        "gradients": [
            0.002696345,
            -0.003980754,
            0.0006664252,
            -0.0003886573,
            0.001211453,
            0.0004861114,
        ],
        "norm": [0.31223753, 0.329346069, 0.299120898, 0.273799345],
        "moved": [0.432291386],
    },
    "dino": {
        "loss": [3.09779914, 3.95532548, 4.45762252, 4.17599276],
        "gradients": [8.663121, -2.12112, 1.083913, 0.7559731, 1.528141, -0.6785393],
        "norm": [37.2141795, 33.7582416, 40.3566978, 13.5163971],
        "moved": [0.396130212],
    },
    "dino_free_gain": {
        "loss": [3.56633824, 4.79705811, 4.91096545, 4.8199553],
        "gradients": [7.237408, -2.449125, 0.9364254, 0.8134808, 1.295333, -0.4913241],
        "norm": [31.7053023, 41.0473787, 53.5068904, 18.9912659],
        "moved": [0.394763005],
    },
    "slotmim_centre": {
        "loss": [3.95297162, 4.08728185, 4.55830753, 4.50385299],
        "within": [3.53234679, 3.62402494, 4.57952734, 4.11705774],
        "cross": [3.00389787, 3.14704151, 3.27561548, 3.49762774],
        "slot": [1.36969858, 1.40349724, 1.26147224, 1.39302049],
        "active_slots": [7.5, 7.5, 6.625, 7.625],
        "gradients": [0.6673489, -0.428622, 0.4116519, -0.1091175, 0.7296642, 0.2341367],
        "norm": [18.5489071, 23.7617179, 24.7339156, 21.3502227],
        "moved": [0.411613756],
    },
    "slotmim_sinkhorn": {
        "loss": [5.31397402, 5.30798944, 5.25388277, 4.83982453],
        "within": [4.88632626, 4.73337378, 4.91202944, 4.09403597],
        "cross": [4.3719232, 4.47910786, 4.33749722, 4.22896214],
        "slot": [1.36969858, 1.40349724, 1.25823888, 1.35665095],
        "active_slots": [7.5, 7.5, 6.625, 7.625],
        "gradients": [0.5771373, -0.08069492, 0.3750759, -0.1295101, 0.535908, -0.08082047],
        "norm": [14.7879946, 18.2421646, 23.2420117, 11.3997651],
        "moved": [0.411306193],
    },
}


@pytest.mark.parametrize("name", CASES)
def test_four_steps_give_the_numbers_of_the_official_code(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fix_masks(step: int) -> None:
        keep = visible(step)
        mask = torch.ones(IMAGES, 16, dtype=torch.bool).scatter_(1, keep, False)
        monkeypatch.setattr(mae, "uniform_keep", lambda *_: (keep, mask))

    make, sizes = CASES[name]
    check(trained(make(), sizes, fix_masks), GOLDENS[name])

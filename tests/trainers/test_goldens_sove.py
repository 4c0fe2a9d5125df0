"""Numbers of SOVE, so that none changes unnoticed.

SOVE's code is not public, so these are our own. They were computed in float64 and rounded, from
weights, views, masks and draws that come from `numpy.random.RandomState`. At each of the steps both
losses were held against the float64 loops of `test_sove.py`, which follow the paper's equations
with the label matrix in full: they agree to 3e-16, in float32 to 2e-7.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.goldens import IMAGES, SHARED, SIZE, check, fill, fill_teacher, trained
from tests.trainers.judging import fill_bank
from trainers.methods import sove
from trainers.methods.sove import SOVE, SOVERecipe
from trainers.recipe import Plan


def make(**options: Any) -> SOVE:
    """Banks of three batches, which four steps go round; `options` are of the recipe."""
    small = {"bank": 12, "patch_bank": 12, "anchors": 6, "patch_anchors": 5, "judges": 3}
    heads = {"head_hidden": 40, "head_dim": 24, "local_crops": 2, "drop_path": 0.0}
    tasks = {"tasks": 2, "patch_tasks": 2, "teacher_temp_epochs": 3.0}
    recipe = SOVERecipe(**(SHARED | small | heads | tasks | options))
    method = SOVE(Plan.of(recipe, 2 * IMAGES))
    fill(method.student, 7)
    fill_teacher(method)
    if recipe.cls_weight:
        fill_bank(method.bank, 70)
    if recipe.patch_weight:
        fill_bank(method.patch_bank, 71)
    return method


def draw_anchors(size: int, anchors: int, tasks: int, seed: tuple[int, ...], how: str) -> Tensor:
    """Anchors that are the same on every machine."""
    assert how == "uniform"
    rng = np.random.RandomState(9000 + 10 * seed[1] + seed[2])
    return torch.from_numpy(np.stack([rng.permutation(size)[:anchors] for _ in range(tasks)]))


def draw_patches(patches: int, index: Tensor, seed: tuple[int, ...]) -> Tensor:
    """Patches for the bank that are the same on every machine."""
    return (index * 5 + seed[1]) % patches


CASES: dict[str, tuple[Callable[[], SOVE], tuple[int, ...]]] = {
    "multi_crop": (make, (SIZE, SIZE, 32, 32)),
    "one_hot_late_masks": (
        lambda: make(
            local_crops=0, labels="one_hot", token="avg", judges_from="all", mim_start_epoch=1.0
        ),
        (SIZE, SIZE),
    ),
    "patches_with_judges": (
        lambda: make(local_crops=0, cls_weight=0.0, patch_judges=4, lr=0.005),
        (SIZE, SIZE),
    ),
}

# Computed in float64 and rounded; what is asserted below runs in float32.
GOLDENS: dict[str, dict[str, list[float]]] = {
    "multi_crop": {
        "loss": [3.97965517, 3.40922586, 3.89769978, 3.92530565],
        "cls": [1.89580381, 1.7024392, 1.88313817, 1.89870916],
        "patch": [2.08385137, 1.70678666, 2.01456161, 2.02659649],
        "gradients": [
            0.603051362,
            0.237318103,
            0.376727544,
            0.00868308925,
            0.685818178,
            -0.690680629,
        ],
        "norm": [18.017485, 24.5783373, 17.014761, 8.76160363],
        "moved": [0.391760926],
    },
    "one_hot_late_masks": {
        "loss": [1.94081569, 1.29732122, 3.63132986, 4.68640445],
        "cls": [1.94081569, 1.29732122, 1.5099637, 1.89292478],
        "patch": [0.0, 0.0, 2.12136616, 2.79347967],
        "gradients": [
            0.230418682,
            0.00573130384,
            0.672415246,
            0.427777319,
            0.576803038,
            0.150811586,
        ],
        "norm": [8.18194358, 0.698503574, 19.3108047, 25.2229633],
        "moved": [0.346466716],
    },
    "patches_with_judges": {
        "loss": [1.62943836, 1.35719737, 1.72501933, 1.70213731],
        "patch": [1.62943836, 1.35719737, 1.72501933, 1.70213731],
        "gradients": [
            0.0437584397,
            0.044784199,
            0.02777098,
            0.0138726601,
            0.0485225719,
            -0.0592113702,
        ],
        "norm": [1.30144672, 3.80476409, 4.42722801, 4.60810678],
        "moved": [0.142989481],
    },
}


@pytest.mark.parametrize("name", CASES)
def test_four_steps_give_the_same_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sove, "draw_anchors", draw_anchors)
    monkeypatch.setattr(sove, "draw_patches", draw_patches)
    make, sizes = CASES[name]
    check(trained(make(), sizes), GOLDENS[name])

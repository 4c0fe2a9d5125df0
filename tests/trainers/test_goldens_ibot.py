"""Numbers of iBOT that the authors' own code gives too.

How they were made: as in test_goldens.py, with the official code of bytedance/ibot
da316d82636a7a7356835ef224b13d5f3ace0489 on a CPU (torch 2.15, timm 1.0.31, one thread): its own
`train_one_epoch` with head, loss, schedules, parameter groups, clipping, frozen last layer, centres
and teacher update, the head shared by class token and patches. Measured agreement, worst case of
all cases:

|                                               | float64 | float32 |
|-----------------------------------------------|---------|---------|
| losses and their parts, at each of four steps | 1e-15   | 8e-7    |
| norm of all gradients, at each step           | 2e-15   | 1.2e-6  |
| gradients of the three tensors                | 4e-15   | 3.8e-6  |
| length of the way that the weights went       | 3e-16   | 5e-8    |
| both centres after the last step              | 5e-16   | 3e-7    |

Beyond these cases, in float64 at 224 and 96 px, with images that are not masked at all and wholly
masked ones, other weights of the losses and masks from a later epoch: each single gradient tensor
4e-15, both centres after 6 steps 4e-16, all weights of the student 6e-15 and of the teacher 7e-14
of their movement. The number of masked patches, the share of images without a mask and the shape of
blocks agree with 8,000 draws of the official loader on grids of 4, 8 and 14.

A change of these numbers is a change of the published method: run the official code again before
you write new ones.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.trainers.goldens import IMAGES, SHARED, SIZE, check, fill, fill_teacher, trained
from trainers.methods.ibot import iBOT, iBOTRecipe
from trainers.recipe import Plan


def make(**options: Any) -> iBOT:
    """Prototypes that move after the first epoch; `options` are of the recipe."""
    small = {"out_dim": 48, "head_hidden": 40, "head_dim": 24, "local_crops": 2, "drop_path": 0.0}
    # Temperatures of their own, so that mistaking one for the other shows.
    fixed = {"teacher_temp_epochs": 3.0, "patch_temp": 0.09, "patch_temp_start": 0.05}
    method = iBOT(Plan.of(iBOTRecipe(**(SHARED | small | fixed | options)), 2 * IMAGES))
    fill(method.student, 5)
    fill_teacher(method)
    return method


CASES: dict[str, tuple[Callable[[], iBOT], tuple[int, ...]]] = {
    "multi_crop": (lambda: make(norm_last_layer=True), (SIZE, SIZE, 32, 32)),
    "free_gain": (lambda: make(clip=0.3), (SIZE, SIZE, 32, 32)),
    "two_crop_late_masks": (
        lambda: make(norm_last_layer=True, local_crops=0, mim_start_epoch=1.0),
        (SIZE, SIZE),
    ),
}


# Computed in float64 and rounded; what is asserted below runs in float32.
GOLDENS: dict[str, dict[str, list[float]]] = {
    "multi_crop": {
        "loss": [5.89794973, 6.07603604, 5.94626521, 6.89899234],
        "cls": [2.97240196, 2.3081582, 2.53797477, 3.37150758],
        "patch": [2.92554778, 3.76787784, 3.40829044, 3.52748476],
        "gradients": [6.18071, 4.672465, 0.9810508, 0.5609568, 2.113869, -0.9314785],
        "norm": [44.3988613, 34.1938975, 13.0372645, 15.2969287],
        "moved": [0.42143543],
    },
    "free_gain": {
        "loss": [5.96216393, 6.28491084, 5.92662409, 6.83258666],
        "cls": [2.96339765, 2.38927661, 2.63450951, 3.33531692],
        "patch": [2.99876627, 3.89563423, 3.29211458, 3.49726974],
        "gradients": [5.601491, 5.098633, 0.9129724, 0.7254032, 1.991149, -0.8712449],
        "norm": [44.0095455, 34.6749977, 13.665657, 17.2035613],
        "moved": [0.418790687],
    },
    "two_crop_late_masks": {
        "loss": [2.4536811, 1.90750063, 6.54971472, 7.35618417],
        "cls": [2.4536811, 1.90750063, 2.6865962, 3.6411962],
        "patch": [0, 0, 3.86311853, 3.71498797],
        "gradients": [6.500636, 3.106226, 1.173305, 0.1894945, 1.30348, -0.8667173],
        "norm": [33.0281387, 35.1385521, 29.9986961, 25.7918183],
        "moved": [0.400526868],
    },
}


@pytest.mark.parametrize("name", CASES)
def test_four_steps_give_the_numbers_of_the_official_code(name: str) -> None:
    make_method, sizes = CASES[name]
    check(trained(make_method(), sizes), GOLDENS[name])

"""Numbers of MaSSL that the authors' own code gives too.

How they were made: as those of `test_goldens.py`, from the official code of MaSSL, sthalles/MaSSL
0fa1456e4ccdb4160379eee7c31996535cd7d2d0, run beside ours on exactly these cases: its own
`train_one_epoch`, with its networks, memory, random partition, schedules, parameter groups,
clipping and teacher update, both given the same permutations. Half precision and its gradient
scaler were off. Measured agreement, worst case of these and of one at 224 px:

|                                                  | float64 | float32 |
|--------------------------------------------------|---------|---------|
| losses at each of four steps                     | 8e-16   | 4e-7    |
| norm of all gradients, at each step              | 1e-14   | 4e-6    |
| gradients of the three tensors, of every tensor  | 5e-15   | 2e-6    |
| length of the way that the weights went          | 5e-16   | 6e-7    |
| the memory after four steps, which wrap around   | 1e-15   | 1.3e-6  |
| teacher temperature at each step                 | 0       | 0       |

A change of these numbers is a change of the published method: run the official code again before
you write new ones.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.goldens import IMAGES, SHARED, SIZE, check, fill, fill_teacher, trained
from tests.trainers.judging import fill_bank
from trainers.methods import massl
from trainers.methods.massl import MaSSL, MaSSLRecipe
from trainers.recipe import Plan


def make(**options: Any) -> MaSSL:
    """A memory of three batches, which four steps go round; `options` are of the recipe."""
    small = {"bank": 12, "block": 4, "head_hidden": 40, "head_dim": 24, "local_crops": 2}
    fixed = {"drop_path": 0.0, "teacher_temp_epochs": 3.0}
    method = MaSSL(Plan.of(MaSSLRecipe(**(SHARED | small | fixed | options)), 2 * IMAGES))
    fill(method.student, 6)
    fill_teacher(method)
    fill_bank(method.bank, 60)
    return method


def blocks(step: int, size: int, block: int) -> torch.Tensor:
    """The places in the memory of the blocks of a step."""
    return torch.from_numpy(np.random.RandomState(9000 + step).permutation(size)).view(-1, block)


CASES: dict[str, tuple[Callable[[], MaSSL], tuple[int, ...]]] = {
    "multi_crop": (make, (SIZE, SIZE, 32, 32)),
    "two_crop_one_block": (lambda: make(local_crops=0, block=12, clip=0.1, lr=0.005), (SIZE, SIZE)),
}

# Computed in float64 and rounded; what is asserted below runs in float32.
GOLDENS: dict[str, dict[str, list[float]]] = {
    "multi_crop": {
        "loss": [0.470892719, 0.721368748, 1.0064771, 1.49742293],
        "gradients": [
            0.607545047,
            -0.158358834,
            0.0992370071,
            -0.0269175702,
            0.121200989,
            -0.098650018,
        ],
        "norm": [3.57034191, 2.92993968, 7.08201634, 2.94838208],
        "moved": [0.432080545],
    },
    "two_crop_one_block": {
        "loss": [0.835033934, 1.53223047, 2.17738037, 2.72629174],
        "gradients": [
            1.73348857,
            0.0323800748,
            0.341703034,
            -0.167386299,
            0.334200973,
            -0.558073451,
        ],
        "norm": [9.30687368, 8.02538592, 12.1303817, 9.11373523],
        "moved": [0.236692171],
    },
}


@pytest.mark.parametrize("name", CASES)
def test_four_steps_give_the_numbers_of_the_official_code(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fix_blocks(step: int) -> None:
        monkeypatch.setattr(
            massl, "draw_anchors", lambda size, block, *_: blocks(step, size, block)
        )

    make, sizes = CASES[name]
    check(trained(make(), sizes, fix_blocks), GOLDENS[name])

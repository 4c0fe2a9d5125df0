"""The momentum teacher: a moving average that no gradient and no drop path reaches."""

import numpy as np
import torch
from torch import nn

from tests.trainers.tiny import float64, shaken, tiny_vit
from trainers.blocks.teacher import MomentumTeacher


def student() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"linear": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4)})


def test_a_teacher_starts_as_a_copy_that_shares_nothing() -> None:
    mine = student()
    teacher = MomentumTeacher(mine)
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    assert before.keys() == mine.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())
    shaken(mine)
    assert all(torch.equal(v, before[name]) for name, v in teacher.model.state_dict().items())


def test_parameters_follow_the_moving_average() -> None:
    mine = student()
    teacher = MomentumTeacher(mine)
    expected = [float64(p) for p in mine.parameters()]
    for momentum in (0.9, 0.5, 0.996, 0.0, 0.99):
        shaken(mine)
        teacher.update(mine, momentum)
        for i, p in enumerate(mine.parameters()):
            expected[i] = momentum * expected[i] + (1 - momentum) * float64(p)
    for value, p in zip(expected, teacher.model.parameters(), strict=True):
        np.testing.assert_allclose(float64(p), value, atol=1e-6)


def test_a_momentum_of_one_stands_still() -> None:
    mine = student()
    teacher = MomentumTeacher(mine)
    before = [p.clone() for p in teacher.model.parameters()]
    teacher.update(shaken(mine), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.model.parameters(), strict=True))


def test_buffers_are_copied() -> None:
    mine = student()
    teacher = MomentumTeacher(mine)
    mine["norm"](torch.randn(5, 4))
    teacher.update(mine, 0.9)
    assert torch.equal(teacher.model["norm"].running_mean, mine["norm"].running_mean)
    assert teacher.model["norm"].num_batches_tracked == 1


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = MomentumTeacher(student())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher.model["linear"](torch.randn(2, 3)).requires_grad


def test_the_teacher_drops_nothing_while_the_student_does() -> None:
    vit = tiny_vit(drop_path_rate=0.5, proj_drop_rate=0.3, attn_drop_rate=0.3)
    teacher = MomentumTeacher(vit).train()
    x = torch.randn(4, 3, 16, 16)
    assert not torch.allclose(vit(x), vit(x))
    assert torch.equal(teacher.model(x), teacher.model(x))
    torch.testing.assert_close(teacher.model(x), vit.eval()(x))

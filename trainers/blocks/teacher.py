"""Momentum teacher: an exponential moving average of the student."""

import copy

import torch
from torch import nn


class MomentumTeacher(nn.Module):
    """A frozen copy of ``student`` that follows it: ``teacher = m * teacher + (1 - m) * student``.

    The copy holds the same modules under the same names. Stochastic depth is turned off in it, and
    it stays in the train/eval mode it is put in by ``train()``: with neither dropout nor drop path
    left the mode matters only to batch normalisation, whose teacher uses batch statistics (MoCo
    v3).

    Args:
        student: the module to follow, a ``ModuleDict`` of all parts that have a teacher.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(student).requires_grad_(False)
        for module in self.model.modules():
            if type(module).__name__ in ("DropPath", "Dropout"):
                for name in ("drop_prob", "p"):
                    if name in vars(module):
                        setattr(module, name, 0.0)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Move every parameter by ``1 - momentum`` towards the student's; buffers are copied."""
        teacher = list(self.model.parameters())
        torch._foreach_lerp_(teacher, list(student.parameters()), 1.0 - momentum)
        for mine, theirs in zip(self.model.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)

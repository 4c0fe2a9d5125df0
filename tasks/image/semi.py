"""Semi-supervised fine-tuning: the whole network on few labels, from the first head layer on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from bench.task import TaskData
from tasks.finetune_protocols import PROTOCOLS, FinetuneProtocol
from tasks.finetune_task import FinetuneTask


@final
@dataclass(frozen=True, kw_only=True)
class Semi(FinetuneTask):
    """Top-1 after fine-tuning on the few labelled images of a list, evaluated on all of val.

    iBOT's script, for `semi@imagenet1k[list=1percent.txt]` and `10percent.txt`: between the CLS
    token and the new linear layer stays the first linear layer of the pre-training projection head
    with its GELU, where the checkpoint has it (run folders of DINO, iBOT, MaSSL and SOVE do). Else
    a plain linear head is trained, and a warning says so.

    The rate is 5e-6 * batch / 512 = 1e-5, which is also the floor of the schedule: after 5 epochs
    of warm-up it is constant for the rest of 1000. Each batch holds three copies of an image. The
    moving average of the weights that the script keeps is never evaluated there, and left out. The
    papers report the best of all epochs on val: `selection=test&eval_every=1`. For all else see
    `finetune`.

    Attributes:
        protocol: gives the value of each option that is `none`, unless said otherwise.
    """

    version: ClassVar[int] = 1

    protocol: Literal["semi_ibot"] = "semi_ibot"

    @property
    def label(self) -> str:
        """Name of the protocol."""
        return self.protocol

    def possible(self) -> Sequence[FinetuneProtocol]:
        """The one of that name."""
        return (PROTOCOLS[self.protocol],)

    def choose(self, data: TaskData) -> tuple[FinetuneProtocol, list[str]]:
        """The one of that name."""
        return PROTOCOLS[self.protocol], []

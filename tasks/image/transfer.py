"""Transfer by fine-tuning: the whole network on CIFAR, iNaturalist, Flowers, Cars and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

from bench.task import TaskData
from tasks.finetune_protocols import PROTOCOLS, TRANSFER, FinetuneProtocol
from tasks.finetune_task import FinetuneTask


@final
@dataclass(frozen=True, kw_only=True)
class Transfer(FinetuneTask):
    """Top-1 after fine-tuning on another data set, with the numbers that were published for it.

    DeiT's script as iBOT and SOVE call it: CLS token, plain linear head, no layer decay, batch 768
    with three copies of each image, 1000 epochs (360 on iNaturalist), rate 7.5e-6 * batch / 512
    (Cars 7.5e-5; ViT-S on iNaturalist 5e-5 and 2.5e-5) down to 1e-5. The data set's name chooses
    them (`TRANSFER` in `tasks/finetune_protocols.py`); one that was not published takes CIFAR's,
    and a warning says so. Top-1 everywhere, not the mean per class that others report on Flowers
    and Pets. Images of other sizes are resized to the checkpoint's input: CIFAR to 224 px.

    1000 epochs of CIFAR at 224 px are 40 epochs of ImageNet: set `epochs` for less. The papers
    report the best of all epochs on test: `selection=test&eval_every=1`. For all else see
    `finetune`.

    Attributes:
        protocol: gives the value of each option that is `none`, unless said otherwise.
    """

    version: ClassVar[int] = 1

    protocol: Literal["transfer_deit"] = "transfer_deit"

    @property
    def label(self) -> str:
        """Name of the protocol."""
        return self.protocol

    def possible(self) -> Sequence[FinetuneProtocol]:
        """One for each published data set."""
        return [replace(PROTOCOLS[self.protocol], **changes) for changes in TRANSFER.values()]

    def facts(self, data: TaskData) -> dict[str, str]:
        """Whose numbers are taken: the data set's name is in no manifest."""
        return {"numbers": self._name(data)}

    def choose(self, data: TaskData) -> tuple[FinetuneProtocol, list[str]]:
        """The one of the data set's name."""
        name, notes = self._name(data), []
        if name not in TRANSFER:
            notes.append(
                f"{self.protocol} has no published numbers for {name}: those of CIFAR were used"
            )
        return replace(PROTOCOLS[self.protocol], **TRANSFER.get(name, {})), notes

    @staticmethod
    def _name(data: TaskData) -> str:
        return "+".join(sorted({part.name for part in data.parts}))

"""All tokens of the images of one split, stored or forwarded when they are asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.errors import DataError
from bench.extraction import Pass
from bench.feature_file import Rows
from bench.feature_table import FeatureTable
from bench.loader import image_batches

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.task_data import TaskData
    from bench.transforms import Transform

TOKENS = "tokens"

TokenBatches = Iterator[tuple[Rows, Tensor]]


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Tokens after the final norm: CLS where there is one, then the patches row by row.

    Rows are in the split's order, without images skipped as unreadable. Values are rounded to
    float16 whether they were stored or not, so that the disk's size changes no number.
    """

    ids: tuple[str, ...]
    targets: Rows  # (n,)
    classes: tuple[str, ...]
    split_rows: Rows  # (n,) where each row stands in the split
    shape: tuple[int, int]  # (t, d)
    stored: bool
    _read: Callable[[Rows, int], TokenBatches]

    def __len__(self) -> int:
        return len(self.ids)

    def batches(self, rows: Rows, size: int) -> TokenBatches:
        """(rows (b,), tokens (b, t, d) float32 on the device), in the order of `rows`."""
        return self._read(np.asarray(rows, dtype=np.int64), size)

    @classmethod
    def of(cls, table: FeatureTable, shape: tuple[int, int], device: str) -> "TokenTable":
        """Tokens of a stored matrix whose columns are `tokens`."""

        def read(rows: Rows, size: int) -> TokenBatches:
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                values = torch.from_numpy(np.ascontiguousarray(table.take(part)))
                yield part, values.to(device).float().view(len(part), *shape)

        facts = (table.ids, table.targets, table.classes, table.split_rows)
        return cls(*facts, shape, True, read)


def forwarded(
    data: "TaskData",
    model: "LoadedModel",
    split: "Split",
    transform: "Transform",
    shape: tuple[int, int],
) -> TokenTable:
    """Tokens computed whenever they are read, for splits whose tokens fill no disk."""
    known = data.features(model, split, transform) if data.skip_bad else None  # what is readable
    rows = np.arange(len(split)) if known is None else known.split_rows
    job = Pass(model, split, (TOKENS,), torch.device(data.device), data.precision)

    def read(asked: Rows, size: int) -> TokenBatches:
        pin = job.device.type == "cuda"
        taken = 0
        with job.ready():
            images = image_batches(split, transform, rows[asked], size, data.workers, pin)
            for batch in images:
                if batch.bad:
                    raise DataError(next(iter(batch.bad.values())))
                part = asked[taken : taken + len(batch.rows)]
                taken += len(part)
                values = job.features(batch.pixels)[TOKENS]
                yield part, values.float().view(len(part), *shape)

    return TokenTable(
        ids=split.ids if known is None else known.ids,
        targets=split.targets[rows],
        classes=split.classes,
        split_rows=rows,
        shape=shape,
        stored=False,
        _read=read,
    )

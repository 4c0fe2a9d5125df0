"""One frozen pass of one model over one split: from batches of pixels to rows on the disk."""

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.errors import CheckpointError
from bench.feature_file import Matrix, PartialFeatures, Rows
from bench.feature_table import too_many_bad
from bench.loader import ImageBatch

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Pass:
    """One model over one split."""

    model: "LoadedModel"
    split: "Split"
    blocks: tuple[str, ...]
    device: torch.device
    precision: str

    @contextmanager
    def ready(self) -> Iterator[None]:
        """The backbone on the device in eval mode; its mode is put back afterwards."""
        backbone = self.model.backbone
        training = backbone.training
        backbone.to(self.device).eval()
        try:
            yield
        finally:
            backbone.train(training)

    def features(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, h, w) on the host -> float16 (b, all widths) on the device."""
        backbone, dtype = self.model.backbone, PRECISIONS[self.precision]
        if len(pixels) == 0:
            return torch.empty(0, sum(map(backbone.width, self.blocks)), dtype=torch.float16)
        autocast = torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)
        with torch.inference_mode():
            images = backbone.input.normalise(pixels.to(self.device, non_blocking=True))
            with autocast:
                found = backbone.features(images, self.blocks)
            return torch.cat([found[block].half() for block in self.blocks], dim=1)

    def run(
        self,
        images: Iterable[ImageBatch],
        part: PartialFeatures,
        skip_bad: int,
        shard_rows: int,
        shard_seconds: float,
    ) -> Iterator[int]:
        """Computes and writes the features of `images`, yielding how many images each batch had.

        One shard is on its way to the disk while the device computes the next.
        """
        shard, bad = _Shard(), 0
        pending: Future[None] | None = None
        with self.ready(), ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
            for batch in images:
                bad += len(batch.bad)
                shard.add(batch.rows, batch.bad, self.features(batch.pixels))
                if bad > skip_bad:
                    shard.write(part, self)
                    raise too_many_bad(list(batch.bad.values())[-1], bad, skip_bad)
                if shard.is_due(shard_rows, shard_seconds):
                    if pending is not None:
                        pending.result()
                    pending, shard = writer.submit(shard.write, part, self), _Shard()
                yield len(batch.rows) + len(batch.bad)
            if pending is not None:
                pending.result()
            shard.write(part, self)


@dataclass
class _Shard:
    """Rows that are computed but not yet written."""

    rows: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def add(self, rows: Tensor, bad: Mapping[int, str], values: Tensor) -> None:
        self.rows.append(rows)
        self.values.append(values)
        self.bad |= bad

    def is_due(self, rows: int, seconds: float) -> bool:
        waited = time.monotonic() - self.started
        return waited >= seconds or sum(map(len, self.rows)) + len(self.bad) >= rows

    def write(self, part: PartialFeatures, job: Pass) -> None:
        """Brings the values to the host (one copy for the shard) and to the disk."""
        if not self.rows:
            return
        rows: Rows = torch.cat(self.rows).numpy()
        values: Matrix = torch.cat([v.to(self.values[0].device) for v in self.values]).cpu().numpy()
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            first = job.split.ids[int(rows[np.flatnonzero(~finite)[0]])]
            raise CheckpointError(
                f"{job.model.record.name} gives features that are not finite in float16 for "
                f"{(~finite).sum()} images, first {first}: the weights are damaged or diverged, "
                f"or {job.precision} overflows (use --precision fp32)"
            )
        part.write(rows, values, self.bad)

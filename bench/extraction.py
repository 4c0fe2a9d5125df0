"""One frozen pass of one model over one split: from batches of pixels to rows on the disk.

A pass may fill several matrices at once, such as whole-image vectors and all tokens.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
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
class Sheet:
    """One matrix to fill: the blocks (or the recipe `tokens`) that make up its columns."""

    blocks: tuple[str, ...]
    part: PartialFeatures


@dataclass(frozen=True)
class Pass:
    """One model over one split; each image is seen at every one of the `scales`."""

    model: "LoadedModel"
    split: "Split"
    blocks: tuple[str, ...]
    device: torch.device
    precision: str
    scales: tuple[float, ...] = (1.0,)

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

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        """uint8 (b, 3, h, w) on the host -> block -> float16 (b, columns) on the device."""
        backbone, dtype = self.model.backbone, PRECISIONS[self.precision]
        autocast = torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)
        with torch.inference_mode():
            images = backbone.input.normalise(pixels.to(self.device, non_blocking=True))
            with autocast:
                found = [backbone.features(scaled(images, s), self.blocks) for s in self.scales]
            if len(found) == 1:
                return {block: found[0][block].flatten(1).half() for block in self.blocks}
            sums = {b: sum(f[b].float() for f in found) / len(found) for b in self.blocks}
            return {block: torch.as_tensor(value).half() for block, value in sums.items()}

    def run(
        self,
        images: Iterable[ImageBatch],
        sheets: Sequence[Sheet],
        skip_bad: int,
        limits: "Limits",
    ) -> Iterator[int]:
        """Computes and writes the features of `images`, yielding how many images each batch had.

        One shard is on its way to the disk while the device computes the next.
        """
        shard, bad = _Shard(), 0
        pending: Future[None] | None = None
        with self.ready(), ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
            for batch in images:
                bad += len(batch.bad)
                shard.bad |= batch.bad
                if len(batch.rows):
                    shard.add(batch.rows, self.features(batch.pixels))
                if bad > skip_bad:
                    shard.write(sheets, self)
                    raise too_many_bad(list(batch.bad.values())[-1], bad, skip_bad)
                if shard.is_due(limits):
                    if pending is not None:
                        pending.result()
                    pending, shard = writer.submit(shard.write, sheets, self), _Shard()
                yield len(batch.rows) + len(batch.bad)
            if pending is not None:
                pending.result()
            shard.write(sheets, self)


def scaled(images: Tensor, factor: float) -> Tensor:
    """Normalised images (b, 3, h, w) resized by a factor, as DINO's multi-scale retrieval does."""
    if factor == 1.0:
        return images
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Limits:
    """When computed rows go to the disk: whichever comes first."""

    rows: int = 8192
    seconds: float = 10.0
    bytes: int = 2**28


@dataclass
class _Shard:
    """Rows that are computed but not yet written."""

    rows: list[Tensor] = field(default_factory=list)
    values: list[dict[str, Tensor]] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    bytes: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, rows: Tensor, values: dict[str, Tensor]) -> None:
        self.rows.append(rows)
        self.values.append(values)
        self.bytes += sum(value.nbytes for value in values.values())

    def is_due(self, limits: Limits) -> bool:
        waited = time.monotonic() - self.started
        count = sum(map(len, self.rows)) + len(self.bad)
        return waited >= limits.seconds or count >= limits.rows or self.bytes >= limits.bytes

    def write(self, sheets: Sequence[Sheet], job: Pass) -> None:
        """Brings the values to the host (one copy for the shard) and to the disk."""
        if not self.rows and not self.bad:
            return
        rows: Rows = torch.cat([torch.empty(0, dtype=torch.int64), *self.rows]).numpy()
        order = np.argsort(rows)  # batches by image size come out of order
        for sheet in sheets:
            width = sheet.part.shape[1]
            values: Matrix = np.empty((0, width), dtype=np.float16)
            if self.rows:
                batches = [torch.cat([v[b] for b in sheet.blocks], dim=1) for v in self.values]
                values = torch.cat(batches).cpu().numpy()[order]
            self._check(rows[order], values, job)
            sheet.part.write(rows[order], values, self.bad)

    @staticmethod
    def _check(rows: Rows, values: Matrix, job: Pass) -> None:
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            first = job.split.ids[int(rows[np.flatnonzero(~finite)[0]])]
            raise CheckpointError(
                f"{job.model.record.name} gives features that are not finite in float16 for "
                f"{(~finite).sum()} images, first {first}: the weights are damaged or diverged, "
                f"or {job.precision} overflows (use --precision fp32)"
            )

"""Frozen whole-image features: one pass per model and split, shared by every task that needs it.

The pass stores a superset of blocks (four CLS taps and both averages) as one memory-mapped float16
matrix; every token recipe is a view of its columns or a concatenation of a few. All tokens of small
splits are another matrix, filled by the same pass when both are asked for.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench import dist
from bench.disk import locked
from bench.errors import DataError, SpecError, nearest
from bench.extraction import PRECISIONS, Limits, Pass, Sheet
from bench.feature_file import CARD, PartialFeatures
from bench.feature_table import FeatureTable, open_table
from bench.loader import PixelCache
from bench.progress import Progress, say
from bench.recipes import RECIPE_BLOCKS
from bench.token_table import TOKENS
from bench.transforms import EvalTransform, SquareTransform

if TYPE_CHECKING:
    from bench.backbone import Backbone
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.transforms import Transform

__all__ = ["ABI", "PRECISIONS", "FeatureCache", "FeatureTable"]

#: Raised when the same key would give other numbers (decoding, normalisation, blocks).
ABI = 2


@dataclass
class FeatureCache:
    """The folder of all feature matrices, each under the hash of everything that can change it.

    A pass that was killed continues at the last shard (`shard_rows` images or `shard_seconds`,
    whichever comes first). Splits that fit `pixels.budget_bytes` stay decoded for the next model;
    tokens of a split are stored where they fit `token_bytes` and half of the free disk. Several
    processes may share the folder: one fills a matrix, the others wait for it.
    """

    root: Path
    shard_rows: int = 8192
    shard_seconds: float = 10.0
    token_bytes: int = 2**35
    pixels: PixelCache = field(default_factory=PixelCache)

    def extract(
        self,
        model: "LoadedModel",
        split: "Split",
        transform: "Transform",
        blocks: Sequence[str] = RECIPE_BLOCKS,
        batch_size: int = 128,
        workers: int = 0,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        skip_bad: int = 0,
    ) -> FeatureTable:
        """The table of features, computed on the first call and opened on every later one.

        Of the default blocks those are stored that the backbone has. Under a process group every
        process calls this and does its share. DataError: more than `skip_bad` unreadable images.
        CheckpointError: features that are not finite.
        """
        (matrix,) = self.prepare(
            model,
            split,
            transform,
            (blocks,),
            batch_size=batch_size,
            workers=workers,
            device=device,
            precision=precision,
            skip_bad=skip_bad,
        )
        return open_table(matrix.folder, split, matrix.blocks, matrix.widths, skip_bad)

    def prepare(
        self,
        model: "LoadedModel",
        split: "Split",
        transform: "Transform",
        wanted: Sequence[Sequence[str]],
        batch_size: int = 128,
        workers: int = 0,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        skip_bad: int = 0,
    ) -> "list[Matrix]":
        """Several matrices (each a choice of blocks, or `tokens` alone) from one pass."""
        if len(split) == 0:
            raise DataError(f"{split.name} {split.split} has no images: choose another split")
        if precision not in PRECISIONS:
            raise SpecError(f"no precision '{precision}'; {nearest(precision, PRECISIONS)}")
        matrices = [self.matrix(model, split, transform, blocks, precision) for blocks in wanted]
        absent = [matrix for matrix in matrices if not agreed(matrix.exists)]
        with ExitStack() as locks:
            for matrix in sorted(absent, key=lambda matrix: matrix.folder):
                locks.enter_context(_lock(matrix.folder) if dist.is_main() else nullcontext())
            if absent := [matrix for matrix in absent if not agreed(matrix.exists)]:
                blocks = tuple(dict.fromkeys(block for m in absent for block in m.blocks))
                device = torch.device(device)
                job = Pass(model, split, blocks, device, precision, transform.scales)
                self._fill(job, absent, transform, batch_size, workers, skip_bad)
        return matrices

    def matrix(
        self,
        model: "LoadedModel",
        split: "Split",
        transform: "Transform",
        blocks: Sequence[str] = RECIPE_BLOCKS,
        precision: str = "fp32",
    ) -> "Matrix":
        """Where a matrix lies or will lie, and what its columns are."""
        backbone = model.backbone
        has = backbone.available
        stored = tuple(b for b in blocks if tuple(blocks) != RECIPE_BLOCKS or has(b))
        card = _card(model, split, transform, stored, precision)
        if stored == (TOKENS,):
            widths: tuple[int, ...] = (math.prod(token_shape(backbone, transform)),)
        else:
            widths = tuple(map(backbone.width, stored))
        return Matrix(Path(self.root) / _digest(card)[:24], card, stored, widths)

    def keeps_tokens(self, images: int, shape: tuple[int, int]) -> bool:
        """Whether the tokens (t, d) of so many images are stored, or forwarded when asked for."""
        need = 2 * images * math.prod(shape)
        Path(self.root).mkdir(parents=True, exist_ok=True)
        return agreed(need <= min(self.token_bytes, shutil.disk_usage(self.root).free // 2))

    def _fill(
        self,
        job: Pass,
        matrices: "Sequence[Matrix]",
        transform: "Transform",
        batch_size: int,
        workers: int,
        skip_bad: int,
    ) -> None:
        rank, images = dist.rank(), len(job.split)
        parts = [PartialFeatures(m.folder, (images, sum(m.widths)), rank) for m in matrices]
        sheets = [Sheet(m.blocks, part) for m, part in zip(matrices, parts, strict=True)]
        if dist.is_main():
            for part in parts:
                part.create()
        dist.barrier()
        missing = reduce(np.union1d, [part.missing() for part in parts])
        rows = missing[dist.shard(len(missing))]
        dist.barrier()  # all have read the lists before anyone extends one
        card = matrices[0].card
        if len(missing) < images:
            say(f"features {job.split.name}: continuing at {images - len(missing)} of {images}")
        pin = job.device.type == "cuda"
        key = f"{card['images']} {card['transform']}"
        batches = self.pixels.batches(key, job.split, transform, rows, batch_size, workers, pin)
        limits = Limits(self.shard_rows, self.shard_seconds)
        with (
            closing(batches),
            Progress(f"features {job.split.name}", images, images - len(missing)) as progress,
        ):
            for done in job.run(batches, sheets, skip_bad, limits):
                progress.advance(done)
        dist.barrier()
        if dist.is_main():
            for matrix, part in zip(matrices, parts, strict=True):
                part.finish(matrix.card, job.split.ids, job.split.targets)
        dist.barrier()


@dataclass(frozen=True)
class Matrix:
    """One stored matrix: its folder, all that can change it, its blocks and their columns."""

    folder: Path
    card: dict[str, Any]
    blocks: tuple[str, ...]
    widths: tuple[int, ...]

    @property
    def exists(self) -> bool:
        """Whether it is complete."""
        return (self.folder / CARD).exists()


def token_shape(backbone: "Backbone", transform: "Transform") -> tuple[int, int]:
    """(t, d) of the tokens of an image under the transform; SpecError where sizes differ."""
    if not isinstance(transform, EvalTransform | SquareTransform):
        raise SpecError(f"tokens under {transform.id}: images must all be of one size")
    return backbone.token_shape(transform.spec.size_px)


def _card(
    model: "LoadedModel",
    split: "Split",
    transform: "Transform",
    blocks: tuple[str, ...],
    precision: str,
) -> dict[str, Any]:
    """Everything that can change a feature; its hash is the key."""
    return {
        "abi": ABI,
        "weights": model.record.weights,
        "network": model.backbone.signature(),
        "mean": list(model.backbone.input.mean),
        "std": list(model.backbone.input.std),
        "pos_interp": model.backbone.pos_interp,
        "blocks": list(blocks),
        "precision": precision,
        "transform": transform.id,
        "images": split.images_digest,
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def agreed(value: bool) -> bool:
    """The main process's view: others may look a moment later, or at another disk."""
    return bool(dist.all_gather_object(value)[0])


def _lock(folder: Path) -> AbstractContextManager[None]:
    return locked(folder, f"computes the features {folder.name}")

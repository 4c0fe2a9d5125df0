"""Frozen whole-image features: one pass per model and split, shared by every task that needs it.

The pass stores a superset of blocks (four CLS taps and both averages) as one memory-mapped float16
matrix; every token recipe is a view of its columns or a concatenation of a few.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench import dist
from bench.errors import DataError, SpecError, nearest
from bench.extraction import PRECISIONS, Pass
from bench.feature_file import CARD, PartialFeatures
from bench.feature_table import FeatureTable, open_table
from bench.loader import PixelCache
from bench.progress import Progress, say
from bench.recipes import RECIPE_BLOCKS

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.transforms import Transform

__all__ = ["ABI", "PRECISIONS", "FeatureCache", "FeatureTable"]

#: Raised when the same key would give other numbers (decoding, normalisation, blocks).
ABI = 1


@dataclass
class FeatureCache:
    """The folder of all feature matrices, each under the hash of everything that can change it.

    A pass that was killed continues at the last shard (`shard_rows` images or `shard_seconds`,
    whichever comes first). Splits that fit `pixels.budget_bytes` stay decoded for the next model.
    Several processes may share the folder: one fills a matrix, the others wait for it.
    """

    root: Path
    shard_rows: int = 8192
    shard_seconds: float = 10.0
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
        if len(split) == 0:
            raise DataError(f"{split.name} {split.split} has no images: choose another split")
        if precision not in PRECISIONS:
            raise SpecError(f"no precision '{precision}'; {nearest(precision, PRECISIONS)}")
        has = model.backbone.available
        stored = tuple(b for b in blocks if tuple(blocks) != RECIPE_BLOCKS or has(b))
        card = _card(model, split, transform, stored, precision)
        widths = tuple(model.backbone.width(block) for block in stored)
        folder = Path(self.root) / _digest(card)[:24]
        if not _agreed((folder / CARD).exists()):
            with _lock(folder) if dist.is_main() else nullcontext():
                if not _agreed((folder / CARD).exists()):
                    job = Pass(model, split, stored, torch.device(device), precision)
                    part = PartialFeatures(folder, (len(split), sum(widths)), dist.rank())
                    self._fill(job, part, transform, card, batch_size, workers, skip_bad)
        return open_table(folder, split, stored, widths, skip_bad)

    def _fill(
        self,
        job: Pass,
        part: PartialFeatures,
        transform: "Transform",
        card: Mapping[str, Any],
        batch_size: int,
        workers: int,
        skip_bad: int,
    ) -> None:
        if dist.is_main():
            part.create()
        dist.barrier()
        missing = part.missing()
        rows = missing[dist.shard(len(missing))]
        dist.barrier()  # all have read the lists before anyone extends one
        pin = job.device.type == "cuda"
        key = f"{card['manifest']} {card['order']} {card['transform']}"
        images = self.pixels.batches(key, job.split, transform, rows, batch_size, workers, pin)
        with (
            closing(images),
            Progress(
                f"features {job.split.name}", len(job.split), len(job.split) - len(missing)
            ) as progress,
        ):
            for done in job.run(images, part, skip_bad, self.shard_rows, self.shard_seconds):
                progress.advance(done)
        dist.barrier()
        if dist.is_main():
            part.finish(card, job.split.ids, job.split.targets)
        dist.barrier()


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
        "manifest": split.manifest,
        # The manifest is sorted; rows are not.
        "order": _digest(list(split.ids)),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _agreed(value: bool) -> bool:
    """The main process's view: others may look a moment later."""
    return bool(dist.all_gather_object(value)[0])


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds `KEY.lock`, which the system frees when the process ends, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that computes the features {folder.name}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield

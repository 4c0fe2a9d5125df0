"""Retrieval features: photographs in buckets of one size against one photograph at a time.

    python tests/speed/retrieval.py

The reference is what the official scripts do, which take a batch of 1 because sizes differ. Both
ways make the same pass (thumbnails, three scales, every image once) in turns, medians; most
photographs of Oxford and Paris are 4:3, upright or lying, and so are these. Seconds on a processor
are of one thread and of the processor, so that other work on the machine does not count. What
buckets save is what each forward costs beside its arithmetic: much for small networks and on an
accelerator, next to nothing for 768 tokens of a ViT-S on one thread.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.checkpoint import LoadedModel, load_model
from bench.features import FeatureCache
from bench.transforms import ThumbnailTransform
from tasks.image.retrieval import THREE_SCALES

SIDES = ((4, 3), (3, 4), (4, 3), (3, 4), (4, 3), (3, 4), (3, 2))  # width : height
# architecture, longest side, photographs, batch
CASES = (
    ("vit_mini_patch4_32", 32, 400, 64),
    ("vit_mini_patch16_224", 224, 128, 32),
    ("vit_small_patch16_224", 512, 14, 6),
)
REPEATS = 3
THREADS = 1


@dataclass(frozen=True)
class Photographs:
    """A split of random images whose longest side is that of the thumbnail."""

    n: int
    longest_px: int
    name: str = "photographs"
    split: str = "database"
    manifest: str = "photographs"
    classes: tuple[str, ...] = ()

    @property
    def images_digest(self) -> str:
        return f"{self.manifest} {self.n}"

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.n)))

    @property
    def targets(self) -> np.ndarray:
        return np.full(self.n, -1, np.int64)

    def __len__(self) -> int:
        return self.n

    def image(self, index: int) -> Image.Image:
        width, height = (
            side * self.longest_px // max(SIDES[index % len(SIDES)])
            for side in SIDES[index % len(SIDES)]
        )
        rng = np.random.default_rng(index)
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def features(
    model: LoadedModel, split: Photographs, batch: int, device: str
) -> tuple[np.ndarray, float]:
    """(features (n, d), seconds) of one pass with batches of at most `batch` images."""
    transform = ThumbnailTransform(split.longest_px, THREE_SCALES)
    clock = time.perf_counter if device == "cuda" else time.process_time
    with tempfile.TemporaryDirectory() as folder:
        began = clock()
        table = FeatureCache(Path(folder)).extract(
            model, split, transform, batch_size=batch, device=device
        )
        return np.array(table.get("cls"), dtype=np.float32), clock() - began


def compare(arch: str, longest_px: int, images: int, batch: int, device: str) -> None:
    """Prints both ways and their ratio; the features must agree."""
    model = load_model(f"random:{arch}?seed=0")
    split = Photographs(images, longest_px)
    ways = {"buckets": batch, "one at a time": 1}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for _ in range(REPEATS):
        for name, size in ways.items():  # alternating: a busy machine slows both
            found[name], took = features(model, split, size, device)
            seconds[name].append(took)
    np.testing.assert_allclose(found["buckets"], found["one at a time"], atol=0.02)
    mid = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{arch}, {images} photographs of {longest_px} px at 3 scales, {device}")
    for name, took in mid.items():
        print(f"  {name:14} {took:7.2f} s  {images / took:7.2f} images/s")
    print(f"  {mid['one at a time'] / mid['buckets']:.2f} times as fast in buckets; same features")


def main() -> None:
    """Prints the comparison for every case."""
    torch.set_num_threads(THREADS)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for case in CASES:
        compare(*case, device)


if __name__ == "__main__":
    main()

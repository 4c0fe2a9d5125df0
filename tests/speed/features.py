"""Feature extraction against the bare forward of the same network, in images per second.

    python tests/speed/features.py [--arch vit_tiny_patch16_224] [--images 256] [--batch 32]

The images are decoded beforehand, as they are for every model but the first on a small split. The
target is at least 0.90 of the bare forward. Both run in turns, medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.checkpoint import load_model
from bench.features import PRECISIONS, FeatureCache
from bench.loader import PixelCache
from bench.transforms import EvalTransform


@dataclass(frozen=True)
class Noise:
    """A split of random images."""

    n: int
    size_px: int
    name: str = "noise"
    split: str = "val"
    manifest: str = "noise"
    classes: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.n)))

    @property
    def targets(self) -> np.ndarray:
        return np.zeros(self.n, np.int64)

    @property
    def images_digest(self) -> str:
        """Of the name and the number of images."""
        return f"{self.manifest} {len(self)}"

    def __len__(self) -> int:
        return self.n

    def image(self, index: int) -> Image.Image:
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 256, (self.size_px, self.size_px, 3), np.uint8)
        return Image.fromarray(pixels)


def seconds(work: Callable[[], object], device: str) -> tuple[float, float]:
    """(wall, processor) time of one call, the device's queue included."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Prints both rates and their ratio; processor time is the steadier where others compute."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="vit_base_patch16_224" if gpu else "vit_tiny_patch16_224")
    parser.add_argument("--images", type=int, default=16_384 if gpu else 512)
    parser.add_argument("--batch", type=int, default=256 if gpu else 32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="bf16" if gpu else "fp32", choices=PRECISIONS)
    options = parser.parse_args()
    device = "cuda" if gpu else "cpu"
    model = load_model(f"random:{options.arch}")
    backbone, transform = model.backbone.to(device), EvalTransform(model.backbone.input)
    split = Noise(options.images, backbone.input.size_px)
    dtype = PRECISIONS[options.precision]
    sizes = [
        min(options.batch, options.images - i) for i in range(0, options.images, options.batch)
    ]
    still = torch.randn(options.batch, 3, split.size_px, split.size_px, device=device)

    @torch.inference_mode()
    def bare() -> None:
        low = torch.autocast(device, dtype) if dtype != torch.float32 else nullcontext()
        with low:
            for size in sizes:
                backbone.vit.forward_features(still[:size])

    pixels = PixelCache(budget_bytes=2**34)
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(10_000))

        def extract() -> None:
            cache = FeatureCache(Path(folder) / str(next(count)), pixels=pixels)
            cache.extract(
                model,
                split,
                transform,
                batch_size=options.batch,
                device=device,
                precision=options.precision,
            )

        for work in (bare, extract, bare, extract):  # decodes, and warms the device
            work()
        turns = [(seconds(bare, device), seconds(extract, device)) for _ in range(options.repeats)]
    seen = options.images
    print(f"{options.arch}, {options.precision}, batch {options.batch}, {device}")
    for clock, name in enumerate(("wall", "processor")):
        plain = seen / statistics.median(turn[0][clock] for turn in turns)
        ours = seen / statistics.median(turn[1][clock] for turn in turns)
        print(
            f"{name} time: bare forward {plain:,.0f} images/s, extraction {ours:,.0f} images/s, "
            f"ratio {ours / plain:.3f} (target on wall time: 0.90 or more)"
        )


if __name__ == "__main__":
    main()

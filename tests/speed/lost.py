"""LOST on photographs in batches of one padded size against one photograph at a time.

    python tests/speed/lost.py

The reference is what the public script does, a batch of 1 because sizes differ (its new forward
hook for each image and its whole attention matrix are left out here). The photographs have the
sizes that most of VOC's have; padding to whole patches joins several of them. Both ways run in
turns, medians. Seconds on a processor are of one thread and of the processor, so that other work on
the machine does not count. The bound is the forward of the same images in full batches of one size,
without reading, padding or LOST. What batches save is what each forward costs beside its
arithmetic: much on an accelerator, next to nothing for 768 tokens of a ViT-S on one thread.
"""

import statistics
import time
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.checkpoint import LoadedModel, load_model
from bench.maps import map_batches
from bench.transforms import NativeTransform
from tasks.lost import lost

# width, height of photographs of VOC 2012, about as frequent as there
SIZES = [(500, 375)] * 10 + [(375, 500)] * 3 + [(500, 333)] * 3 + [(333, 500)] + [(500, 374)]
SIZES += [(500, 332), (500, 400), (480, 360)]
# architecture, photographs, batch
ON_PROCESSOR = (("vit_mini_patch16_224", 84, 32), ("vit_small_patch16_224", 12, 8))
ON_DEVICE = (("vit_small_patch16_224", 630, 32), ("vit_base_patch16_224", 630, 32))
REPEATS = 3
THREADS = 1


@dataclass(frozen=True)
class Photographs:
    """A split of random images, each size decoded once."""

    n: int
    name: str = "photographs"

    def __len__(self) -> int:
        return self.n

    @cached_property
    def kept(self) -> list[Image.Image]:
        rng = np.random.default_rng(0)
        arrays = [rng.integers(0, 256, (h // 25, w // 25, 3), np.uint8) for w, h in SIZES]
        return [Image.fromarray(a).resize(s) for a, s in zip(arrays, SIZES, strict=True)]

    def image(self, index: int) -> Image.Image:
        return self.kept[index * 8 % len(self.kept)]  # sizes alternate


def boxes(
    model: LoadedModel, photographs: Any, batch: int, device: str
) -> tuple[np.ndarray, float]:
    """(boxes (n, 4), seconds) of one pass with batches of at most `batch` photographs."""
    data: Any = SimpleNamespace(device=device, precision="fp32", batch_size=batch, workers=0)
    clock = time.perf_counter if device == "cuda" else time.process_time
    found = np.zeros((len(photographs), 4))
    began = clock()
    for maps in map_batches(
        data, model, photographs, NativeTransform(), "key_last", pad=True, batch_size=batch
    ):
        for row, keys, size in zip(maps.rows.tolist(), maps.maps, maps.sizes.tolist(), strict=True):
            found[row] = lost(keys).box(model.backbone.patch_size, size)
    return found, clock() - began


def forward(model: LoadedModel, n: int, batch: int, device: str) -> float:
    """Seconds of the forward alone, on images of the most frequent padded size."""
    images = torch.zeros(batch, 3, 384, 512, device=device)
    clock = time.perf_counter if device == "cuda" else time.process_time
    began = clock()
    with torch.inference_mode():
        for start in range(0, n, batch):
            keys = model.backbone.features(images[: n - start], ["key_last"])["key_last"]
        float(keys.sum())  # waits for the device
    return clock() - began


def compare(arch: str, n: int, batch: int, device: str) -> None:
    """Prints both ways, their ratio and the bound."""
    model, photographs = load_model(f"random:{arch}?seed=0"), Photographs(n)
    model.backbone.to(device)
    ways = {"by padded size": batch, "one at a time": 1}
    seconds: dict[str, list[float]] = {name: [] for name in [*ways, "bound"]}
    found = {}
    boxes(model, photographs, batch, device)  # a first pass sets the device up
    for _ in range(REPEATS):
        for name, size in ways.items():  # alternating: a busy machine slows both
            found[name], took = boxes(model, photographs, size, device)
            seconds[name].append(took)
        seconds["bound"].append(forward(model, n, batch, device))
    mid = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{arch}, {n} photographs of VOC's sizes, batch {batch}, {device}")
    for name, took in mid.items():
        print(f"  {name:14} {1e3 * took / n:8.2f} ms/image  {n / took:8.2f} images/s")
    same = (found["by padded size"] == found["one at a time"]).all(axis=1).sum()
    ratio = mid["one at a time"] / mid["by padded size"]
    print(f"  {ratio:.2f} times as fast by padded size; {same} of {n} boxes are equal")
    print(f"  {mid['bound'] / mid['by padded size']:.0%} of the forward's own speed")


def alone(device: str) -> None:
    """Prints what LOST itself takes for one image."""
    keys = torch.randn(24, 32, 384, generator=torch.Generator().manual_seed(0)).to(device)
    clock = time.perf_counter if device == "cuda" else time.process_time
    lost(keys)
    began = clock()
    for _ in range(20):
        lost(keys)
    print(f"LOST alone, 24 x 32 patches of width 384, {device}: {50 * (clock() - began):.2f} ms")


def main() -> None:
    """Prints the comparison for every case."""
    torch.set_num_threads(THREADS)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for case in ON_DEVICE if device == "cuda" else ON_PROCESSOR:
        compare(*case, device)
    alone(device)


if __name__ == "__main__":
    main()

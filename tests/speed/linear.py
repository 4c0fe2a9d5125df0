"""Linear probing: 20 heads in one pass against 20 separate runs, each with its own learning rate.

The separate runs are what a script does that takes one learning rate: `nn.Linear` with
`torch.optim.SGD`, run again for each. Both ways train on the same batches, first with a frozen
forward of freshly augmented images (the fair cost of the published protocols), then on stored
features. Run it as `python tests/speed/linear.py`; random images and features. Seconds are of one
processor and one thread, so that other work on the machine does not count.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.checkpoint import load_model
from bench.streams import FeatureBatch, Stream, open_stream
from bench.transforms import EvalTransform, TrainTransform
from tasks.linear_protocols import PROTOCOLS
from tasks.sweep import HeadSweep

LRS = tuple(float(lr) for lr in np.geomspace(1e-3, 1.0, 20))
CLASSES = 100
REPEATS = 3
THREADS = 1


@dataclass(frozen=True)
class RandomImages:
    """A split of random 40 px images."""

    count: int
    manifest: str = "noise"
    name: str = "noise"

    @property
    def images_digest(self) -> str:
        """Of the name and the number of images."""
        return f"{self.manifest} {len(self)}"

    def __len__(self) -> int:
        return self.count

    @property
    def ids(self) -> list[str]:
        """One each."""
        return list(map(str, range(self.count)))

    @property
    def targets(self) -> np.ndarray:
        """(n,)."""
        return np.arange(self.count) % CLASSES

    def image(self, row: int) -> Image.Image:
        """RGB."""
        pixels = np.random.default_rng(row).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


@dataclass(frozen=True)
class Source:
    """Batches of a stream, and its shape."""

    epoch: Callable[[int], Iterator[FeatureBatch]]
    batch: int
    iterations: int


@contextmanager
def source(
    transform: TrainTransform | EvalTransform, images: int, batch: int, **of: Any
) -> Iterator[Source]:
    """The stream of so many random images, opened for the class token."""
    stream = Stream(RandomImages(images), np.arange(images), transform, batch, images // batch, 0)
    model = load_model("random:vit_mini_patch4_32?seed=0")
    with tempfile.TemporaryDirectory() as folder:
        cache = SimpleNamespace(root=Path(folder))
        data = SimpleNamespace(
            device="cpu", batch_size=batch, workers=0, precision="fp32", cache=cache, **of
        )
        batches = open_stream(stream, ("cls",), model, data)
        yield Source(batches.epoch, batch, stream.iterations)


def augmented(images: int, batch: int) -> AbstractContextManager[Source]:
    """Fresh crops through a frozen ViT (96 wide, 4 blocks, 64 tokens)."""
    return source(TrainTransform("rrc_bilinear", 32), images, batch, skip_bad=0)


def cached(images: int, batch: int, width: int) -> AbstractContextManager[Source]:
    """Rows of a stored float16 matrix."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((images, width), dtype=np.float32).astype(np.float16)
    table = SimpleNamespace(get=lambda recipe: values, split_rows=np.arange(images))
    return source(EvalTransform(), images, batch, features=lambda *asked: table)


def together(batches: Source, epochs: int, width: int) -> torch.Tensor:
    """All heads in one pass; weights (h, c, d)."""
    protocol = replace(PROTOCOLS["linear_dino"], lrs=LRS, epochs=epochs)
    sweep = HeadSweep(protocol, {"cls": width}, CLASSES, batches.batch)
    for epoch in range(epochs):
        for iteration, (features, target) in enumerate(batches.epoch(epoch)):
            sweep.step(features, target, protocol.factor(epoch, iteration, batches.iterations))
    return sweep.groups[0][1].weight


def apart(batches: Source, epochs: int, width: int) -> torch.Tensor:
    """One run after the other; weights (h, c, d)."""
    start = together(batches, 0, width)[0]
    weights = []
    for lr in LRS:
        head = torch.nn.Linear(width, CLASSES)
        head.weight.data.copy_(start)
        head.bias.data.zero_()
        scaled = lr * batches.batch / 256
        optimiser = torch.optim.SGD(head.parameters(), lr=scaled, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
        for epoch in range(epochs):
            for features, target in batches.epoch(epoch):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(head(features["cls"]), target).backward()
                optimiser.step()
            schedule.step()
        weights.append(head.weight.data)
    return torch.stack(weights)


def compare(label: str, batches: Source, epochs: int, width: int) -> None:
    """Medians of both ways and their ratio; the weights must agree."""
    ways: dict[str, Callable[..., torch.Tensor]] = {"together": together, "apart": apart}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for _ in range(REPEATS):
        for name, way in ways.items():  # alternating: a busy machine slows both
            began = time.process_time()
            found[name] = way(batches, epochs, width)
            seconds[name].append(time.process_time() - began)
    torch.testing.assert_close(found["together"], found["apart"], rtol=1e-3, atol=1e-4)
    mid = {name: statistics.median(times) for name, times in seconds.items()}
    steps = epochs * batches.iterations
    print(f"{label}: {len(LRS)} heads, {steps} steps of {batches.batch}, {CLASSES} classes")
    print(f"  one pass      {mid['together']:6.2f} s")
    print(f"  separate runs {mid['apart']:6.2f} s")
    print(f"  {mid['apart'] / mid['together']:.1f} times as fast; same weights")


def main() -> None:
    """Prints both comparisons."""
    torch.set_num_threads(THREADS)
    with augmented(images=256, batch=64) as batches:
        compare("frozen forward of fresh crops", batches, epochs=2, width=96)
    with cached(images=4096, batch=256, width=384) as batches:
        compare("stored features, 384 wide", batches, epochs=2, width=384)


if __name__ == "__main__":
    main()

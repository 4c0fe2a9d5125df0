"""Images decoded once against decoding every epoch: what a long fine-tuning on a small set saves.

Both ways read the same images, epoch after epoch in the order of training; then both do with them
what `finetune` does at 224 px (timm's whole augmentation), so that the second figure is what a
loader process really gains. Photographs of Imagenette where SSLBENCH_REAL_DATA has them, else JPEGs
that are drawn here. Run it as `python tests/speed/finetune.py`. Seconds are of one processor and
one thread, so that other work on the machine does not count.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.dataset import open_split
from bench.decoded import Decoded, Images, decode_once
from bench.split import Split
from bench.transforms import InputSpec
from tasks.finetune_batches import global_draws, train_transform
from tasks.finetune_protocols import PROTOCOLS

REAL = Path(os.environ.get("SSLBENCH_REAL_DATA", "../shared/data"))
IMAGES, EPOCHS, REPEATS = 300, 2, 3


def photographs(folder: Path) -> tuple[str, Split]:
    """Some images, and what they are."""
    if (REAL / "imagenette2-224").is_dir():
        return "Imagenette, 224 px", open_split(f"imagenette[n={IMAGES}]", "train", REAL)
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        place = folder / "train" / f"{number}.jpg"
        place.parent.mkdir(exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (28, 34, 3), dtype=np.uint8))
        small.resize((272, 224), Image.Resampling.BICUBIC).save(place, quality=90)
    return "drawn JPEGs, 272 x 224 px", open_split(f"folder[path={folder}]", "train", None)


def epochs(images: Images, count: int, use: Callable[[Image.Image], object]) -> float:
    """Processor seconds of some epochs."""
    began = time.process_time()
    for epoch in range(EPOCHS):
        for row in np.random.default_rng(epoch).permutation(count):
            use(images.image(int(row)))
    return time.process_time() - began


def compare(label: str, split: Split, once: Images, use: Callable[[Image.Image], object]) -> None:
    """Medians of both ways and their ratio."""
    ways = {"decoding every epoch": split, "decoded once": once}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, images in ways.items():  # alternating: a busy machine slows both
            seconds[name].append(epochs(images, len(split), use))
    every, kept = (statistics.median(seconds[name]) for name in ways)
    count = EPOCHS * len(split)
    print(f"{label}: {count} images")
    print(f"  decoding every epoch {every:6.2f} s, {count / every:6.0f} images/s")
    print(f"  decoded once         {kept:6.2f} s, {count / kept:6.0f} images/s")
    print(f"  {every / kept:.1f} times as fast")


def main() -> None:
    """Prints both comparisons."""
    torch.set_num_threads(1)
    os.environ["SSLBENCH_PROGRESS"] = "none"
    with tempfile.TemporaryDirectory() as name:
        what, split = photographs(Path(name))
        began = time.process_time()
        once = decode_once(split, Path(name) / "decoded")
        assert isinstance(once, Decoded)
        print(f"{what}: decoded and kept in {time.process_time() - began:.2f} s")
        for row in range(0, len(split), 10):
            assert once.image(row).tobytes() == split.image(row).tobytes()
        compare("images alone", split, once, Image.Image.load)
        transform = train_transform(PROTOCOLS["finetune_mae"], InputSpec(), 224)

        def augmented(image: Image.Image) -> object:
            with global_draws(0):
                return transform(image)

        compare("with the augmentation of finetune_mae", split, once, augmented)


if __name__ == "__main__":
    main()

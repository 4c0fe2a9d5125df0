"""k-NN at the size of ImageNet: peak memory, and the time for all 50,000 test images.

    python tests/speed/knn_imagenet.py [--queries 512] [--folder DIR]

1,281,167 x 384 random features are written once (0.98 GB of float16) and read memory-mapped, as the
cache's are. A part of the test images is voted on in a process of its own, and its seconds are
carried on to 50,000. Clusters are what features look like: each query has near neighbours.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tasks.image.knn import vote
from tasks.neighbours import QUERY_CHUNK, nearest

TRAIN, TEST, CLASSES, WIDTH = 1_281_167, 50_000, 1000, 384
KS, TEMPERATURE = (10, 20, 100, 200), 0.07
LIMIT = 8 * 2**30
CHUNK = 20_000


def write(folder: Path, queries: int) -> None:
    """`train.npy`, `test.npy` and `labels.npy` of random clusters."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, WIDTH), dtype=np.float32)
    for name, count in (("train", TRAIN), ("test", queries)):
        shape = (count, WIDTH)
        values = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, shape)
        labels = rng.integers(0, CLASSES, count)
        for start in range(0, count, CHUNK):
            mine = labels[start : start + CHUNK]
            noise = rng.standard_normal((len(mine), WIDTH), dtype=np.float32)
            values[start : start + CHUNK] = centres[mine] + 3 * noise
        values.flush()
        np.save(folder / f"{name}_labels.npy", labels)


def measure(folder: Path) -> dict[str, float]:
    """Seconds, peak bytes and accuracy of voting on all of `test.npy`."""
    train = np.load(folder / "train.npy", mmap_mode="r")
    test = np.load(folder / "test.npy", mmap_mode="r")
    labels, target = (np.load(folder / f"{name}_labels.npy") for name in ("train", "test"))
    began, cpu = time.perf_counter(), time.process_time()
    hits = 0
    for rows, cosine, index in nearest(test, train, max(KS)):
        votes = vote(cosine, labels[index.numpy()], CLASSES, KS, TEMPERATURE)
        hits += int((votes[20].argmax(axis=1) == target[rows]).sum())
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    status = Path("/proc/self/status").read_text()
    peak = 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])
    # The mapped pages are the system's to drop, but they count as long as they are resident.
    return {
        "seconds": took,
        "cpu": cpu,
        "peak": peak,
        "top1": hits / len(test),
    }


def main() -> None:
    """Prints memory and times; fails beyond 8 GiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=2 * QUERY_CHUNK)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", type=Path)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write(Path(folder), options.queries)
        command = [sys.executable, __file__, "--measure", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    scale = TEST / options.queries
    gibibyte = 2**30
    print(f"k-NN of {options.queries} queries among {TRAIN:,} x {WIDTH}, k = {KS}, on a processor")
    print(
        f"  {torch.get_num_threads()} threads: {found['seconds']:.1f} s, {found['cpu']:.1f} s cpu"
    )
    print(
        f"  for {TEST:,}: {found['seconds'] * scale / 60:.0f} min, "
        f"{found['cpu'] * scale / 3600:.1f} h of one processor"
    )
    print(
        f"  peak memory {found['peak'] / gibibyte:.2f} GiB, of which the mapped features "
        f"{TRAIN * WIDTH * 2 / gibibyte:.2f} GiB; top-1 {found['top1']:.3f}"
    )
    assert found["peak"] < LIMIT


if __name__ == "__main__":
    main()

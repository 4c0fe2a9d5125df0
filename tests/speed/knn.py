"""k-NN: one pass for four k against one pass for each k, and peak memory at 200,000 x 384.

The reference does what DINO's script does: for every k anew, the full row of similarities of each
chunk of test images, its sorted top-k, and a one-hot tensor (images, k, classes) for the vote.
Run it as `python tests/speed/knn.py` (Linux); features are random clusters. Seconds are of one
processor and one thread, so that other work on the machine does not count.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tasks.image.knn import vote
from tasks.neighbours import nearest

KS = (10, 20, 100, 200)
CLASSES, WIDTH, TEMPERATURE = 1000, 384, 0.07
CHUNK = 500  # DINO: a hundredth of ImageNet's 50,000 test images
REPEATS = 3
THREADS = 1


def clusters(train: int, test: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float16 features (train, d) and (test, d), and classes of the former."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, WIDTH), dtype=np.float32)
    labels = rng.integers(0, CLASSES, train + test)
    values = np.empty((train + test, WIDTH), dtype=np.float16)
    for start in range(0, len(values), 10_000):
        rows = slice(start, start + 10_000)
        noise = rng.standard_normal((len(labels[rows]), WIDTH), dtype=np.float32)
        values[rows] = centres[labels[rows]] + 3 * noise
    return values[:train], values[train:], labels[:train]


def ours(
    train: np.ndarray, test: np.ndarray, labels: np.ndarray, ks: tuple[int, ...] = KS
) -> dict[int, np.ndarray]:
    """Predictions for every k from one pass."""
    found: dict[int, list[np.ndarray]] = {k: [] for k in ks}
    for _, cosine, index in nearest(test, train, max(ks)):
        votes = vote(cosine, labels[index.numpy()], CLASSES, ks, TEMPERATURE)
        for k in ks:
            found[k].append(votes[k].argmax(axis=1))
    return {k: np.concatenate(parts) for k, parts in found.items()}


def reference(
    train: np.ndarray, test: np.ndarray, labels: np.ndarray, ks: tuple[int, ...] = KS
) -> dict[int, np.ndarray]:
    """Predictions for every k, each from a pass of its own."""
    keys = torch.nn.functional.normalize(torch.from_numpy(np.asarray(train)).float(), dim=1).T
    queries = torch.nn.functional.normalize(torch.from_numpy(np.asarray(test)).float(), dim=1)
    classes = torch.from_numpy(labels)
    found = {}
    for k in ks:
        predictions = []
        for chunk in queries.split(CHUNK):
            cosine, index = (chunk @ keys).topk(k, dim=1, sorted=True)  # (b, k)
            one_hot = torch.zeros(len(chunk), k, CLASSES)
            one_hot.scatter_(2, classes[index][:, :, None], 1)
            scores = (one_hot * (cosine / TEMPERATURE).exp()[:, :, None]).sum(dim=1)  # (b, c)
            predictions.append(scores.argsort(dim=1, descending=True)[:, 0])
        found[k] = torch.cat(predictions).numpy()
    return found


WAYS: dict[str, Callable[..., dict[int, np.ndarray]]] = {"ours": ours, "reference": reference}


def compare_times(train: int, test: int) -> None:
    """Medians of both ways on the same features, and whether they predict the same."""
    data = clusters(train, test)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    answers = {}
    for _ in range(REPEATS):
        for name, way in WAYS.items():  # alternating: a busy machine slows both
            began = time.process_time()
            answers[name] = way(*data)
            seconds[name].append(time.process_time() - began)
    same = all(np.array_equal(answers["ours"][k], answers["reference"][k]) for k in KS)
    mid = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{test:,} test x {train:,} train x {WIDTH}, k = {KS}, {CLASSES} classes")
    print(f"  one pass for all k  {mid['ours']:6.2f} s")
    print(f"  one pass for each k {mid['reference']:6.2f} s")
    print(f"  {mid['reference'] / mid['ours']:.1f} times as fast; predictions equal: {same}")
    assert same


def compare_memory(train: int, test: int) -> None:
    """Peak resident memory of each way in a process of its own, beside that of the imports."""
    with tempfile.TemporaryDirectory() as folder:
        for name, array in zip(("train", "test", "labels"), clusters(train, test), strict=True):
            np.save(Path(folder) / f"{name}.npy", array)
        peak = {}
        for name in ("imports", *WAYS):
            command = [sys.executable, __file__, "--measure", name, "--folder", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak[name] = int(done.stdout)
    mebibyte = 2**20
    print(f"peak memory beyond the imports ({peak['imports'] / mebibyte:.0f} MiB):")
    print(
        f"  float16 features, mapped {train * WIDTH * 2 / mebibyte:6.0f} MiB ({train:,} x {WIDTH})"
    )
    for name in WAYS:
        print(f"  {name:24} {(peak[name] - peak['imports']) / mebibyte:6.0f} MiB")


def measure(name: str, folder: Path) -> int:
    """Peak resident bytes of this process after running one way (or nothing)."""
    train = np.load(folder / "train.npy", mmap_mode="r")
    test, labels = np.load(folder / "test.npy"), np.load(folder / "labels.npy")
    if name in WAYS:
        WAYS[name](train, test, labels)
    else:
        torch.ones(64, 64) @ torch.ones(64, 64)  # the first product loads the linear algebra
    # Not getrusage: its peak also counts the parent, from which this process was forked.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


def main() -> None:
    """Prints both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", choices=["imports", *WAYS])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.measure:
        print(measure(options.measure, options.folder))
        return
    compare_times(train=20_000, test=1_000)
    compare_memory(train=200_000, test=1_000)


if __name__ == "__main__":
    main()

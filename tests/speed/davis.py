"""DAVIS: windows of patches against masked affinities of all patches, and J&F over processes.

    python tests/speed/davis.py

Propagation is that of a ViT-S/16 at 480p: 30 x 52 patches of 384 numbers, eight context frames. The
reference is the equation written out, as the official code has it: exp(cosine / 0.1) of all patches
with all, times a mask of who is near whom, top 5, weights, labels. Both must give the same labels.
Seconds are of the processor and of one thread, so that other work on the machine does not count;
each way has a process of its own, whose peak memory is read after a frame with a full context.

J&F compares our contours' look-ups with dilated images of whole frames (scipy), and one process
with several by the clock: those need idle cores.
"""

import argparse
import io
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

from bench.features import FeatureCache
from bench.label_maps import index_png
from bench.spec import parse_dataset
from bench.task import TaskData
from tasks.video_metric import frame_scores
from tasks.video_propagation import Propagator
from tasks.video_protocols import Propagation
from tasks.video_scoring import Scoring
from tasks.videos import videos_of

H, W, WIDTH, CHANNELS = 30, 52, 384, 3
RULE = Propagation()
FRAMES, REPEATS, THREADS = 4, 5, 1
SIZE, VIDEOS, LENGTH = (480, 854), 8, 70
WAYS = ("ours", "dense")


def video(count: int) -> list[Tensor]:
    """Features (h, w, d) of frames that move by a patch, with noise."""
    rng = torch.Generator().manual_seed(0)
    scene = torch.randn(H, W, WIDTH, generator=rng)
    return [
        torch.roll(scene, (t % 3, t), (0, 1)) + 0.7 * torch.randn(H, W, WIDTH, generator=rng)
        for t in range(count)
    ]


def seeds() -> Tensor:
    """One-hot labels (h, w, c)."""
    labels = torch.zeros(H, W, dtype=torch.int64)
    labels[8:16, 10:24], labels[14:28, 30:44] = 1, 2
    return F.one_hot(labels, CHANNELS).float()


class Dense:
    """The equation, all patches with all."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features, self.labels = [features.flatten(0, 1)], [labels.flatten(0, 1)]
        y, x = torch.arange(H * W) // W, torch.arange(H * W) % W
        far = torch.maximum((y[:, None] - y).abs(), (x[:, None] - x).abs())
        self.near = (far <= RULE.radius).float()  # (n, n)

    def step(self, frame: Tensor) -> Tensor:
        """(h, w, c) soft labels of the next frame."""
        target = F.normalize(frame.flatten(0, 1), dim=1)  # (n, d)
        context = F.normalize(torch.stack(self.features), dim=2)  # (f, n, d)
        affinity = torch.exp(torch.matmul(context, target.T) / RULE.temperature)  # (f, n, targets)
        affinity = (affinity * self.near).flatten(0, 1)  # (f * n, targets)
        last = affinity.topk(RULE.topk, dim=0).values[-1]
        affinity[affinity < last] = 0
        affinity = affinity / affinity.sum(0)
        found = affinity.T @ torch.cat(self.labels)  # (targets, c)
        self.features = [*self.features, frame.flatten(0, 1)]
        self.labels = [*self.labels, found]
        for kept in (self.features, self.labels):
            if len(kept) > 1 + RULE.context:
                del kept[1]
        return found.view(H, W, -1)


def propagate(way: str) -> dict[str, Any]:
    """Seconds a frame with a full context, peak memory above the features, and the last labels."""
    torch.set_num_threads(THREADS)
    frames = video(1 + RULE.context + FRAMES * REPEATS)
    before = resident("VmRSS")
    follower = Propagator(RULE, frames[0], seeds()) if way == "ours" else Dense(frames[0], seeds())
    with torch.inference_mode():
        for frame in frames[1 : 1 + RULE.context]:
            found = follower.step(frame)
        seconds = []
        for repeat in range(REPEATS):
            start = 1 + RULE.context + repeat * FRAMES
            began = time.process_time()
            for frame in frames[start : start + FRAMES]:
                found = follower.step(frame)
            seconds.append((time.process_time() - began) / FRAMES)
    peak = resident("VmHWM") - before
    return {"seconds": statistics.median(seconds), "peak": peak, "labels": found.tolist()}


def resident(name: str) -> int:
    """Bytes of this process's memory, now (`VmRSS`) or at most so far (`VmHWM`)."""
    (kib,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) * 1024


def matrix_products() -> float:
    """Seconds a frame that our tiles' matrix products take alone: the bound of this way."""
    torch.set_num_threads(THREADS)
    propagator = Propagator(RULE, video(1)[0], seeds())
    shapes = []
    for band in propagator.bands:
        for tile in band.tiles:
            targets, rows, _, columns = tile.outside.shape
            shapes.append((targets, rows * (1 + RULE.context) * columns))
    targets, keys = torch.randn(H * W, WIDTH), torch.randn(max(m for _, m in shapes), WIDTH)
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        for t, m in shapes:
            targets[:t] @ keys[:m].T
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


def compare_propagation() -> None:
    """Prints both ways, their ratio and the bound."""
    found = {}
    for way in WAYS:
        done = subprocess.run(
            [sys.executable, __file__, "--way", way], check=True, capture_output=True, text=True
        )
        found[way] = json.loads(done.stdout)
    worst = abs(np.array(found["ours"]["labels"]) - np.array(found["dense"]["labels"])).max()
    print(f"propagation, {H} x {W} patches, d = {WIDTH}, {1 + RULE.context} context frames")
    for way in WAYS:
        ms, mib = 1e3 * found[way]["seconds"], found[way]["peak"] / 2**20
        print(f"  {way:6} {ms:7.1f} ms a frame, {mib:6.0f} MiB above the features")
    speed, memory = (found["dense"][key] / found["ours"][key] for key in ("seconds", "peak"))
    print(
        f"  {speed:.1f} times as fast, {memory:.1f} times less memory; labels differ by {worst:.1e}"
    )
    bound = matrix_products()
    share = bound / found["ours"]["seconds"]
    print(f"  its matrix products alone: {1e3 * bound:.1f} ms, {share:.0%} of ours")


# J&F


def dilated_scores(prediction: np.ndarray, truth: np.ndarray, count: int) -> list[float]:
    """J and F of all objects of a frame, contours dilated as whole images."""
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = y**2 + x**2 <= radius**2
    found = []
    for number in range(1, count + 1):
        masks = [prediction == number, truth == number]
        found.append((masks[0] & masks[1]).sum() / max((masks[0] | masks[1]).sum(), 1))
        edges = [edge(mask) for mask in masks]
        wide = [ndimage.binary_dilation(e, disk) for e in edges]
        precision, recall = (
            (edges[i] & wide[1 - i]).sum() / max(edges[i].sum(), 1) for i in (0, 1)
        )
        found.append(2 * precision * recall / max(precision + recall, 1e-12))
    return found


def edge(mask: np.ndarray) -> np.ndarray:
    """(h, w) pixels unlike their right, lower or lower right neighbour; of masks off the border."""
    found = np.zeros_like(mask)
    found[:-1, :-1] = mask[:-1, :-1] != mask[:-1, 1:]
    found[:-1, :-1] |= mask[:-1, :-1] != mask[1:, :-1]
    found[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return found


def blobs(seed: int, t: int) -> np.ndarray:
    """(h, w) two objects of wavy outline, two pixels further right in every frame."""
    return np.roll(still(seed), 2 * t, 1)


@lru_cache
def still(seed: int) -> np.ndarray:
    """Where they are in the first frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    labels = np.zeros(SIZE, dtype=np.uint8)
    for number in (1, 2):
        top, left = rng.uniform(150, 330), rng.uniform(150, 500)
        angle = np.arctan2(y - top, x - left)
        radius = rng.uniform(60, 110) * (1 + 0.2 * np.sin(9 * angle + rng.uniform(0, 6)))
        labels[np.hypot(y - top, x - left) < radius] = number
    return labels


def write(root: Path) -> None:
    """Videos of DAVIS's size in its layout."""
    folder = root / "mini_davis"
    grey = io.BytesIO()
    Image.new("RGB", SIZE[::-1]).save(grey, "JPEG")
    for name in map(str, range(VIDEOS)):
        images, masks = (folder / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for t in range(LENGTH):
            (images / f"{t:05d}.jpg").write_bytes(grey.getvalue())
            (masks / f"{t:05d}.png").write_bytes(index_png(blobs(int(name), t)))
    (folder / "ImageSets" / "2017").mkdir(parents=True)
    (folder / "ImageSets" / "2017" / "val.txt").write_text("\n".join(map(str, range(VIDEOS))))


def timed(run: Callable[[], Any], clock: Callable[[], float]) -> tuple[float, Any]:
    """Median seconds, and what came out."""
    seconds = []
    for _ in range(3):
        began = clock()
        found = run()
        seconds.append(clock() - began)
    return statistics.median(seconds), found


def compare_scores(workers: int) -> None:
    """Prints frames a second of the metric, and of the whole scoring in processes."""
    pairs = [(np.roll(blobs(v, 5), 6, 1), blobs(v, 5)) for v in range(VIDEOS)]
    ours, found = timed(lambda: [frame_scores(p, t, [1, 2]) for p, t in pairs], time.process_time)
    wide, expected = timed(lambda: [dilated_scores(p, t, 2) for p, t in pairs], time.process_time)
    np.testing.assert_allclose(
        np.array(found).transpose(0, 2, 1).reshape(VIDEOS, 4), expected, atol=1e-9
    )
    print(
        f"J and F of 2 objects, {SIZE[0]} x {SIZE[1]} pixels: {1e3 * ours / VIDEOS:.2f} ms a frame"
    )
    print(f"  {wide / ours:.0f} times as fast as dilated images; same numbers")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        data = TaskData(parse_dataset("mini_davis"), Path(folder), FeatureCache(Path(folder, "c")))
        videos = videos_of(data)
        masks = [
            [index_png(np.roll(blobs(v, t), 6, 1)) for t in range(LENGTH)] for v in range(VIDEOS)
        ]
        scoring = Scoring(data.open("val"), videos, masks)
        one, found = timed(lambda: list(scoring.run(0)), time.perf_counter)
        some, shared = timed(lambda: list(scoring.run(workers)), time.perf_counter)
        assert all(np.array_equal(a, b) for a, b in zip(found, shared, strict=True))
    frames = VIDEOS * (LENGTH - 2)
    print(f"scoring {VIDEOS} videos, files read: {frames / one:.0f} frames/s in one process")
    print(
        f"  {frames / some:.0f} frames/s in {workers}: {one / some:.2f} times as fast; same numbers"
    )


def main() -> None:
    """Prints all comparisons, or runs one way in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(propagate(options.way)))
        return
    compare_propagation()
    compare_scores(options.workers)


if __name__ == "__main__":
    main()

"""SOVE's targets by segment sum against the product with the label matrix in full: time and memory.

8192 concepts of nine members and 64 rows, as one process of the paper's run has them. Both ways
score the rows against all members; the reference then fills Y (73,728 x 8192), as it must in every
task of every step, and multiplies. Run it as `python tests/speed/sove.py` (Linux, 6 GB free).
Seconds are of one processor and one thread, so that other work on the machine does not count.
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from trainers.blocks.judges import Concepts, cosines

ANCHORS, JUDGES, WIDTH, ROWS = 8192, 9, 256, 64
TEMPERATURE = 0.07
REPEATS = 3
THREADS = 1


def problem() -> tuple[Concepts, Tensor]:
    """Concepts as `form_concepts` returns them, and rows to be voted on."""
    torch.manual_seed(0)
    members, z = torch.randn(JUDGES, ANCHORS, WIDTH), torch.randn(ROWS, WIDTH)
    for rows in (members, z):
        for part in rows.split(1):  # in place and in parts: the input must not be the peak
            part.div_(part.norm(dim=-1, keepdim=True))
    return Concepts(members, torch.rand(JUDGES, ANCHORS)), z


def ours(concepts: Concepts, z: Tensor) -> Tensor:
    """P(z) (rows, K) by segment sums."""
    return concepts.probabilities(z, TEMPERATURE)


def reference(concepts: Concepts, z: Tensor) -> Tensor:
    """P(z) (rows, K) = softmax(z D^T / tau) Y, with Y filled anew."""
    assert concepts.mass is not None
    background = ((1 - concepts.mass) / (ANCHORS - 1)).view(-1, 1)
    labels = background.repeat(1, ANCHORS)  # (J K, K)
    place = torch.arange(ANCHORS).repeat(JUDGES)[:, None]
    labels.scatter_(1, place, concepts.mass.view(-1, 1))
    scores = cosines(z, concepts.members.flatten(0, 1)) / TEMPERATURE
    return scores.softmax(-1) @ labels


WAYS: dict[str, Callable[[Concepts, Tensor], Tensor]] = {"ours": ours, "reference": reference}


def compare_times() -> None:
    """Medians of both ways on the same concepts, and whether they say the same."""
    concepts, z = problem()
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    answers = {}
    for _ in range(REPEATS):
        for name, way in WAYS.items():  # alternating: a busy machine slows both
            began = time.process_time()
            answers[name] = way(concepts, z)
            seconds[name].append(time.process_time() - began)
    torch.testing.assert_close(answers["ours"], answers["reference"], rtol=1e-4, atol=1e-7)
    mid = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{ROWS} rows, {ANCHORS:,} concepts x {JUDGES} members x {WIDTH}: targets of one task")
    print(f"  segment sum   {1000 * mid['ours']:8.0f} ms")
    print(f"  dense product {1000 * mid['reference']:8.0f} ms")
    print(f"  {mid['reference'] / mid['ours']:.0f} times as fast; both give the same", flush=True)


def compare_memory() -> None:
    """Peak resident memory of each way in a process of its own, beside that of its input."""
    peak = {}
    for name in ("input", *WAYS):
        command = [sys.executable, __file__, "--measure", name]
        peak[name] = int(subprocess.run(command, capture_output=True, check=True).stdout)
    mebibyte = 2**20
    print(f"peak memory beyond imports and input ({peak['input'] / mebibyte:.0f} MiB):")
    for name, label in (("ours", "segment sum"), ("reference", "dense product")):
        print(f"  {label:13} {(peak[name] - peak['input']) / mebibyte:8.0f} MiB")


def measure(name: str) -> int:
    """Peak resident bytes of this process after running one way (or nothing)."""
    concepts, z = problem()
    if name in WAYS:
        WAYS[name](concepts, z)
    else:
        z @ z.t()  # the first product loads the linear algebra
    # Not getrusage: its peak also counts the parent, from which this process was forked.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


def main() -> None:
    """Prints both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", choices=["input", *WAYS])
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.measure:
        print(measure(options.measure))
        return
    compare_times()
    compare_memory()


if __name__ == "__main__":
    main()

"""segknn: one search for four k and two distances against one for each, and faiss where it is.

The reference does what CAPI's script does for every k and distance anew: the full distances of each
chunk of patches, their top-k, and `torch.mode` over the neighbours' labels. Faiss (`pip install
faiss-cpu`, not needed otherwise) searches flat under cosine only and does not vote. Run it as
`python tests/speed/segknn.py`; features are random clusters. Seconds are of one processor and one
thread, so that other work on the machine does not count.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from tasks.patch_memory import KEY_ROWS
from tasks.patch_search import DISTANCES, nearest_patches
from tasks.patch_vote import pixel_mode

KS = (1, 3, 10, 30)
WIDTH, PIXELS, CLASSES = 384, 256, 150
CHUNK = 1024  # CAPI's patches at once
REPEATS = 3

Answers = dict[tuple[int, str], Tensor]
Data = tuple[Tensor, Tensor, Tensor]  # memory (m, d), queries (n, d), labels (m, pixels)


def clusters(memory: int, queries: int) -> Data:
    """Features around the centre of a class, and labels that are mostly that class."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, WIDTH, generator=rng)
    label = torch.randint(0, CLASSES, (memory + queries,), generator=rng)
    values = centres[label] + 3 * torch.randn(memory + queries, WIDTH, generator=rng)
    other = torch.randint(0, CLASSES, (memory, PIXELS), generator=rng)
    mixed = torch.rand(memory, PIXELS, generator=rng) < 0.3
    labels = torch.where(mixed, other, label[:memory, None]).to(torch.uint8)
    return values[:memory], values[memory:], labels


def chunks(keys: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """As a memory gives them."""
    index = torch.arange(len(keys))
    yield from zip(index.split(KEY_ROWS["cpu"]), keys.split(KEY_ROWS["cpu"]), strict=True)


def ours(keys: Tensor, queries: Tensor, labels: Tensor) -> Answers:
    """Labels for every k and distance from one search."""
    found: Answers = {}
    for name, near in nearest_patches(queries, chunks(keys), max(KS), DISTANCES).items():
        parts = [pixel_mode(labels[index], KS) for index in near.index.split(196)]
        found |= {(k, name): torch.cat([part[k] for part in parts]) for k in KS}
    return found


def reference(keys: Tensor, queries: Tensor, labels: Tensor) -> Answers:
    """Labels for every k and distance, each from a search of its own."""
    found: Answers = {}
    for k in KS:
        for name in DISTANCES:
            parts = []
            for block in queries.split(CHUNK):
                if name == "l2":
                    distance = torch.cdist(block, keys)
                else:
                    unit = keys / keys.norm(dim=-1, keepdim=True)
                    distance = 1 - block / block.norm(dim=-1, keepdim=True) @ unit.T
                index = distance.topk(k, largest=False).indices  # (b, k)
                parts.append(labels[index].mode(dim=1).values)
            found[k, name] = torch.cat(parts)
    return found


def search(keys: Tensor, queries: Tensor, labels: Tensor) -> Answers:
    """30 neighbours under cosine, without votes."""
    return {(30, "index"): nearest_patches(queries, chunks(keys), 30, ("cosine",))["cosine"].index}


def faiss_search(keys: Tensor, queries: Tensor, labels: Tensor) -> Answers:
    """The same by faiss's flat index."""
    import faiss

    faiss.omp_set_num_threads(1)
    unit = torch.nn.functional.normalize(keys).numpy()
    index = faiss.IndexFlatIP(WIDTH)
    index.add(unit)
    found = index.search(torch.nn.functional.normalize(queries).numpy(), 30)[1]
    return {(30, "index"): torch.from_numpy(found)}


def compare(what: str, ways: dict[str, Callable[..., Answers]], data: Data) -> None:
    """Medians of two ways on the same features, and the share of answers that are equal."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, Answers] = {}
    for _ in range(REPEATS):
        for name, way in ways.items():  # alternating: a busy machine slows both
            began = time.process_time()
            answers[name] = way(*data)
            seconds[name].append(time.process_time() - began)
    first, second = answers.values()
    equal = np.mean([(first[key] == second[key]).float().mean().item() for key in first])
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    print(what)
    for name, time_taken in middle.items():
        print(f"  {name:32} {time_taken:6.2f} s")
    one, other = middle.values()
    print(f"  {other / one:.1f} times as fast; equal answers: {100 * equal:.4f} %")
    assert equal > 0.999


def main() -> None:
    """Prints both comparisons."""
    torch.set_num_threads(1)
    data = clusters(memory=50_000, queries=1_960)
    size = f"{len(data[1]):,} x {len(data[0]):,} patches x {WIDTH}"
    both = {"one search for k and distances": ours, "one search for each": reference}
    compare(f"{size}, k = {KS}, cosine and L2, {PIXELS} pixels", both, data)
    if importlib.util.find_spec("faiss"):
        compare(f"{size}, k = 30, cosine", {"search": search, "faiss, flat": faiss_search}, data)


if __name__ == "__main__":
    main()

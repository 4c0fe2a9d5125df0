"""What trainings and evaluations cost: images, floating-point operations, GPU-hours, disk.

Operations are counted as the hardware's makers do, two for a multiplication with its addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bench import registry
from bench.dataset import Dataset, distinct
from bench.errors import SpecError, nearest
from bench.spec import DatasetPart

#: Dense bf16 operations a second with float32 sums, from NVIDIA's data sheets: H100 SXM, H200 SXM
#: and L40S (half of what they state "with sparsity"), A100, V100 SXM2 (float16: it has no bf16),
#: and the Ada architecture's white paper (RTX 4090).
PEAKS = {
    "h100": 989.5e12,
    "h200": 989.5e12,
    "a100": 312e12,
    "v100": 125e12,
    "l40s": 362e12,
    "rtx4090": 165.2e12,
}
#: Share of the peak that a training is taken to reach.
UTILISATION = 0.35


@dataclass(frozen=True)
class RunCost:
    """What one pre-training costs.

    Attributes:
        arch: of the evaluated network.
        images: that it is trained on.
        steps: optimiser steps.
        flops: of all steps, `pretrain["flops"]` of its checkpoint.
        disk: bytes of the run folder once it is trained.
    """

    arch: str
    images: int
    steps: int
    flops: float
    disk: int


@dataclass(frozen=True)
class Forward:
    """What a network does with one image of its own size.

    Attributes:
        flops: operations.
        features: bytes that the feature cache keeps of an image: a vector for each of six blocks.
    """

    flops: float
    features: int


def run_cost(train: str, images: int) -> RunCost:
    """The cost of a training spec on so many images; errors are those of training it."""
    cost: RunCost = registry.attribute("trainers.estimate:estimate")(train, images)
    return cost


@cache
def forward(arch: str) -> Forward:
    """The cost of one image for an architecture by name; nothing is computed.

    Raises:
        SpecError: there is no such architecture.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from bench.backbone import Backbone
    from bench.network import empty_network, size_of
    from bench.recipes import RECIPE_BLOCKS
    from bench.transforms import InputSpec

    network = empty_network(arch)
    backbone = Backbone(network, InputSpec.of_size(size_of(network))).eval()
    image = torch.empty(1, 3, size_of(network), size_of(network), device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone.tokens(image)
    width = sum(backbone.width(block) for block in RECIPE_BLOCKS if backbone.available(block))
    return Forward(counter.get_total_flops(), 2 * width)


def gpu_hours(flops: float, gpu: str) -> float:
    """Hours on one GPU at `UTILISATION` of its peak.

    Raises:
        SpecError: a GPU whose peak is not known.
    """
    if gpu not in PEAKS:
        raise SpecError(f"the speed of the GPU {gpu!r} is not known; {nearest(gpu, PEAKS)}")
    return flops / (PEAKS[gpu] * UTILISATION * 3600)


def official_images(parts: Sequence[DatasetPart], split: str) -> int | None:
    """Images of a split of a data set as released, None where that is not to be known from here.

    Of modifiers only `split`, `n` and `val_n` say how many there are.
    """
    counts = [_images_of(part, split) for part in distinct(parts, split)]
    return None if None in counts else sum(count or 0 for count in counts)


def _images_of(part: DatasetPart, split: str) -> int | None:
    options, train = dict(part.modifiers), split == "train"
    cls: type[Dataset] = registry.load("dataset", part.name)
    if not {"classes", *(["list"] if train else []), *cls.modifiers}.isdisjoint(options):
        return None
    count = cls.counts.get(options.get("split", split) if train else split)
    drawn = options.get("n" if train else "val_n", "")
    if count is None or not drawn.isdecimal():
        return count
    return min(count, int(drawn))

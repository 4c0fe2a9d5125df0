"""Processes of one job: exact shards, gathering by sample id, and gathers with gradients.

Everything is the identity in a single process, so callers have no second path. Starting the
processes is not done here (torchrun, SLURM or Lightning Fabric does it).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as td
from torch import Tensor

from bench.errors import SSLBenchError

Array = npt.NDArray[Any]


def is_on() -> bool:
    """Whether this process belongs to an initialised process group."""
    return td.is_available() and td.is_initialized()


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return td.get_world_size() if is_on() else 1


def rank() -> int:
    """Index of this process, 0 without a process group."""
    return td.get_rank() if is_on() else 0


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def barrier() -> None:
    """Waits until all processes are here."""
    if world_size() > 1:
        td.barrier()


def shard(n: int, index: int | None = None, count: int | None = None) -> range:
    """This process's indices of range(n): contiguous, sizes differing by at most one, no padding.

    The shards of all processes are disjoint and cover range(n), so that every sample counts once;
    a sampler that repeats samples to even the shards makes accuracy depend on the world size.
    """
    index = rank() if index is None else index
    count = world_size() if count is None else count
    if not 0 <= index < count:
        raise ValueError(f"shard {index} of {count}: expected an index below the count")
    return range(n * index // count, n * (index + 1) // count)


def all_gather_object(value: Any) -> list[Any]:
    """The values of all processes, by rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    td.all_gather_object(values, value)
    return values


def gather_by_id(
    ids: Array, columns: Mapping[str, Array], order: Array | None = None
) -> tuple[Array, dict[str, Array]]:
    """Rows of all processes, each id once: (ids (n,), columns (n, ...)), on every process.

    Rows come in the order of `order` (all ids that there must be) or else sorted by id, so the
    result does not depend on the world size. SSLBenchError: an id that comes twice, is missing or
    was not expected.
    """
    parts = all_gather_object((ids, dict(columns)))
    merged = np.concatenate([part_ids for part_ids, _ in parts])  # (n,)
    sorter = np.argsort(merged, kind="stable")
    ordered = merged[sorter]
    if (twice := ordered[1:] == ordered[:-1]).any():
        raise SSLBenchError(f"sample '{ordered[1:][twice][0]}' was evaluated twice: use dist.shard")
    if order is not None:
        place = np.searchsorted(ordered, order)
        known = ordered[np.minimum(place, len(ordered) - 1)] if len(ordered) else order[:0]
        if len(ordered) != len(order) or not np.array_equal(known, order):
            raise SSLBenchError(
                f"{len(ordered)} samples came back, expected {len(order)} with the ids given: "
                "a process worked on another split"
            )
        sorter = sorter[place]
    joined = {
        name: np.concatenate([part_columns[name] for _, part_columns in parts])[sorter]
        for name in columns
    }
    return merged[sorter], joined


def all_reduce_mean(value: Tensor) -> Tensor:
    """The mean over processes, without gradient; `value` itself is not changed."""
    return all_reduce_sum(value) / world_size()


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum over processes, without gradient; `value` itself is not changed."""
    return _reduced(value, td.ReduceOp.SUM)


def all_reduce_max(value: Tensor) -> Tensor:
    """The largest over processes, element by element, without gradient."""
    return _reduced(value, td.ReduceOp.MAX)


def _reduced(value: Tensor, operation: Any) -> Tensor:
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone(memory_format=torch.contiguous_format)
    td.all_reduce(total, operation)
    return total


def all_gather_ragged(x: Tensor) -> tuple[Tensor, int]:
    """Rows of all processes, whose number may differ, without gradient.

    Returns:
        (sum of n, ...) by rank, and the place at which this process's rows begin.
    """
    if world_size() == 1:
        return x.detach(), 0
    counts = [int(n) for n in all_gather_object(len(x))]
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    td.all_gather(parts, padded)
    rows = torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
    return rows, sum(counts[: rank()])


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(world_size())]
        td.all_gather(parts, x)
        return torch.cat(parts)  # (world * b, ...)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Every process's loss depends on our rows: their gradients are summed, ours is cut out.
        total = grads[0].contiguous().clone()
        td.all_reduce(total)
        rows = len(total) // world_size()
        return total[rank() * rows : (rank() + 1) * rows]


def all_gather_grad(x: Tensor) -> Tensor:
    """(b, ...) of each process -> (world * b, ...), by rank, differentiable; b must be the same.

    The backward pass *sums* over processes. With DDP, which then *averages* parameter gradients,
    the step equals that of one process with the concatenated batch, both when every process
    computes the whole loss and when each computes the mean over its own rows.
    """
    if world_size() == 1:
        return x
    gathered: Tensor = _AllGather.apply(x)
    return gathered

"""The same function in one process and in several of a gloo group."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as td

ROOT = Path(__file__).resolve().parents[2]
Worker = Callable[[int], Any]  # rank -> tensors


def _run(rank: int, worker: Worker, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    td.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    try:
        torch.save(worker(rank), f"{folder}/{rank}.pt")
        td.barrier()
    finally:
        td.destroy_process_group()


def in_processes(worker: Worker, folder: Path, world: int = 2) -> list[Any]:
    """What ``worker(rank)`` returned in each process, by rank; ``worker`` is a module's function.

    A process that waits for a collective which another one skipped is an error, not a hang.
    """
    if str(ROOT) not in sys.path:  # spawned interpreters take the path over, to import the worker
        sys.path.insert(0, str(ROOT))
    context = torch.multiprocessing.spawn(
        _run, (worker, world, str(folder)), nprocs=world, join=False
    )
    deadline = time.monotonic() + 120
    while not context.join(timeout=1):  # it returns whenever one process ends
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            raise AssertionError(f"{worker.__name__} did not end: a process skipped a collective")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]

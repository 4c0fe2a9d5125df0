"""Feature arrays as tensors: no copy on the host, resident on the accelerator where they fit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from bench.errors import CheckpointError

CHECK_ROWS = 65_536


def as_tensor(array: npt.NDArray[Any], device: str = "cpu") -> Tensor:
    """The array as a read-only tensor; resident on an accelerator if it fits in half its memory.

    A memory map stays one: rows are read when they are indexed.
    """
    with warnings.catch_warnings():
        # A read-only memory map warns about writes through the tensor; nobody here writes.
        warnings.filterwarnings("ignore", message=".*not writable.*", category=UserWarning)
        tensor = torch.from_numpy(array)
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        if tensor.nbytes <= free // 2:
            return tensor.to(device)
    return tensor


def check_finite(array: npt.NDArray[Any], what: str) -> None:
    """CheckpointError naming the first row of (n, d) features that holds a NaN or an infinity."""
    table = as_tensor(array)
    for start in range(0, len(table), CHECK_ROWS):
        good = table[start : start + CHECK_ROWS].isfinite().all(dim=1)
        if not good.all():
            row = start + int(good.logical_not().nonzero()[0])
            raise CheckpointError(
                f"row {row} of the {what} features is not finite: the checkpoint has diverged, or "
                "its activations overflow; evaluate it with precision fp32, or train it again"
            )

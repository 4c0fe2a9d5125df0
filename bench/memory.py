"""Feature arrays as tensors: no copy on the host, resident on the accelerator where they fit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


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

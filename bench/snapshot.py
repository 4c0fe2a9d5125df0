"""The state of a long training in one file, written whole, so that a killed run continues."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.disk import whole_file
from bench.progress import say

_SECONDS = 5.0  # of work that a snapshot is worth, at least
_SHARE = 0.1  # of the time that goes into saving, at most


class Snapshot:
    """The file `name` of a folder; without a folder nothing is kept.

    States hold tensors, numbers, text and containers of these: nothing that could run code.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self.path = folder / name if folder is not None else None
        self._saved, self._cost = time.monotonic(), 0.0

    def save(self, epoch: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keeps the state after an epoch, at most as often as a tenth of the time allows."""
        began = time.monotonic()
        if self.path is None or began - self._saved < max(_SECONDS, self._cost / _SHARE):
            return
        try:
            with whole_file(self.path) as file:
                torch.save({"epoch": epoch, "state": dict(state())}, file)
        except (OSError, RuntimeError) as error:  # torch wraps what the disk says
            say(f"the state after epoch {epoch} is not kept ({error}): make room for a resume")
        self._saved = time.monotonic()
        self._cost = self._saved - began

    def load(self) -> tuple[int, dict[str, Any]]:
        """Epochs that are done, and the state after them; (0, {}) where there is none."""
        if self.path is None or not self.path.exists():
            return 0, {}
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            return int(found["epoch"]), dict(found["state"])
        except Exception as error:  # whatever is wrong with the file, the run can be made anew
            say(f"{self.path} cannot be read ({type(error).__name__}): starting anew")
            return 0, {}

    def drop(self) -> None:
        """Removes the state: it cannot be used."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def tensors_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with arrays as tensors, which a snapshot can hold."""
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}


def arrays_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `tensors_of`."""
    return {k: v.numpy() if isinstance(v, Tensor) else v for k, v in values.items()}

"""One demonstration: what was seen, what was known, and what was done about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.errors import DataError


@dataclass(frozen=True, eq=False)
class Demonstration:
    """T decisions of one episode.

    Attributes:
        seed: of the simulator, or the number in a file of others'.
        frames: (T, px, px, 3) uint8, seen before each decision.
        states: (T, s) float64; s is 0 where none is known.
        actions: (T, a) float32 in [-1, 1], the labels.

    Raises:
        DataError: the three differ in length, or there is no decision.
    """

    seed: int
    frames: npt.NDArray[np.uint8]
    states: npt.NDArray[np.float64]
    actions: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        lengths = [len(self.frames), len(self.states), len(self.actions)]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise DataError(
                f"demonstration {self.seed} has {lengths[0]} frames, {lengths[1]} states and "
                f"{lengths[2]} actions: expected as many of each, and at least one"
            )

"""Features of patches standardised on those of the training images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Scaler:
    """Features with mean 0 and variance 1, or as they are: (x - mean) / deviation in float32."""

    mean: Tensor | None = None  # (d,)
    deviation: Tensor | None = None

    @classmethod
    def fitted(cls, batches: Iterable[Tensor]) -> Scaler:
        """On all rows (c, d) of the batches; columns without spread are only centred.

        Sums in float64; the deviation is that of the population. A spread that rounding could have
        made counts as none.
        """
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for batch in batches:
            values = batch.double()
            count += len(values)
            total = total.to(values.device) + values.sum(0)
            squares = squares.to(values.device) + values.square().sum(0)
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min_(0)
        flat = variance <= 8 * torch.finfo(torch.float64).eps * mean.square()
        return cls(mean.float(), variance.sqrt().masked_fill_(flat, 1).float())

    def __call__(self, values: Tensor) -> Tensor:
        """(c, d) scaled; the rows given are not changed."""
        if self.mean is None or self.deviation is None:
            return values
        return (values - self.mean) / self.deviation

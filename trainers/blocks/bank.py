"""Bank: the latest embeddings of a training, kept as points of comparison."""

import torch
from torch import Tensor, nn

from bench import dist
from bench.errors import SpecError
from trainers.blocks.prototypes import l2


class Bank(nn.Module):
    """A ring of the last ``size`` unit embeddings, the same on all processes.

    ``observe`` collects rows; ``update`` writes those of all processes, by rank, over the oldest,
    once a step and after use. Any number of rows fits: the ring wraps around. It starts with random
    directions, and rows and place are buffers, so that a resumed run goes on with both.

    Args:
        size: number of embeddings.
        dim: their width.
    """

    rows: Tensor  # (size, d)
    place: Tensor  # () int64, where the next row goes

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", l2(torch.randn(size, dim)))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self._seen: list[Tensor] = []

    @torch.no_grad()
    def observe(self, rows: Tensor) -> None:
        """Take note of embeddings (n, d)."""
        self._seen.append(l2(rows.detach().to(self.rows)))

    @torch.no_grad()
    def update(self) -> None:
        """Write what was observed since the last update."""
        rows, _ = dist.all_gather_ragged(torch.cat([self.rows[:0], *self._seen]))
        self._seen.clear()
        size = len(self.rows)
        kept = rows[-size:]
        skipped = len(rows) - len(kept)
        places = torch.arange(skipped, len(rows), device=rows.device) + self.place
        self.rows[places % size] = kept
        self.place.copy_((self.place + len(rows)) % size)


def check_bank(name: str, size: int, batch: int, seen: int) -> None:
    """Refuse a bank that cannot hold a batch, or that a run would never fill.

    Args:
        name: the recipe's field.
        size: its value.
        batch: rows that a step writes.
        seen: rows that the whole run writes.

    Raises:
        SpecError: ``size`` is not within ``batch`` and ``seen``.
    """
    if size < batch:
        raise SpecError(
            f"{name}={size} cannot hold the {batch} embeddings of a step: choose at least {batch}, "
            "or a smaller batch_size"
        )
    if size > seen:
        raise SpecError(
            f"{name}={size}, but the whole run sees {seen} images, so that random directions would "
            f"stay in it to the end: choose at most {seen}, or more epochs"
        )

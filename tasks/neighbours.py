"""Exact nearest neighbours by cosine, in memory that does not grow with either set.

The search runs in float32 over chunks of both sets and keeps a few more candidates than asked for.
The candidates are then scored again in float64, so that neither the chunk sizes nor the order in
which a matrix product adds its terms can change which neighbours come out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasks.memory import as_tensor

QUERY_CHUNK = 256
KEY_CHUNK = 8192
MARGIN = 32  # candidates kept beyond k
SLACK = 1e-5  # bound on the float32 error of a cosine: unit vectors, sums of at most ~4,000 terms
RESCORE_ROWS = 32  # rows of candidates in float64 at once: 32 x 232 x 768 x 8 bytes = 46 MB
INDEX_BITS = 31


def nearest(
    queries: np.ndarray,
    keys: np.ndarray,
    k: int,
    device: str = "cpu",
    query_chunk: int = QUERY_CHUNK,
    key_chunk: int = KEY_CHUNK,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yields (rows, cosine (b, k) float32, index (b, k)) for one chunk of queries after another.

    Neighbours are in falling order of cosine (computed in float64, rounded to float32); equal
    cosines are ordered by the lower key index. A row of zeros has cosine 0 with everything.
    Shapes: queries (n, d), keys (m, d), any float type, memory-mapped or not; k <= m.
    """
    table = as_tensor(keys, device)
    for start in range(0, len(queries), query_chunk):
        rows = slice(start, min(start + query_chunk, len(queries)))
        block = as_tensor(queries, "cpu")[rows].to(device)  # (b, d)
        ranks, unsure = _search(block, table, k, key_chunk)  # (b, k), (b,)
        if unsure.any():
            ranks[unsure] = _search_exactly(block[unsure], table, k, key_chunk)
        cosine, index = _unpack(ranks)
        yield rows, cosine.cpu(), index.cpu()


def _search(block: Tensor, table: Tensor, k: int, key_chunk: int) -> tuple[Tensor, Tensor]:
    """Top-k ranks by float32 candidates, and the rows whose candidates may be incomplete."""
    wanted = min(k + MARGIN, len(table))
    query = normalize(block.float(), dim=1)
    best = query.new_full((len(block), wanted), -torch.inf)  # (b, wanted)
    where = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
    for start in range(0, len(table), key_chunk):
        chunk = normalize(table[start : start + key_chunk].to(query.device).float(), dim=1)
        cosine = query @ chunk.T  # (b, d) @ (d, c) -> (b, c)
        # Few keys of a late chunk beat the running best, and a short top-k is much cheaper.
        news = int((cosine > best[:, -1:]).sum(1, dtype=torch.int32).max())
        if news:
            value, column = cosine.topk(min(news, wanted), dim=1)
            best, order = torch.cat([best, value], 1).topk(wanted, dim=1)
            where = torch.cat([where, column + start], 1).gather(1, order)
    # A key outside the candidates is at most best[:, -1] + SLACK, the k-th neighbour is at least
    # best[:, k - 1] - SLACK; NaN compares false and is left to the caller to find.
    unsure = (best[:, k - 1] - best[:, -1]) <= 2 * SLACK
    if wanted == len(table):
        unsure = torch.zeros_like(unsure)
    pairs = zip(block.split(RESCORE_ROWS), where.split(RESCORE_ROWS), strict=True)
    ranks = torch.cat([_ranks(_cosines(rows, table, index), index) for rows, index in pairs])
    return ranks.topk(k, dim=1).values, unsure


def _search_exactly(block: Tensor, table: Tensor, k: int, key_chunk: int) -> Tensor:
    """Top-k ranks with every cosine in float64: for rows with many (nearly) equal neighbours."""
    query = normalize(block.double(), dim=1)
    best = torch.empty((len(block), 0), dtype=torch.int64, device=block.device)
    for start in range(0, len(table), key_chunk):
        chunk = normalize(table[start : start + key_chunk].to(query.device).double(), dim=1)
        index = torch.arange(start, start + len(chunk), device=query.device)
        ranks = torch.cat([best, _ranks(query @ chunk.T, index)], 1)  # (b, k + c)
        best = ranks.topk(min(k, ranks.shape[1]), dim=1).values
    return best


def _cosines(block: Tensor, table: Tensor, index: Tensor) -> Tensor:
    """Float64 cosines of each row with its own candidates: (b, d), (b, w) -> (b, w)."""
    keys = table[index.to(table.device)].to(block.device).double()  # (b, w, d)
    product = normalize(block.double(), dim=1)[:, None] * normalize(keys, dim=2)
    return product.sum(2)


def _ranks(cosine: Tensor, index: Tensor) -> Tensor:
    """One int64 for (cosine as float32, falling index): the largest is the nearest neighbour.

    No two keys of a row share a rank, so any top-k algorithm gives the same answer.
    """
    bits = (cosine.float() + 0.0).view(torch.int32).long()  # + 0.0 turns -0.0 into 0.0
    ordered = bits ^ ((bits >> 63) & 0x7FFFFFFF)  # negative floats sort backwards as integers
    return (ordered << INDEX_BITS) | ((1 << INDEX_BITS) - 1 - index)


def _unpack(ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of `_ranks`: (cosine float32, index int64)."""
    ordered = ranks >> INDEX_BITS
    bits = ordered ^ ((ordered >> 63) & 0x7FFFFFFF)
    index = (1 << INDEX_BITS) - 1 - (ranks & ((1 << INDEX_BITS) - 1))
    return bits.int().view(torch.float32), index

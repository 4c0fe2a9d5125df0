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
from torch.nn.functional import pad

from bench.memory import as_tensor
from tasks.ranks import packed, unpacked

QUERY_CHUNK = 256
KEY_CHUNK = 16_384
GROUP = 16  # keys of a chunk of which the best is looked at first
MARGIN = 32  # candidates kept beyond k
# Bounds on the error of a cosine by the precision that the process has set for float32 products:
# full, TF32, bfloat16.
SLACK = {"highest": 1e-5, "high": 2e-3, "medium": 1e-2}
RESCORE_ROWS = {"cpu": 4, "cuda": 64}  # queries at once: on a host the copies then stay in cache


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
    table, asked = as_tensor(keys, device), as_tensor(queries)
    for start in range(0, len(queries), query_chunk):
        rows = slice(start, min(start + query_chunk, len(queries)))
        block = asked[rows].to(device)  # (b, d)
        ranks, unsure = _search(block, table, k, key_chunk)  # (b, k), (b,)
        if unsure.any():
            ranks[unsure] = _search_exactly(block[unsure], table, k, max(1, key_chunk // 4))
        cosine, index = unpacked(ranks)
        yield rows, cosine.cpu(), index.cpu()


def _search(block: Tensor, table: Tensor, k: int, key_chunk: int) -> tuple[Tensor, Tensor]:
    """Top-k ranks by float32 candidates, and the rows whose candidates may be incomplete."""
    wanted = min(k + MARGIN, len(table))
    query = _unit(block, torch.float32)
    best = query.new_full((len(block), wanted), -torch.inf)  # (b, wanted)
    where = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
    offsets = torch.arange(GROUP, device=best.device)[:, None]
    for start in range(0, len(table), key_chunk):
        chunk = _unit(table[start : start + key_chunk].to(query.device), torch.float32)
        cosine = query @ chunk.T  # (b, d) @ (d, c) -> (b, c)
        cosine = pad(cosine, (0, -len(chunk) % GROUP), value=-torch.inf)
        # Keys that beat the running best lie in groups whose peak does, and those are few: the
        # costly top-k then sees a small part of the chunk.
        peak = cosine.unflatten(1, (GROUP, -1)).amax(1)  # (b, c / GROUP)
        news = min(int((peak > best[:, -1:]).sum(1, dtype=torch.int32).max()), wanted)
        if news:
            group = peak.topk(min(news, peak.shape[1]), dim=1, sorted=False).indices
            column = (group[:, None, :] + offsets * peak.shape[1]).flatten(1)  # (b, GROUP * news)
            value = torch.cat([best, cosine.gather(1, column)], 1)
            best, order = value.topk(wanted, dim=1)
            where = torch.cat([where, column + start], 1).gather(1, order)
    # A key outside the candidates is at most best[:, -1] + slack, the k-th neighbour is at least
    # best[:, k - 1] - slack.
    slack = SLACK[torch.get_float32_matmul_precision()]
    unsure = (best[:, k - 1] - best[:, -1]) <= 2 * slack
    if wanted == len(table):
        unsure = torch.zeros_like(unsure)
    rows = RESCORE_ROWS.get(block.device.type, 4)
    pairs = zip(block.split(rows), where.split(rows), strict=True)
    ranks = torch.cat([packed(_cosines(some, table, index), index) for some, index in pairs])
    return ranks.topk(k, dim=1).values, unsure


def _search_exactly(block: Tensor, table: Tensor, k: int, key_chunk: int) -> Tensor:
    """Top-k ranks with every cosine in float64: for rows with many (nearly) equal neighbours."""
    query = _unit(block, torch.float64)
    best = torch.empty((len(block), 0), dtype=torch.int64, device=block.device)
    for start in range(0, len(table), key_chunk):
        chunk = _unit(table[start : start + key_chunk].to(query.device), torch.float64)
        index = torch.arange(start, start + len(chunk), device=query.device)
        ranks = torch.cat([best, packed(query @ chunk.T, index)], 1)  # (b, k + c)
        best = ranks.topk(min(k, ranks.shape[1]), dim=1).values
    return best


def _cosines(block: Tensor, table: Tensor, index: Tensor) -> Tensor:
    """Float64 cosines of each row with its own candidates: (b, d), (b, w) -> (b, w)."""
    found = table.index_select(0, index.flatten().to(table.device)).to(block.device)
    keys = _unit(found, torch.float64).view(*index.shape, -1)  # (b, w, d)
    query = _unit(block, torch.float64)
    return torch.bmm(keys, query[:, :, None])[:, :, 0]


def _unit(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows (n, d) divided by their length, as a copy; a row of zeros stays one."""
    copy = x.to(dtype, copy=True)
    length = torch.linalg.vector_norm(copy, dim=1, keepdim=True)
    return copy.div_(length.clamp_min_(torch.finfo(torch.float32).tiny))

"""Exact nearest patches under one or two distances, from one pass over the keys.

Keys come in chunks and are seen once for all queries; a running list of neighbours is kept for each
query. Every chunk is searched in float32, under all distances with one matrix product, and what may
be a neighbour is scored again in float64: neither the sizes of chunks nor the order in which a
product adds its terms changes which neighbours come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from tasks.neighbours import GROUP, MARGIN, RESCORE_ROWS, SLACK
from tasks.ranks import packed, unpacked

DISTANCES = ("cosine", "l2")
QUERY_ROWS = {"cpu": 256, "cuda": 4096}  # queries whose scores with a chunk are held at once
EXACT_CELLS = 2**22  # scores in float64 at once, where candidates do not suffice

_NONE = torch.iinfo(torch.int64).min  # the rank of no neighbour


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The neighbours of each query, nearest first; of equal scores the lower index comes first.

    Attributes:
        score: (n, k) float32: the cosine, or minus the Euclidean distance.
        index: (n, k) int64.
    """

    score: Tensor
    index: Tensor


def nearest_patches(
    queries: Tensor, chunks: Iterable[tuple[Tensor, Tensor]], k: int, distances: Sequence[str]
) -> dict[str, Neighbours]:
    """The k nearest keys of each query under each distance.

    Args:
        queries: (n, d) float32, on the device of the search.
        chunks: (indices (c,) int64, keys (c, d) float32) on that device; indices are below 2^31,
            each comes once, and k or more come in all.
        k: neighbours.
        distances: of `DISTANCES`. A patch of zeros has cosine 0 with all others.
    """
    rows = QUERY_ROWS.get(queries.device.type, 256)
    empty = torch.full((len(queries), k), _NONE, device=queries.device)
    best = {name: empty.clone() for name in distances}
    product, rough = queries.new_empty(0), queries.new_empty(0)  # used again: pages cost time
    for index, values in chunks:
        if not len(index):
            continue
        lengths = _length(values)  # (c,)
        for start in range(0, len(queries), rows):
            piece = slice(start, start + rows)
            block = queries[piece]
            if product.shape != (len(block), len(values)):
                product = queries.new_empty(len(block), len(values))
                rough = torch.empty_like(product)
            torch.mm(block, values.T, out=product)  # (b, d) @ (d, c) -> (b, c)
            for name in distances:
                search = _Chunk(name, block, values, lengths, index)
                best[name][piece] = search.join(best[name][piece], product, rough)
    found = {name: unpacked(ranks) for name, ranks in best.items()}
    return {name: Neighbours(score, index) for name, (score, index) in found.items()}


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some queries (b, d) and some keys (c, d) of lengths (c,) under one distance."""

    name: str
    block: Tensor
    keys: Tensor
    lengths: Tensor
    index: Tensor

    def join(self, best: Tensor, product: Tensor, rough: Tensor) -> Tensor:
        """The best ranks (b, k) of what was best and these keys.

        `product` (b, c) is that of queries and keys, `rough` room of the same size.
        """
        k, wanted = best.shape[1], min(best.shape[1] + MARGIN, len(self.keys))
        slack = self._slack()  # (b, 1)
        self._rough(product, rough)
        value, column = _candidates(rough, self._threshold(best) - slack, wanted)  # (b, w) each
        if not value.shape[1]:
            return best
        joined = torch.cat([best, self._ranks(value, column)], 1).topk(k, dim=1).values
        if value.shape[1] == wanted < len(self.keys):
            # A key that was left out is at most this much better than the last candidate.
            unsure = (value[:, -1:] + slack >= self._threshold(joined)).squeeze(1)
            if unsure.any():
                joined[unsure] = self._exhaustive(best[unsure], self.block[unsure])
        return joined

    def _rough(self, product: Tensor, out: Tensor) -> None:
        """(b, c) float32 scores that order the keys of each query: x.y / |y|, or x.y - |y|^2/2."""
        if self.name == "cosine":
            torch.mul(product, self.lengths.reciprocal(), out=out)
        else:
            torch.sub(product, self.lengths.square() / 2, out=out)

    def _threshold(self, ranks: Tensor) -> Tensor:
        """(b, 1) the rough score that stands for the last rank of each query."""
        last = ranks[:, -1:]
        score = unpacked(last)[0].masked_fill(last == _NONE, -torch.inf)
        length = _length(self.block)[:, None]
        if self.name == "cosine":
            return score * length
        return (length.square() - score.square()) / 2  # -inf stays one

    def _slack(self) -> Tensor:
        """(b, 1) bounds on the error of rough scores and thresholds."""
        slack, length = SLACK[torch.get_float32_matmul_precision()], _length(self.block)[:, None]
        if self.name == "cosine":
            return slack * length
        largest = self.lengths.max()
        return slack * length * largest + 1e-6 * (length.square() + largest.square())

    def _ranks(self, value: Tensor, column: Tensor) -> Tensor:
        """(b, w) ranks of each query's own candidates, scored in float64."""
        rows, padding = RESCORE_ROWS.get(self.block.device.type, 4), value == -torch.inf
        column = column.masked_fill(padding, 0)
        parts = zip(self.block.split(rows), column.split(rows), strict=True)
        score = torch.cat([self._exact(block, mine) for block, mine in parts])
        return packed(score, self.index[column]).masked_fill(padding, _NONE)

    def _exact(self, block: Tensor, column: Tensor) -> Tensor:
        query = block.double()[:, None]  # (b, 1, d)
        keys = self.keys[column.flatten()].double().view(*column.shape, -1)  # (b, w, d)
        if self.name == "cosine":
            return (_unit(query) @ _unit(keys).mT)[:, 0]
        return -torch.linalg.vector_norm(keys - query, dim=-1)

    def _exhaustive(self, best: Tensor, block: Tensor) -> Tensor:
        """The best ranks with every key scored in float64: for many (nearly) equal neighbours."""
        keys, parts = self.keys.double(), []
        rows = max(1, EXACT_CELLS // len(keys))
        for ranks, query in zip(best.split(rows), block.double().split(rows), strict=True):
            if self.name == "cosine":
                score = _unit(query) @ _unit(keys).T  # (r, d) @ (d, c) -> (r, c)
            else:
                score = -torch.cdist(query, keys, compute_mode="donot_use_mm_for_euclid_dist")
            joined = torch.cat([ranks, packed(score, self.index.expand_as(score))], 1)
            parts.append(joined.topk(best.shape[1], dim=1).values)
        return torch.cat(parts)


def _candidates(rough: Tensor, floor: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """Falling scores (b, w) and columns (b, w) of what may beat each row's floor (b, 1).

    At most `wanted` of a row, the best; fewer where no row has so many. Rows with less than others
    are filled up with scores below their floor, or of -inf where the columns are none.
    """
    missing = -rough.shape[1] % GROUP
    padded = pad(rough, (0, missing), value=-torch.inf) if missing else rough
    # What beats the floor lies in groups whose peak does, and those are few: the costly top-k then
    # sees a small part of the chunk.
    peak = padded.unflatten(1, (GROUP, -1)).amax(1)  # (b, c / GROUP)
    groups = min(int((peak > floor).sum(1, dtype=torch.int32).max()), wanted)
    group = peak.topk(groups, dim=1, sorted=False).indices  # (b, g)
    offsets = torch.arange(GROUP, device=rough.device)[:, None] * peak.shape[1]
    column = (group[:, None, :] + offsets).flatten(1)  # (b, GROUP * g)
    value = padded.gather(1, column)
    news = int((value > floor).sum(1, dtype=torch.int32).max()) if groups else 0
    value, order = value.topk(min(news, wanted), dim=1)
    return value, column.gather(1, order)


def _length(x: Tensor) -> Tensor:
    """(n,) lengths of rows, above 0."""
    return torch.linalg.vector_norm(x, dim=-1).clamp_min_(torch.finfo(torch.float32).tiny)


def _unit(x: Tensor) -> Tensor:
    """Rows divided by their length; a row of zeros stays one."""
    return x / _length(x)[..., None]

"""Places in one column: ranks, the ranks that the intervals allow, and who ties with whom."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Places(NamedTuple):
    """One value for each score, in the order in which they were given.

    Attributes:
        rank: 1 for the best; equal scores share the mean of their places.
        first: the best place that the bands allow: behind those whose bands lie wholly above.
        last: the worst place: before those whose bands lie wholly below.
        group: the tie group, 1 for the best, as `bench.stats.tie_groups` defines it.
        tied: whether the band meets that of the best score.
    """

    rank: Floats
    first: Floats
    last: Floats
    group: npt.NDArray[np.int64]
    tied: npt.NDArray[np.bool_]


def places(value: Floats, low: Floats, high: Floats, lower_is_better: bool) -> Places:
    """The places of (n,) scores with bands [low, high] around them."""
    if lower_is_better:
        value, low, high = -value, -high, -low
    n = len(value)
    _, inverse, counts = np.unique(-value, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    # Of equal values the one that reaches least towards the best leads: if it joins, all do.
    order = np.lexsort((high, -value))
    best = order[0] if n else 0
    return Places(
        rank=(ends - (counts - 1) / 2)[inverse],
        first=1 + (n - np.searchsorted(np.sort(low), high, side="right")).astype(np.float64),
        last=(n - np.searchsorted(np.sort(high), low, side="left")).astype(np.float64),
        group=_groups(order, low, high),
        tied=(low <= high[best]) & (low[best] <= high),
    )


def _groups(order: npt.NDArray[Any], low: Floats, high: Floats) -> npt.NDArray[np.int64]:
    """From best to worst, each joins the group at hand while its band meets the leader's."""
    groups = np.zeros(len(order), np.int64)
    group, top, bottom = 0, -np.inf, np.inf  # of the leader; nothing meets the first
    found = []
    for a, b in zip(low[order].tolist(), high[order].tolist(), strict=True):
        if a > top or b < bottom:
            group, top, bottom = group + 1, b, a
        found.append(group)
    groups[order] = found
    return groups

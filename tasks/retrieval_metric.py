"""Average precision of the revisited Oxford and Paris protocol, from rankings of a database.

Radenovic et al., "Revisiting Oxford and Paris" (CVPR 2018). It is not scikit-learn's average
precision: the area under precision-recall is a trapezoid, and junk images leave the ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KAPPAS = (1, 5, 10)  # of mP@k

#: What counts as a match and what leaves the ranking, by level; all else is a wrong answer.
LEVELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}


def rank(queries: npt.NDArray[np.floating], database: npt.NDArray[np.floating]) -> Ints:
    """Database indices (q, n) for every query, the most similar first, by cosine.

    Equal scores are ordered by the lower index. Scores are float64 sums in one fixed order, so
    equal rows have equal scores wherever they stand, which a blocked matrix product does not give.
    """
    scores = np.einsum("qd,nd->qn", unit(queries), unit(database))  # (q, d), (n, d) -> (q, n)
    return np.argsort(-scores, axis=1, kind="stable")


def unit(rows: npt.NDArray[np.floating]) -> Floats:
    """Rows (n, d) of length 1 in float64; rows of zeros stay zeros."""
    wide = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)


def positive_ranks(ranking: Ints, positives: npt.ArrayLike, junk: npt.ArrayLike) -> Ints:
    """0-based ranks of the positives, rising, in the ranking (n,) without its junk images."""
    kept = ranking[~np.isin(ranking, np.asarray(junk, dtype=np.int64))]
    return np.flatnonzero(np.isin(kept, np.asarray(positives, dtype=np.int64)))


def average_precision(ranks: Ints) -> float:
    """Trapezoid area under precision-recall of positives at these ranks; NaN for none.

    sum over j of (j / r_j + (j + 1) / (r_j + 1)) / 2 / count; the first term is 1 where r_j = 0.
    """
    if not len(ranks):
        return float("nan")
    order = np.arange(len(ranks), dtype=np.float64)
    before = np.divide(order, ranks, out=np.ones(len(ranks)), where=ranks > 0)
    return float(((before + (order + 1) / (ranks + 1)) / 2).mean())


def precision_at(ranks: Ints, kappa: int) -> float:
    """The share of positives among the first kappa images; NaN for no positives.

    As in the official code, a list that ends with the last positive is not held against a query:
    kappa is cut at that place. One positive at rank 0 thus has a precision at 10 of 1.
    """
    if not len(ranks):
        return float("nan")
    depth = min(int(ranks.max()) + 1, kappa)
    return float((ranks < depth).sum() / depth)


def judge(rankings: Ints, ground_truth: Sequence[Mapping[str, npt.ArrayLike]]) -> dict[str, Floats]:
    """`ap_*` and `mp1_*`, `mp5_*`, `mp10_*` (q,) of each level: NaN where a query has no positives.

    Args:
        rankings: (q, n) as `rank` gives them.
        ground_truth: for each query the database indices that are `easy`, `hard` and `junk`.
    """
    found: dict[str, Floats] = {}
    for level, (wanted, left_out) in LEVELS.items():
        ranks = [
            positive_ranks(ranking, _joined(truth, wanted), _joined(truth, left_out))
            for ranking, truth in zip(rankings, ground_truth, strict=True)
        ]
        found[f"ap_{level}"] = np.array([average_precision(r) for r in ranks])
        for kappa in KAPPAS:
            found[f"mp{kappa}_{level}"] = np.array([precision_at(r, kappa) for r in ranks])
    return found


def _joined(truth: Mapping[str, npt.ArrayLike], names: Sequence[str]) -> Ints:
    return np.concatenate([np.asarray(truth[name], dtype=np.int64) for name in names])

"""The search among patches against a float64 loop, and what must not change its answers."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks import patch_search
from tasks.patch_search import DISTANCES, nearest_patches
from tasks.ranks import packed, unpacked


def loop_reference(
    queries: Tensor, keys: Tensor, k: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and indices (n, k), one query at a time; equal scores by the lower index."""
    q, y = queries.double().numpy(), keys.double().numpy()
    scores, order = [], []
    for row in q:
        if name == "cosine":
            lengths = np.linalg.norm(y, axis=1) * np.linalg.norm(row)
            score = np.divide(y @ row, lengths, out=np.zeros(len(y)), where=lengths > 0)
        else:
            score = -np.sqrt(((y - row) ** 2).sum(1))
        score = score.astype(np.float32)
        first = np.argsort(-score, kind="stable")[:k]
        scores.append(score[first])
        order.append(first)
    return np.array(scores), np.array(order)


def chunks(keys: Tensor, size: int, order: list[int] | None = None) -> Iterator[tuple[Tensor, ...]]:
    starts = list(range(0, len(keys), size))
    for start in starts if order is None else [starts[i] for i in order]:
        index = torch.arange(start, min(start + size, len(keys)))
        yield index, keys[index]


def patches(kind: str, n: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    if kind == "spread":  # lengths differ, so that the distances disagree
        return torch.randn(n, 24, generator=rng) * torch.rand(n, 1, generator=rng) * 3
    if kind == "ties":
        return torch.randint(-1, 2, (n, 4), generator=rng).float()  # rows of zeros among them
    return torch.eye(9)[torch.randint(0, 9, (n,), generator=rng)]


@pytest.mark.parametrize("kind", ["spread", "ties", "one_hot"])
@pytest.mark.parametrize("k", [1, 7, 30])
@pytest.mark.parametrize("size", [17, 500, 3000])
def test_neighbours_equal_a_float64_loop(kind: str, k: int, size: int) -> None:
    keys, queries = patches(kind, 2000, 0), patches(kind, 60, 1)
    found = nearest_patches(queries, chunks(keys, size), k, DISTANCES)
    for name in DISTANCES:
        score, index = loop_reference(queries, keys, k, name)
        np.testing.assert_array_equal(found[name].index.numpy(), index)
        np.testing.assert_allclose(found[name].score.numpy(), score, rtol=1e-6, atol=1e-6)


def test_the_distances_disagree_where_lengths_differ() -> None:
    keys, queries = patches("spread", 500, 0), patches("spread", 40, 1)
    found = nearest_patches(queries, chunks(keys, 100), 5, DISTANCES)
    assert (found["cosine"].index != found["l2"].index).float().mean() > 0.5


@pytest.mark.parametrize("name", DISTANCES)
def test_answers_do_not_depend_on_chunks_their_order_or_the_other_distance(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = torch.cat([patches("spread", 700, 0), patches("spread", 300, 0)])  # 300 come twice
    queries = patches("spread", 50, 1)
    whole = nearest_patches(queries, chunks(keys, 1000), 10, DISTANCES)[name]
    monkeypatch.setitem(patch_search.QUERY_ROWS, "cpu", 7)
    monkeypatch.setattr(patch_search, "EXACT_CELLS", 64)
    parts = nearest_patches(queries, chunks(keys, 90, [3, 0, 11, 7, 1, 2, *range(4, 7), 8, 9, 10]),
                            10, (name,))[name]  # fmt: skip
    assert torch.equal(whole.index, parts.index)
    assert torch.equal(whole.score, parts.score)


def test_coarse_products_change_no_answer() -> None:
    keys, queries = patches("spread", 1500, 0), patches("spread", 30, 1)
    exact = nearest_patches(queries, chunks(keys, 200), 10, DISTANCES)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        coarse = nearest_patches(queries, chunks(keys, 200), 10, DISTANCES)
    finally:
        torch.set_float32_matmul_precision(before)
    for name in DISTANCES:
        assert torch.equal(exact[name].index, coarse[name].index)


def test_neighbours_that_differ_are_found_among_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_search._Chunk, "_exhaustive", None)
    keys, queries = patches("spread", 2000, 0), patches("spread", 60, 1)
    nearest_patches(queries, chunks(keys, 500), 10, DISTANCES)


def test_no_key_comes_twice_where_some_queries_have_fewer_candidates() -> None:
    # Of 35 keys every third is in one group of candidates: 12, 12 and 11. The first query is near
    # to groups 0 and 1, the second to 0 and 2 and so has one less; key 0 is near to both.
    sides = torch.tensor([[0.7, 0.7, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    keys = sides[torch.arange(35) % 3] + torch.arange(35)[:, None] * torch.tensor([0, 0, 1e-3])
    far = torch.tensor([0.4, 0.4, -0.8]) + torch.arange(20)[:, None] * torch.tensor([0, 0, 1e-3])
    queries, both = sides[1:], torch.cat([far, keys])
    parts = [(torch.arange(20), far), (torch.arange(20, 55), keys)]
    found = nearest_patches(queries, parts, 20, DISTANCES)
    for name in DISTANCES:
        _, index = loop_reference(queries, both, 20, name)
        np.testing.assert_array_equal(found[name].index.numpy(), index)


def test_near_duplicates_are_told_apart_and_exact_ones_go_by_index() -> None:
    base = patches("spread", 1, 3)
    keys = base + torch.arange(100)[:, None] % 50 * 1e-6 * base.abs()
    found = nearest_patches(base, chunks(keys, 13), 6, ("l2",))["l2"]
    assert found.index[0].tolist() == [0, 50, 1, 51, 2, 52]
    assert found.score[0, :2].tolist() == [0.0, 0.0]


def test_ranks_order_scores_first_and_lower_indices_before_higher() -> None:
    score = torch.tensor([0.5, -0.0, 0.0, -1.5, 0.5, -torch.inf])
    index = torch.tensor([4, 9, 3, 0, 2, 1])
    ranks = packed(score, index)
    assert ranks.argsort(descending=True).tolist() == [4, 0, 2, 1, 3, 5]
    again, places = unpacked(ranks)
    assert torch.equal(again, score)
    assert torch.equal(places, index)

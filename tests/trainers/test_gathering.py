"""What gathers over processes, in two against one: values and gradients.

One pair of processes works off all cases, and this file imports little: starting them is most of
the time.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.trainers.processes import in_processes
from trainers.blocks.losses import info_nce, soft_ce
from trainers.blocks.targets import Centre, sinkhorn

pytestmark = pytest.mark.xdist_group("gloo")  # one worker, so one pair of processes

# Of each process: numbers of queries and keys, and the local key of each query.
RAGGED = [((2, 5), [0, 4]), ((3, 2), [1, 0, 1])]
ONE_SIDED = [((0, 2), []), ((3, 4), [3, 1, 0])]
SHARES = [slice(0, 5), slice(5, 17)]  # rows of a Sinkhorn problem
HALVES = [slice(0, 8), slice(8, 16)]  # rows that move a centre


def points(n: int, seed: int, d: int = 6) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def scores(n: int, seed: int) -> Tensor:
    """Cosines of random points with six prototypes."""
    return F.normalize(points(n, seed, 32), dim=1) @ F.normalize(points(6, 99, 32), dim=1).T


def queries_and_keys(case: list, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    (m, n), positives = case[rank]
    return points(m, 10 + rank), points(n, 20 + rank), torch.tensor(positives, dtype=torch.long)


def contrast(q: Tensor, k: Tensor, positives: Tensor) -> dict[str, Tensor]:
    q = q.clone().requires_grad_()
    loss = info_nce(q, k, 0.2, positives=positives)
    loss.backward()
    return {"loss": loss.detach(), "gradient": q.grad}


def assign(rows: slice) -> dict[str, Tensor]:
    """Sinkhorn targets of the rows, and the gradient of the student that is held against them."""
    student = scores(17, 1)[rows].requires_grad_()
    targets = sinkhorn(scores(17, 0)[rows], 0.1)
    soft_ce(student / 0.1, targets).sum().backward()
    return {"targets": targets, "gradient": student.grad}


def centre(rows: slice) -> Tensor:
    """The centre after two steps of two micro-batches each."""
    moving = Centre(6)
    for step in range(2):
        for part in range(2):
            moving.observe(scores(16, 2 + 2 * step + part)[rows])
        moving.update()
    return moving.value


def worker(rank: int) -> dict[str, Any]:
    return {
        "ragged": contrast(*queries_and_keys(RAGGED, rank)),
        "one_sided": contrast(*queries_and_keys(ONE_SIDED, rank)),
        "sinkhorn": assign(SHARES[rank]),
        "rowless": sinkhorn(scores(9 * rank, 1), 0.1),
        "centre": centre(HALVES[rank]),
        "not_finite": centre_with_nan(rank),
    }


def centre_with_nan(rank: int) -> Tensor:
    """The centre after a step in which one process alone had scores that are not finite."""
    moving = Centre(6)
    moving.observe(scores(4, 0) * (torch.nan if rank else 1.0))
    moving.update()
    return moving.value


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return in_processes(worker, tmp_path_factory.mktemp("gloo"))


def in_one(case: list) -> dict[str, Tensor]:
    """All queries against all keys in one process."""
    (q0, k0, p0), (q1, k1, p1) = queries_and_keys(case, 0), queries_and_keys(case, 1)
    return contrast(torch.cat((q0, q1)), torch.cat((k0, k1)), torch.cat((p0, p1 + len(k0))))


@pytest.mark.parametrize(("name", "case"), [("ragged", RAGGED), ("one_sided", ONE_SIDED)])
def test_info_nce_weighs_queries_alike_however_many_a_process_has(
    name: str, case: list, two: list[dict[str, Any]]
) -> None:
    whole, parts = in_one(case), [out[name] for out in two]
    # Distributed training averages over processes.
    loss = torch.stack([part["loss"] for part in parts]).mean()
    torch.testing.assert_close(loss, whole["loss"])
    gradient = torch.cat([part["gradient"] for part in parts]) / 2
    torch.testing.assert_close(gradient, whole["gradient"])


def test_a_process_without_queries_still_lends_its_keys(two: list[dict[str, Any]]) -> None:
    assert two[0]["one_sided"]["loss"] == 0
    assert two[0]["one_sided"]["gradient"].shape == (0, 6)
    alone = contrast(*queries_and_keys(ONE_SIDED, 1))
    assert two[1]["one_sided"]["loss"] / 2 > alone["loss"]  # its keys repel, too


@pytest.mark.parametrize("name", ["targets", "gradient"])
def test_sinkhorn_with_ragged_rows(name: str, two: list[dict[str, Any]]) -> None:
    found = torch.cat([out["sinkhorn"][name] for out in two])
    torch.testing.assert_close(found, assign(slice(None))[name])


def test_sinkhorn_where_one_process_has_no_rows(two: list[dict[str, Any]]) -> None:
    assert two[0]["rowless"].shape == (0, 6)
    torch.testing.assert_close(two[1]["rowless"], sinkhorn(scores(9, 1), 0.1))


def test_centre(two: list[dict[str, Any]]) -> None:
    assert torch.equal(two[0]["centre"], two[1]["centre"])
    torch.testing.assert_close(two[0]["centre"], centre(slice(None)))


def test_no_process_moves_its_centre_if_one_has_scores_that_are_not_finite(
    two: list[dict[str, Any]],
) -> None:
    assert not any(out["not_finite"].any() for out in two)

"""Distribution: shards without padding, rows by id, gradients equal to one process."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench import dist
from bench.errors import SSLBenchError


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_shards_cover_every_sample_exactly_once(count):
    for n in [0, 1, 5, 16, 50_000, 50_001]:
        shards = [dist.shard(n, index, count) for index in range(count)]
        assert [i for shard in shards for i in shard] == list(range(n))
        assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_a_shard_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="shard 3 of 3"):
        dist.shard(10, 3, 3)


def test_one_process_is_the_identity():
    x = torch.randn(3, 2, requires_grad=True)
    assert (dist.world_size(), dist.rank(), dist.is_main()) == (1, 0, True)
    assert dist.all_gather_grad(x) is x
    assert torch.equal(dist.all_reduce_mean(x), x)
    assert not dist.all_reduce_mean(x).requires_grad
    assert dist.all_gather_object("x") == ["x"]
    rows, offset = dist.all_gather_ragged(x)
    assert torch.equal(rows, x)
    assert offset == 0
    dist.barrier()


def test_gather_sorts_by_id_or_keeps_the_given_order():
    ids, values = np.array(["b", "c", "a"]), np.array([[2.0], [3.0], [1.0]])
    found, columns = dist.gather_by_id(ids, {"value": values})
    assert found.tolist() == ["a", "b", "c"]
    assert columns["value"].tolist() == [[1.0], [2.0], [3.0]]
    order = np.array(["c", "a", "b"])
    found, columns = dist.gather_by_id(ids, {"value": values}, order)
    assert found.tolist() == ["c", "a", "b"]
    assert columns["value"].tolist() == [[3.0], [1.0], [2.0]]


@pytest.mark.parametrize("order", [["a", "b"], ["a", "b", "c", "d"], ["a", "b", "x"]])
def test_gather_refuses_other_samples_than_asked_for(order):
    with pytest.raises(SSLBenchError, match="3 samples came back"):
        dist.gather_by_id(np.array(["a", "b", "c"]), {}, np.array(order))


def test_gather_refuses_a_sample_that_comes_twice():
    with pytest.raises(SSLBenchError, match="sample 'a' was evaluated twice"):
        dist.gather_by_id(np.array(["a", "b", "a"]), {})


def test_gathered_rows_do_not_depend_on_the_world_size(processes, tmp_path):
    processes(
        """
        import numpy as np
        mine = np.array(dist.shard(7))
        ids = np.array([f"s{i}" for i in range(7)])
        order = ids[::-1].copy()
        found, columns = dist.gather_by_id(ids[mine], {"square": mine**2}, order)
        assert found.tolist() == order.tolist()
        assert columns["square"].tolist() == [i**2 for i in range(6, -1, -1)]
        x = torch.full((2, 2), float(rank)).T
        assert torch.equal(dist.all_reduce_mean(x), torch.full((2, 2), (world - 1) / 2))
        assert torch.equal(dist.all_reduce_max(x), torch.full((2, 2), world - 1.0))
        rows, offset = dist.all_gather_ragged(torch.full((rank + 1, 2), float(rank)))
        assert rows[:, 0].tolist() == [float(r) for r in range(world) for _ in range(r + 1)]
        assert offset == rank * (rank + 1) // 2
        assert dist.is_main() == (rank == 0)
        torch.save(True, f"{folder}/ok-{rank}.pt")
        """,
        3,
    )
    assert all((tmp_path / f"ok-{rank}.pt").exists() for rank in range(3))


def encoder() -> nn.Module:
    """The same small network in every process."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def contrast(z: torch.Tensor, rows: slice) -> torch.Tensor:
    """A loss in which every row of z meets every other: mean over `rows` of a cross-entropy."""
    z = F.normalize(z, dim=1)
    scores = (z @ z.T / 0.2).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
    return F.cross_entropy(scores[rows], (torch.arange(len(z)) ^ 1)[rows])


def test_gather_with_gradient_equals_one_process_with_the_whole_batch(processes, tmp_path):
    x = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    net = encoder()
    z = net(x)
    contrast(z, slice(0, 8)).backward()
    torch.save((x, net.state_dict()), tmp_path / "given.pt")
    # Both ways to share the work: each process computes the whole loss, or that of its rows.
    processes(
        """
        import torch.nn.functional as F
        from torch import nn
        x, state = torch.load(f"{folder}/given.pt")
        mine = slice(4 * rank, 4 * rank + 4)
        for name, rows in (("whole", slice(0, 8)), ("rows", mine)):
            net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
            net.load_state_dict(state)
            net = nn.parallel.DistributedDataParallel(net)
            z = dist.all_gather_grad(net(x[mine]))
            unit = F.normalize(z, dim=1)
            scores = (unit @ unit.T / 0.2).masked_fill(torch.eye(8, dtype=torch.bool), -1e9)
            F.cross_entropy(scores[rows], (torch.arange(8) ^ 1)[rows]).backward()
            result = z.detach(), [p.grad for p in net.parameters()]
            torch.save(result, f"{folder}/{name}-{rank}.pt")
        """,
        2,
    )
    for name in ("whole-0", "whole-1", "rows-0", "rows-1"):
        values, gradients = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        torch.testing.assert_close(values, z.detach(), rtol=0, atol=1e-14)
        for found, parameter in zip(gradients, net.parameters(), strict=True):
            assert parameter.grad.abs().max() > 1e-4
            torch.testing.assert_close(found, parameter.grad, rtol=1e-10, atol=1e-13)

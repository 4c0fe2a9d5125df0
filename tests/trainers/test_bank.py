"""The bank against a list that forgets its oldest rows."""

import copy
from collections import deque

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.errors import SpecError
from trainers.blocks.bank import Bank, check_bank


def points(n: int, seed: int, d: int = 5) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sizes", [[4, 4, 4], [3, 5, 4, 1, 7], [8, 8, 1], [9, 2], [21, 3], [0, 5]])
def test_the_newest_rows_take_the_place_of_the_oldest(sizes: list[int]) -> None:
    bank = Bank(8, 5)
    newest = deque((row for row in bank.rows.clone()), maxlen=8)
    for seed, n in enumerate(sizes):
        rows = points(n, seed)
        bank.observe(rows)
        bank.update()
        newest.extend(F.normalize(rows, dim=1))
    assert bank.place.item() == sum(sizes) % 8
    oldest_first = bank.rows.roll(-bank.place.item(), 0)
    torch.testing.assert_close(oldest_first, torch.stack(list(newest)), rtol=0, atol=1e-7)


def test_it_starts_with_unit_rows_in_all_directions() -> None:
    torch.manual_seed(0)
    rows = Bank(2000, 16).rows
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2000))
    assert rows.mean(0).abs().max() < 0.03
    torch.testing.assert_close(rows.std(0), torch.full((16,), 0.25), rtol=0.1, atol=0)


def test_nothing_is_written_before_the_update_and_all_of_a_step_then() -> None:
    bank = Bank(8, 5)
    before = bank.rows.clone()
    for part in range(2):  # a step in two micro-batches
        bank.observe(points(3, part))
    assert torch.equal(bank.rows, before)
    assert bank.place.item() == 0
    bank.update()
    assert bank.place.item() == 6
    whole = torch.cat((points(3, 0), points(3, 1)))
    torch.testing.assert_close(bank.rows[:6], F.normalize(whole, dim=1))
    assert torch.equal(bank.rows[6:], before[6:])
    bank.update()
    assert bank.place.item() == 6


def test_rows_carry_no_gradient_and_the_bank_has_no_parameters() -> None:
    bank = Bank(8, 5)
    bank.observe(points(3, 0).requires_grad_())
    bank.update()
    assert not bank.rows.requires_grad
    assert not list(bank.parameters())


def test_a_loaded_bank_goes_on_where_it_was() -> None:
    one, other = Bank(8, 5), Bank(8, 5)
    one.observe(points(5, 0))
    one.update()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for bank in (one, other):
        bank.observe(points(6, 1))
        bank.update()
    assert torch.equal(one.rows, other.rows)
    assert one.place.item() == other.place.item() == 3


def test_a_bank_that_cannot_work_is_refused_with_one_that_can() -> None:
    check_bank("bank", 64, batch=64, seen=64)
    with pytest.raises(SpecError, match=r"bank=63 cannot hold the 64 .* choose at least 64"):
        check_bank("bank", 63, batch=64, seen=640)
    with pytest.raises(SpecError, match=r"patch_bank=641, .* 640 images.* choose at most 640"):
        check_bank("patch_bank", 641, batch=64, seen=640)

"""Training data: the order of images, the views of each, and what they may depend on."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench import dist
from bench.errors import DataError
from bench.split import Split, Table
from tests.trainers.tiny import tiny_method
from trainers.data import ORDER, STEP, VIEWS, StepSampler, ViewDataset, make_loader, step_seed
from trainers.methods.dino import DINO
from trainers.methods.slotmim import SlotMIM
from trainers.recipe import Plan, Recipe


class Pictures:
    """A data set of noise images, of which some cannot be read."""

    def __init__(self, count: int = 22, broken: tuple[int, ...] = ()) -> None:
        self.count, self.broken = count, broken

    def scan(self, split: str) -> Table:
        ids = tuple(f"{i:03d}" for i in range(self.count))
        numbers = np.zeros(self.count, np.int64)
        return Table(ids, ids, numbers, ("one",), numbers)

    def image(self, split: str, key: str) -> Image.Image:
        if int(key) in self.broken:
            raise DataError(f"{key}.png is truncated")
        rng = np.random.default_rng(int(key))
        return Image.fromarray(rng.integers(0, 256, (40, 52, 3), np.uint8))


def pictures(**options: Any) -> Split:
    return Split.open(Pictures(**options), "train", "pictures")


def plan(epochs: float = 3.0, seed: int = 0, batch_size: int = 4) -> Plan:
    return Plan.of(Recipe(batch_size=batch_size, epochs=epochs, seed=seed), 22)


def set_process(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(dist, "rank", lambda: rank)
    monkeypatch.setattr(dist, "world_size", lambda: world)


def test_an_epoch_shows_every_image_at_most_once_and_another_order_each_time() -> None:
    steps = list(StepSampler(plan(), 0))
    assert [len(keys) for keys in steps] == [4] * 15
    orders = []
    for epoch in range(3):
        keys = [key for step in steps[5 * epoch : 5 * epoch + 5] for key in step]
        assert {e for e, _ in keys} == {epoch}
        orders.append([index for _, index in keys])
        assert len(set(orders[-1])) == 20
        assert set(orders[-1]) <= set(range(22))
    assert len(set(map(tuple, orders))) == 3


def test_over_many_epochs_no_image_is_left_out() -> None:
    seen = Counter(index for keys in StepSampler(plan(epochs=200.0), 0) for _, index in keys)
    assert set(seen) == set(range(22))
    assert min(seen.values()) > 150  # 200 * 20 / 22 = 182 expected


def test_the_seed_decides_the_order() -> None:
    assert list(StepSampler(plan(), 0)) == list(StepSampler(plan(), 0))
    assert list(StepSampler(plan(), 0)) != list(StepSampler(plan(seed=1), 0))


@pytest.mark.parametrize("first", [1, 5, 7, 14, 15])
def test_a_resumed_order_is_the_rest_of_the_whole_one(first: int) -> None:
    whole, rest = StepSampler(plan(), 0), StepSampler(plan(), first)
    assert list(rest) == list(whole)[first:]
    assert len(rest) == len(list(rest))


def test_a_fraction_of_an_epoch_ends_within_it() -> None:
    assert len(list(StepSampler(plan(epochs=1.4), 0))) == 7


@pytest.mark.parametrize("world", [2, 4])
def test_processes_divide_each_batch_among_them(
    world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(StepSampler(plan(), 0))
    shares = []
    for rank in range(world):
        set_process(monkeypatch, rank, world)
        shares.append(list(StepSampler(plan(), 0)))
    for step, keys in enumerate(whole):
        parts = [share[step] for share in shares]
        assert {len(part) for part in parts} == {4 // world}
        assert sorted(key for part in parts for key in part) == sorted(keys)


def same(one: Any, two: Any) -> bool:
    """Whether two (index, views, messages) samples are the same to the bit."""
    return one[0] == two[0] and all(
        torch.equal(a.image, b.image) and np.array_equal(a.box, b.box) and a.flipped == b.flipped
        for a, b in zip(one[1], two[1], strict=True)
    )


def test_views_depend_on_seed_epoch_and_index_and_on_nothing_else() -> None:
    method, split = tiny_method(SlotMIM), pictures()
    dataset = ViewDataset(split, method, seed=0)
    first = dataset[0, 5]
    np.random.seed(1)
    torch.manual_seed(1)
    dataset[0, 6]
    assert same(first, dataset[0, 5])
    assert not same(first, dataset[1, 5])
    assert not same(first, ViewDataset(split, method, seed=1)[0, 5])
    assert len(first[1]) == 2
    assert first[2] == ()


def test_order_views_and_steps_draw_from_different_streams() -> None:
    def words(kind: int) -> list[int]:
        return np.random.SeedSequence([kind, 0, 0, 0]).generate_state(4).tolist()

    assert len({tuple(words(kind)) for kind in (ORDER, VIEWS, STEP)}) == 3


def test_an_unreadable_image_is_replaced_by_the_next_readable_one_and_reported() -> None:
    method = tiny_method(SlotMIM)
    dataset = ViewDataset(pictures(broken=(3, 4, 21)), method, seed=0)
    index, _, bad = dataset[0, 3]
    assert index == 5
    assert bad == ("003.png is truncated", "004.png is truncated")
    assert dataset[0, 21][0] == 0  # around the end
    # The stand-in is cut anew: the same crops twice in a batch would be false negatives.
    assert not same(dataset[0, 3], dataset[0, 5])


def test_a_split_without_a_readable_image_is_refused_with_the_first_reason() -> None:
    dataset = ViewDataset(pictures(count=3, broken=(0, 1, 2)), tiny_method(DINO), seed=0)
    with pytest.raises(DataError, match=r"no image of pictures can be read.*001\.png"):
        dataset[0, 1]


def loaded(workers: int) -> list[Any]:
    method = tiny_method(SlotMIM, images=22, epochs=1.0, workers=workers)
    return list(make_loader(pictures(broken=(2,)), method, 0))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
def test_worker_processes_change_no_pixel_and_batches_follow_the_sampler() -> None:
    alone, shared = loaded(0), loaded(2)
    expected = [[3 if i == 2 else i for _, i in keys] for keys in StepSampler(plan(1.0), 0)]
    assert [part.batch.index.tolist() for part in alone] == expected
    for a, b in zip(alone, shared, strict=True):
        assert a.bad == b.bad
        assert torch.equal(a.batch.boxes, b.batch.boxes)
        tensors = ([*part.batch.images, *part.batch.masks] for part in (a, b))
        assert all(torch.equal(one, two) for one, two in zip(*tensors, strict=True))


def test_loading_takes_nothing_from_the_global_generators() -> None:
    method = tiny_method(SlotMIM, images=22, epochs=1.0, workers=0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert len(list(make_loader(pictures(), method, 3))) == 2
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_step_seeds_differ_between_steps_parts_seeds_and_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = set()
    for rank in range(3):
        set_process(monkeypatch, rank, 3)
        for seed in range(3):
            found |= {step_seed(seed, step, part) for step in range(20) for part in range(3)}
    assert len(found) == 3 * 3 * 20 * 3
    assert all(0 <= value < 2**63 for value in found)
    # torch's CPU generator reads the low half only.
    assert len({value & 0xFFFFFFFF for value in found}) == len(found)

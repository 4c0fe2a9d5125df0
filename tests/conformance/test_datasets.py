"""What every data set must hold; a new file in ``bench/data`` is tested here unasked."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from bench import registry
from bench.dataset import Dataset, open_split
from bench.errors import DataError, SpecError

MINI = [name for name in registry.names("dataset") if name.startswith("mini_")]


@pytest.fixture(params=registry.names("dataset"))
def dataset(request: pytest.FixtureRequest) -> type[Dataset]:
    found: type[Dataset] = registry.load("dataset", str(request.param))
    return found


def name_of(dataset: type[Dataset]) -> str:
    return dataset.__module__.rpartition(".")[2]


def test_it_says_what_it_is(dataset: type[Dataset]) -> None:
    assert dataset.title
    assert dataset.tree.strip()
    assert {"train", "val"} <= set(dataset.splits)


def test_a_missing_root_is_answered_with_the_expected_tree(
    dataset: type[Dataset], tmp_path: Path
) -> None:
    if name_of(dataset) == "folder":
        with pytest.raises((DataError, SpecError), match="path="):
            open_split("folder", "train", tmp_path)
        return
    with pytest.raises(DataError) as caught:
        open_split(name_of(dataset), "train", tmp_path)
    first = dataset.tree.strip().splitlines()[0].split()[0]
    assert first in str(caught.value)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("name", MINI)
def test_samples_are_whole(name: str, split: str, mini: Path) -> None:
    found = open_split(name, split, mini)
    assert len(found) == len(found.ids) == len(found.targets) > 0
    assert len(set(found.ids)) == len(found)
    assert found.targets.min() >= 0
    assert found.targets.max() < len(found.classes)
    for index in (0, len(found) - 1):
        image = found.image(index)
        assert image.mode == "RGB"
        assert np.asarray(image).std() > 0


@pytest.mark.parametrize("name", MINI)
def test_opening_twice_gives_the_same_manifest_and_order(name: str, mini: Path) -> None:
    one, two = (open_split(name, "train", mini) for _ in range(2))
    assert one.manifest == two.manifest
    assert list(one.ids) == list(two.ids)
    assert one.manifest != open_split(name, "val", mini).manifest


@pytest.mark.parametrize("name", MINI)
def test_a_split_travels_to_a_worker(name: str, mini: Path) -> None:
    split = open_split(f"{name}[n=20,seed=1]", "train", mini)
    copied = pickle.loads(pickle.dumps(split))  # own bytes, not a stranger's
    assert copied.manifest == split.manifest
    assert np.array_equal(np.asarray(copied.image(3)), np.asarray(split.image(3)))


@pytest.mark.parametrize("name", MINI)
def test_subsets_are_uniform_nested_and_named(name: str, mini: Path) -> None:
    small = open_split(f"{name}[n=20,seed=1]", "train", mini)
    large = open_split(f"{name}[n=40,seed=1]", "train", mini)
    other = open_split(f"{name}[n=20,seed=2]", "train", mini)
    assert len(small) == 20
    assert set(small.ids) < set(large.ids)
    assert set(small.ids) != set(other.ids)
    assert small.manifest not in (large.manifest, other.manifest)


@pytest.mark.parametrize("name", MINI)
def test_an_unknown_modifier_is_refused(name: str, mini: Path) -> None:
    with pytest.raises(SpecError, match="sead"):
        open_split(f"{name}[sead=1]", "train", mini)

"""What every data set must hold; a new file in ``bench/data`` is tested here unasked."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from bench import registry
from bench.dataset import Dataset, Split, open_split
from bench.errors import DataError, SpecError

MINI = [name for name in registry.names("dataset") if name.startswith("mini_")]
SPLITS = [(name, split) for name in MINI for split in registry.load("dataset", name).splits]


@pytest.fixture(params=registry.names("dataset"))
def dataset(request: pytest.FixtureRequest) -> type[Dataset]:
    found: type[Dataset] = registry.load("dataset", str(request.param))
    return found


def name_of(dataset: type[Dataset]) -> str:
    return dataset.__module__.rpartition(".")[2]


def test_it_says_what_it_is(dataset: type[Dataset]) -> None:
    assert dataset.title
    assert dataset.tree.strip()
    assert dataset.splits
    assert len(set(dataset.splits)) == len(dataset.splits)
    # what is trained on is evaluated too; ImageNet-9 and retrieval sets only evaluate
    assert "train" not in dataset.splits or "val" in dataset.splits


def test_it_counts_the_images_of_splits_that_it_has(dataset: type[Dataset]) -> None:
    assert set(dataset.counts) <= set(dataset.splits)
    assert all(count > 0 for count in dataset.counts.values())
    if name_of(dataset).startswith(("mini_", "folder")):  # whose size is for who makes them to say
        assert not dataset.counts
    else:
        assert dataset.counts


def test_it_names_its_split(dataset: type[Dataset], tmp_path: Path) -> None:
    assert re.fullmatch(r"[\w+/:-]+", dataset(tmp_path).split_id)


def test_a_missing_root_is_answered_with_the_expected_tree(
    dataset: type[Dataset], tmp_path: Path
) -> None:
    if name_of(dataset) == "folder":
        with pytest.raises((DataError, SpecError), match="path="):
            open_split("folder", "train", tmp_path)
        return
    if not dataset.folders:
        assert len(open_split(name_of(dataset), dataset.splits[0])), "it needs no root"
        return
    with pytest.raises(DataError) as caught:
        open_split(name_of(dataset), dataset.splits[0], tmp_path)
    first = dataset.tree.strip().splitlines()[0].split()[0]
    assert first in str(caught.value)


def opened(name: str, split: str, mini: Path) -> Split:
    """A split by its own name: another one than train and val is opened as train."""
    train = "train" in registry.load("dataset", name).splits
    return open_split(
        f"{name}[split={split}]" if train else name, "train" if train else split, mini
    )


def drawn(name: str, share: float, seed: int, mini: Path) -> Split:
    """A draw from the first split of a dataset."""
    first = registry.load("dataset", name).splits[0]
    count = round(share * len(open_split(name, first, mini)))
    key = "n" if first == "train" else "val_n"
    return open_split(f"{name}[{key}={count},seed={seed}]", first, mini)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_samples_are_whole(name: str, split: str, mini: Path) -> None:
    found = opened(name, split, mini)
    assert len(found) == len(found.ids) == len(found.targets) > 0
    assert len(set(found.ids)) == len(found)
    labelled = bool(found.classes)
    assert found.targets.min() >= 0 if labelled else set(found.targets) == {-1}
    assert found.targets.max() < max(len(found.classes), 1)
    annotated = registry.load("dataset", name).annotations is not None
    assert labelled or annotated or split not in ("train", "val")
    for index in (0, len(found) - 1):
        image = found.image(index)
        assert image.mode == "RGB"
        assert np.asarray(image).std() > 0


@pytest.mark.parametrize("name", MINI)
def test_opening_twice_gives_the_same_manifest_and_order(name: str, mini: Path) -> None:
    splits = registry.load("dataset", name).splits
    one, two = ([opened(name, split, mini) for split in splits] for _ in range(2))
    assert [split.manifest for split in one] == [split.manifest for split in two]
    assert [split.ids for split in one] == [split.ids for split in two]
    assert len({split.manifest for split in one}) == len(splits)


@pytest.mark.parametrize("name", MINI)
def test_a_split_travels_to_a_worker(name: str, mini: Path) -> None:
    split = drawn(name, 0.1, 1, mini)
    copied = pickle.loads(pickle.dumps(split))  # own bytes, not a stranger's
    assert copied.manifest == split.manifest
    assert np.array_equal(np.asarray(copied.image(3)), np.asarray(split.image(3)))


@pytest.mark.parametrize("name", MINI)
def test_subsets_are_uniform_nested_and_named(name: str, mini: Path) -> None:
    small, large, other = (
        drawn(name, share, seed, mini) for share, seed in ((0.2, 1), (0.4, 1), (0.2, 2))
    )
    assert 0 < len(small) < len(large)
    assert set(small.ids) < set(large.ids)
    assert set(small.ids) != set(other.ids)
    assert small.manifest not in (large.manifest, other.manifest)


@pytest.mark.parametrize("name", MINI)
def test_an_unknown_modifier_is_refused(name: str, mini: Path) -> None:
    with pytest.raises(SpecError, match="sead"):
        open_split(f"{name}[sead=1]", registry.load("dataset", name).splits[0], mini)

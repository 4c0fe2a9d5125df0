"""Annotations: tasks reach those of a sample by its place in a split, through every selection."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from bench import registry
from bench.annotations import (
    VOID,
    Annotations,
    Boxes,
    LabelMap,
    annotations_of,
    boxes_of,
    objects_of,
    semantic_of,
)
from bench.dataset import Dataset, Split, Table
from bench.errors import SpecError


def number_of(dataset: Dataset, split: str, key: str) -> LabelMap:
    return np.full((2, 3), int(key) + (100 if split == "train" else 0), np.uint8)


def box_of(dataset: Dataset, split: str, key: str) -> Boxes:
    return np.array([[0, 0, float(key), 1]])


class Masked(Dataset):
    """Five samples whose masks tell their split and key."""

    title: ClassVar[str] = "masked"
    folders: ClassVar[tuple[str, ...]] = ("masked",)
    tree: ClassVar[str] = "masked/"
    annotations: ClassVar[Annotations | None] = Annotations(
        label_set="masked-2", classes=("no", "yes"), semantic=number_of, boxes=box_of
    )

    def scan(self, split: str) -> Table:
        ids = tuple(f"{split}{number}" for number in range(5))
        keys = tuple(map(str, range(5)))
        return Table(ids, keys, np.full(5, -1), (), np.ones(5, np.int64))

    def image(self, split: str, key: str) -> Image.Image:
        return Image.new("RGB", (3, 2))


class Unmasked(Masked):
    """The same without annotations."""

    annotations: ClassVar[Annotations | None] = None


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return Split.open(Masked(tmp_path), "val", "masked")


def test_readers_get_the_data_set_its_split_and_the_key(split: Split, tmp_path: Path) -> None:
    assert [int(semantic_of(split, row)[0, 0]) for row in range(5)] == [0, 1, 2, 3, 4]
    assert boxes_of(split, 3).tolist() == [[0, 0, 3, 1]]
    train = Split.open(Masked(tmp_path), "train", "masked")
    assert int(semantic_of(train, 2)[0, 0]) == 102


def test_annotations_follow_their_samples_through_selections(split: Split) -> None:
    chosen = split.take([4, 0, 2], "chosen").take([2, 0], "again")
    assert chosen.ids == ("val2", "val4")
    assert [int(semantic_of(chosen, row)[0, 0]) for row in (0, 1)] == [2, 4]
    some = split.subset(3, seed=1)
    for row, id_ in enumerate(some.ids):
        assert f"val{semantic_of(some, row)[0, 0]}" == id_


def test_declaration_is_found_by_kind(split: Split) -> None:
    declared = annotations_of(split, "semantic")
    assert declared is Masked.annotations
    assert (declared.label_set, declared.classes) == ("masked-2", ("no", "yes"))
    assert annotations_of(split, "boxes") is declared
    assert VOID == 255


@pytest.mark.parametrize(
    ("read", "kind", "words"),
    [
        (semantic_of, "semantic", "the classes of pixels"),
        (objects_of, "objects", "which object a pixel belongs to"),
        (boxes_of, "boxes", "boxes of objects"),
    ],
)
def test_a_missing_kind_is_answered_with_the_data_sets_that_have_it(
    read: object, kind: str, words: str, tmp_path: Path
) -> None:
    plain = Split.open(Unmasked(tmp_path), "val", "unmasked")
    with pytest.raises(SpecError) as caught:
        read(plain, 0)  # type: ignore[operator]
    text, _, names = str(caught.value).partition("; data sets that do: ")
    assert text == f"unmasked says nothing of {words}"
    expected = [
        name
        for name in registry.names("dataset")
        if getattr(registry.load("dataset", name).annotations, kind, None) is not None
    ]
    assert names.split(", ") == expected
    assert "voc2012" in expected
    assert "imagenet1k" not in expected


def test_a_kind_that_is_not_declared_is_missing_too(split: Split) -> None:
    with pytest.raises(SpecError, match="masked says nothing of which object"):
        objects_of(split, 0)


def test_joined_data_sets_have_no_common_annotations(split: Split, tmp_path: Path) -> None:
    other = Split.open(Masked(tmp_path), "val", "other")
    with pytest.raises(SpecError, match=r"masked\+other joins 2 data sets"):
        semantic_of(Split.union([split, other]), 0)


@pytest.mark.parametrize("name", registry.names("dataset"))
def test_declarations_are_whole(name: str) -> None:
    declared = registry.load("dataset", name).annotations
    if declared is None:
        return
    assert declared.semantic or declared.objects or declared.boxes
    assert bool(declared.semantic) == bool(declared.classes) == bool(declared.label_set)
    assert len(set(declared.classes)) == len(declared.classes) < VOID


def test_a_label_set_has_the_same_classes_wherever_it_is_declared() -> None:
    found: dict[str, tuple[str, ...]] = {}
    for name in registry.names("dataset"):
        declared = registry.load("dataset", name).annotations
        if declared is not None and declared.label_set:
            assert found.setdefault(declared.label_set, declared.classes) == declared.classes
    assert {"ade20k-150", "camvid-11", "voc-21"} <= found.keys()

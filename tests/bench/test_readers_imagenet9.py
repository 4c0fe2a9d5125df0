"""ImageNet-9: the map from ImageNet's classes, and the eight variants as one split."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.data.imagenet9 import ImageNet9
from bench.dataset import open_split
from bench.errors import DataError, SpecError
from bench.imagenet9 import CLASSES, VARIANTS, class_map, super_classes, super_classes_of
from tests.bench.trees import write_backgrounds

COUNTS = [116, 52, 42, 36, 35, 27, 26, 20, 16]  # protocols.md T16


def test_map_has_the_published_counts() -> None:
    found = super_classes()
    assert found.shape == (1000,)
    assert np.bincount(found[found >= 0]).tolist() == COUNTS
    assert (found == -1).sum() == 1000 - sum(COUNTS)


@pytest.mark.parametrize(
    ("index", "super_class"),
    [
        (0, 8),  # tench
        (7, 1),  # cock
        (151, 0),  # Chihuahua
        (172, -1),  # whippet: the release leaves two of the dogs out
        (173, 0),  # Ibizan hound
        (268, 0),  # Mexican hairless
        (269, 4),  # grey wolf
        (300, 5),  # tiger beetle
        (33, 3),  # loggerhead
        (365, 7),  # orangutan
        (407, 2),  # ambulance
        (402, 6),  # acoustic guitar
        (999, -1),  # toilet tissue
        (25, -1),  # fire salamander
    ],
)
def test_map_puts_classes_where_they_belong(index: int, super_class: int) -> None:
    assert super_classes()[index] == super_class


def test_file_of_the_dataset_goes_before_the_built_in_map(tmp_path: Path) -> None:
    assert np.array_equal(class_map(tmp_path), super_classes())
    (tmp_path / "in_to_in9.json").write_text(json.dumps({"3": 2, "4": -1}))
    found = class_map(tmp_path)
    assert found[3] == 2
    assert (np.delete(found, 3) == -1).all()


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"1000": 2}', '{"3": 9}', '{"a": 1}', '{"3": "x"}']
)
def test_broken_map_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "in_to_in9.json").write_text(content)
    with pytest.raises(DataError, match=r"cannot read the class map .*in_to_in9\.json"):
        class_map(tmp_path)


def test_heads_of_a_subset_are_mapped_by_wnid() -> None:
    wnids = ["n03445777", "n01440764", "n02102040", "n03417042"]  # golf ball, tench, dog, truck
    assert super_classes_of(wnids).tolist() == [-1, 8, 0, 2]
    other = np.full(1000, -1)
    other[0] = 5
    assert super_classes_of(wnids, other).tolist() == [-1, 5, -1, -1]


@pytest.mark.parametrize(
    ("wnids", "message"),
    [
        (["n01440764", "cat"], r"1 of 2 classes are not in ImageNet-1k \(cat\)"),
        (["n03445777"], "none of the 1 classes belongs"),
    ],
)
def test_heads_of_other_classes_are_refused(wnids: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        super_classes_of(wnids)


# The images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_backgrounds(tmp_path / "bg_challenge", CLASSES, VARIANTS)
    return tmp_path / "bg_challenge"


def test_all_variants_are_one_split(root: Path) -> None:
    val = open_split("imagenet9", "val", root.parent)
    assert len(val) == 8 * 9 * 2
    assert val.classes == CLASSES
    assert {id_.split("/")[0] for id_ in val.ids} == set(VARIANTS)
    assert "mixed_same/02_wheeled vehicle/fg_n2_1.JPEG" in val.ids
    for index, id_ in enumerate(val.ids):
        variant, name, _ = id_.split("/")
        assert CLASSES[val.targets[index]] == name
        image = val.image(index)
        assert image.mode == "RGB"
        expected = 20 * VARIANTS.index(variant) + CLASSES.index(name)
        assert image.getpixel((0, 0)) == (expected,) * 3


@pytest.mark.parametrize("folder", ImageNet9.folders)
def test_other_spellings_are_the_same_data(folder: str, root: Path, tmp_path: Path) -> None:
    names = tuple(
        name.replace("wheeled vehicle", "vehicle").replace("musical ", "Musical_")
        for name in CLASSES
    )
    assert sum(name not in CLASSES for name in names) == 2
    write_backgrounds(tmp_path / "other" / folder, names, VARIANTS)
    other = open_split("imagenet9", "val", tmp_path / "other")
    assert other.manifest == open_split("imagenet9", "val", root.parent).manifest
    assert other.image(50).getpixel((0, 0)) == other.image(51).getpixel((0, 0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_missing_variant_is_named(variant: str, root: Path) -> None:
    shutil.rmtree(root / variant)
    with pytest.raises(DataError, match=f"no folder {variant}/val/\nfound in .*fg_mask/") as caught:
        ImageNet9(root).scan("val")
    assert "expected:\n  bg_challenge/" in str(caught.value)


def test_class_folders_that_do_not_fit_are_refused(root: Path) -> None:
    (root / "no_fg/val/03_reptile").rename(root / "no_fg/val/03_snake")
    with pytest.raises(DataError, match="no class folders for 03_reptile/"):
        ImageNet9(root).scan("val")
    (root / "no_fg/val/03_snake").rename(root / "no_fg/val/03_reptile")
    (root / "no_fg/val/09_horse").mkdir()
    with pytest.raises(DataError, match="folders of no super-class: 09_horse"):
        ImageNet9(root).scan("val")
    (root / "no_fg/val/09_horse").rename(root / "no_fg/val/00_dogs")
    with pytest.raises(DataError, match="00_dog, 00_dogs class folders for 00_dog/"):
        ImageNet9(root).scan("val")


def test_empty_class_folder_is_refused(root: Path) -> None:
    for path in (root / "only_fg/val/08_fish").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no images in 08_fish\nfound in .*only_fg/val"):
        ImageNet9(root).scan("val")


def test_it_cannot_be_trained_on(root: Path) -> None:
    with pytest.raises(SpecError, match="ImageNet-9 has no split 'train'; valid: val"):
        open_split("imagenet9", "train", root.parent)

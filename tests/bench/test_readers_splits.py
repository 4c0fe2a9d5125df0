"""Datasets whose split is not told by folders: RESISC45, SUN397, and split files."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.data.resisc45 import Resisc45
from bench.data.sun397 import Sun397
from bench.dataset import Split, open_split
from bench.errors import DataError, SpecError
from bench.split_files import read_split_file
from tests.bench.trees import MODES, write_image, write_lines

KINDS = {"airplane": 10, "harbor": 7, "rectangular_farmland": 5}
PARTS = ("train", "valid", "val")


@pytest.fixture
def resisc(tmp_path: Path) -> Path:
    root = tmp_path / "NWPU-RESISC45"
    for kind, count in KINDS.items():
        for number in range(1, count + 1):
            write_image(root / kind / f"{kind}_{number:03d}.jpg", number, MODES[number % 6])
    return root


def test_resisc_parts_cover_all_images_once_and_each_class_by_60_20_20(resisc: Path) -> None:
    dataset = Resisc45(resisc)
    parts = {name: Split.open(dataset, name, "resisc45") for name in PARTS}
    ids = [id_ for part in parts.values() for id_ in part.ids]
    assert len(ids) == len(set(ids)) == sum(KINDS.values())
    counts = {name: np.bincount(part.targets).tolist() for name, part in parts.items()}
    assert counts == {"train": [6, 4, 3], "valid": [2, 1, 1], "val": [2, 2, 1]}
    assert {part.classes for part in parts.values()} == {tuple(KINDS)}
    assert parts["train"].split_ids == ("hash60-20-20",)
    assert {parts["train"].image(index).mode for index in range(13)} == {"RGB"}
    for part in parts.values():
        assert [id_.partition("/")[0] for id_ in part.ids] == [
            tuple(KINDS)[target] for target in part.targets
        ]


def test_resisc_split_is_the_one_stored_results_were_made_with(resisc: Path) -> None:
    """Independent of `bench.subsets`: 60 % of a class's names with the smallest keyed hashes."""

    def rank(name: str) -> bytes:
        return hashlib.blake2b(f"0\n{name}".encode(), digest_size=8).digest()

    names = sorted((f"harbor_{number:03d}.jpg" for number in range(1, 8)), key=rank)
    dataset = Resisc45(resisc)
    for part, chosen in zip(PARTS, (names[:4], names[4:5], names[5:]), strict=True):
        found = [id_ for id_ in dataset.scan(part).ids if id_.startswith("harbor/")]
        assert found == sorted(f"harbor/{name}" for name in chosen)


def test_resisc_split_does_not_depend_on_the_other_classes(resisc: Path) -> None:
    before = [id_ for id_ in Resisc45(resisc).scan("val").ids if id_.startswith("harbor")]
    for number in range(5):
        write_image(resisc / f"beach/beach_{number}.jpg")
    after = [id_ for id_ in Resisc45(resisc).scan("val").ids if id_.startswith("harbor")]
    assert before == after


def test_resisc_held_out_part_is_opened_by_its_name(resisc: Path) -> None:
    held_out = open_split("resisc45[split=valid]", "train", resisc.parent)
    assert held_out.ids == Resisc45(resisc).scan("valid").ids


def test_resisc_class_of_two_images_cannot_be_split(resisc: Path) -> None:
    for number in range(2):
        write_image(resisc / f"lake/lake_{number}.jpg")
    with pytest.raises(DataError, match="2 images, too few for a split in three"):
        Resisc45(resisc).scan("val")


def test_resisc_without_folders_shows_the_tree(resisc: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images\nfound in .*\(empty\)\nexpected"):
        Resisc45(tmp_path / "empty").scan("train")
    write_image(resisc / "airplane_001.jpg")
    with pytest.raises(DataError, match="1 images lie beside the class folders"):
        Resisc45(resisc).scan("train")


def test_resisc_is_found_in_a_folder_of_its_own_name(resisc: Path, tmp_path: Path) -> None:
    nested = tmp_path / "unpacked/NWPU-RESISC45"
    nested.mkdir(parents=True)
    resisc.rename(nested / "NWPU-RESISC45")
    assert Resisc45.locate(tmp_path / "unpacked") == nested / "NWPU-RESISC45"


# Split files


def test_split_file_says_the_parts(resisc: Path) -> None:
    write_lines(
        resisc / "mine.txt",
        "# image split",
        "airplane/airplane_003.jpg train",
        "/harbor/harbor_001.jpg,train",
        "harbor_002.jpg\ttest",
        "airplane_001.jpg validation",
        "airplane_002.jpg val",
    )
    text = "resisc45[split_file=mine.txt]"
    train, val = (open_split(text, role, resisc.parent) for role in ("train", "val"))
    assert train.ids == ("airplane/airplane_003.jpg", "harbor/harbor_001.jpg")
    assert val.ids == ("harbor/harbor_002.jpg",)
    assert val.targets.tolist() == [1]
    digest = hashlib.sha256((resisc / "mine.txt").read_bytes()).hexdigest()
    assert train.split_ids == val.split_ids == (f"file:{digest[:12]}",)
    held_out = open_split("resisc45[split=valid,split_file=mine.txt]", "train", resisc.parent)
    assert held_out.ids == ("airplane/airplane_001.jpg", "airplane/airplane_002.jpg")


def test_folder_of_lists_is_the_same_split_as_one_file(resisc: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "lists/resisc45-train.txt", "airplane_001.jpg", "harbor_002.jpg")
    write_lines(tmp_path / "lists/resisc45-test.txt", "harbor_001.jpg")
    write_lines(
        resisc / "one.txt", "airplane_001.jpg train", "harbor_002.jpg train", "harbor_001.jpg test"
    )
    for role in ("train", "val"):
        folder, file = (
            open_split(f"resisc45[split_file={name}]", role, tmp_path)
            for name in (tmp_path / "lists", "one.txt")
        )
        assert folder.manifest == file.manifest
    with pytest.raises(DataError, match="no valid images"):
        open_split(f"resisc45[split=valid,split_file={tmp_path / 'lists'}]", "train", tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["harbor_001.jpg"], "'harbor_001.jpg' does not end in a split"),
        (["train"], "'train' does not end in a split"),
        (["harbor_001.jpg trian"], "did you mean 'train'"),
        (["harbor_001.jpg train", "harbor_001.jpg test"], "names harbor_001.jpg twice"),
        (["harbor_001.jpg train", "harbor_002.jpg val"], "has no test images"),
        (["harbor_001.jpg train", "harbor_999.jpg test"], r"1 of its images .*harbor_999\.jpg"),
        (["a b.jpg test"], r"not only once, .*a b\.jpg"),
        ([], r"bad\.txt is empty"),
    ],
)
def test_bad_split_file_is_refused(lines: list[str], message: str, resisc: Path) -> None:
    write_lines(resisc / "bad.txt", *lines)
    with pytest.raises(DataError, match=message):
        Resisc45(resisc, {"split_file": "bad.txt"}).scan("val")


def test_missing_split_file_says_where_it_was_looked_for(resisc: Path) -> None:
    with pytest.raises(DataError, match=r"split file no\.txt is not there .*NWPU-RESISC45"):
        Resisc45(resisc, {"split_file": "no.txt"}).scan("train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("a_train.txt",), "one list of test images, .* found none"),
        (("a_train.txt", "b_train.txt", "a_test.txt"), "found a_train.txt, b_train.txt"),
    ],
)
def test_folder_of_other_lists_is_refused(
    files: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    for name in files:
        write_lines(tmp_path / name, "x.jpg")
    with pytest.raises(DataError, match=message):
        read_split_file(tmp_path)


# SUN397

PLACES = ("a/abbey", "a/apse/indoor", "b/beach")


def write_sun(root: Path, images: str = "", lists: str = "Partitions/") -> None:
    """Two partitions of 1 + 1 images a class; each class has 3 images."""
    for place in PLACES:
        for number in range(3):
            write_image(root / images / place / f"sun_{number}.jpg", number, MODES[number])
    for partition in (1, 2):
        for kind, number in (("Training", 0), ("Testing", partition)):
            lines = [f"/{place}/sun_{number}.jpg" for place in reversed(PLACES)]
            write_lines(root / lists / f"{kind}_{partition:02d}.txt", *lines)
    write_lines(root / "ClassName.txt", *(f"/{place}" for place in PLACES))


@pytest.mark.parametrize("images", ["", "SUN397"])
@pytest.mark.parametrize("lists", ["Partitions/", "", "SUN397/"])
def test_sun_is_the_same_in_all_its_layouts(images: str, lists: str, tmp_path: Path) -> None:
    write_sun(tmp_path / "sun397", images, lists)
    write_sun(tmp_path / "reference/sun397")
    for partition in (1, 2):
        text = f"sun397[partition={partition}]"
        for role in ("train", "val"):
            found, reference = (
                open_split(text, role, root) for root in (tmp_path, tmp_path / "reference")
            )
            assert found.manifest == reference.manifest
    val = open_split("sun397", "val", tmp_path)
    assert val.classes == PLACES
    assert val.ids == tuple(f"{place}/sun_1.jpg" for place in PLACES)
    assert val.targets.tolist() == [0, 1, 2]
    assert val.split_ids == ("partition1",)
    assert {val.image(index).mode for index in range(3)} == {"RGB"}
    second = open_split("sun397[partition=2]", "val", tmp_path)
    assert second.ids == tuple(f"{place}/sun_2.jpg" for place in PLACES)
    assert second.split_ids == ("partition2",)


def test_sun_classes_come_from_the_lists_where_no_file_names_them(tmp_path: Path) -> None:
    write_sun(tmp_path)
    (tmp_path / "ClassName.txt").unlink()
    assert Sun397(tmp_path).scan("train").classes == PLACES


def test_sun_by_the_three_lists_of_tfds(tmp_path: Path) -> None:
    write_sun(tmp_path / "SUN397")
    for number, part in enumerate(("tr", "va", "te")):
        lines = [f"/{place}/sun_{number}.jpg" for place in PLACES]
        write_lines(tmp_path / f"lists/sun397_tfds_{part}.txt", *lines)
    text = "sun397[split_file=lists]"
    train, val = (open_split(text, role, tmp_path) for role in ("train", "val"))
    held_out = open_split("sun397[split=valid,split_file=lists]", "train", tmp_path)
    found = [Counter(id_.rpartition("/")[2] for id_ in s.ids) for s in (train, held_out, val)]
    assert found == [{f"sun_{number}.jpg": 3} for number in range(3)]
    assert train.split_ids[0].startswith("file:")


@pytest.mark.parametrize("partition", ["0", "11", "one", "-1"])
def test_sun_has_ten_partitions(partition: str, tmp_path: Path) -> None:
    write_sun(tmp_path)
    with pytest.raises(SpecError, match=rf"partition={partition}: .* 1 to 10"):
        Sun397(tmp_path, {"partition": partition}).scan("train")


def test_sun_takes_one_rule_for_its_split(tmp_path: Path) -> None:
    write_sun(tmp_path)
    write_lines(tmp_path / "mine.txt", "a/abbey/sun_0.jpg train", "a/abbey/sun_1.jpg test")
    with pytest.raises(SpecError, match="both say the split"):
        Sun397(tmp_path, {"partition": "2", "split_file": "mine.txt"}).scan("train")
    with pytest.raises(DataError, match="no split 'valid'"):
        Sun397(tmp_path).scan("valid")


def test_sun_missing_parts_are_named(tmp_path: Path) -> None:
    write_sun(tmp_path)
    with pytest.raises(DataError, match=r"no file Partitions/Training_03\.txt\n.*\nexpected"):
        Sun397(tmp_path, {"partition": "3"}).scan("val")
    (tmp_path / "b/beach/sun_1.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of the 3 images that Testing_01\.txt .*beach/sun_1"):
        Sun397(tmp_path).scan("val")
    write_lines(tmp_path / "ClassName.txt", "/a/abbey", "/b/beach")
    with pytest.raises(DataError, match=r"1 classes that ClassName\.txt .*a/apse/indoor"):
        Sun397(tmp_path).scan("val")

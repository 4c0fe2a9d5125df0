"""Readers of iNaturalist, Flowers, Cars, Food and Pets, on small trees of the official layouts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import registry
from bench.dataset import Dataset, Split, open_split
from bench.errors import DataError
from tests.bench import trees


def cls_of(name: str) -> type[Dataset]:
    found: type[Dataset] = registry.load("dataset", name)
    return found


def opened(name: str, root: Path) -> tuple[Split, Split]:
    dataset = cls_of(name)(root)
    return Split.open(dataset, "train", name), Split.open(dataset, "val", name)


WRITERS: dict[str, Callable[[Path], None]] = {
    "inat18": trees.write_inat,
    "inat19": lambda root: trees.write_inat(root, 2019),
    "flowers102": trees.write_flowers,
    "cars": trees.write_cars_devkit,
    "food101": trees.write_food,
    "pets": trees.write_pets,
}


@pytest.mark.parametrize("name", WRITERS)
def test_splits_are_disjoint_labelled_alike_and_in_rgb(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    train, val = opened(name, tmp_path)
    if name != "cars":  # cars_train/00001.jpg and cars_test/00001.jpg are two photographs
        assert not set(train.ids) & set(val.ids)
    assert train.classes == val.classes
    assert set(train.targets) == set(range(len(train.classes)))
    assert set(val.targets) == set(range(len(val.classes)))
    for split in (train, val):
        assert {split.image(index).mode for index in range(len(split))} == {"RGB"}
        assert not any(id_.startswith("/") for id_ in split.ids)
        assert list(split.ids) == sorted(split.ids)


@pytest.mark.parametrize("name", WRITERS)
def test_every_folder_name_is_found_and_gives_one_manifest(name: str, tmp_path: Path) -> None:
    manifests = set()
    for number, folder in enumerate(cls_of(name).folders):
        WRITERS[name](tmp_path / str(number) / folder)
        manifests.add(open_split(name, "val", tmp_path / str(number)).manifest)
    assert len(manifests) == 1


@pytest.mark.parametrize(
    ("name", "gone", "split", "message"),
    [
        ("inat18", "train_val2018", "train", "no folder train_val2018/"),
        ("inat18", "val2018.json", "val", r"no file val2018\.json"),
        ("inat19", "train2019.json", "val", r"no file train2019\.json"),
        ("inat18", "train_val2018/Aves/2", "train", r"2 of the 6 images that train2018\.json"),
        ("flowers102", "jpg", "train", "no folder jpg/"),
        ("flowers102", "setid.mat", "val", r"no file setid\.mat"),
        ("flowers102", "imagelabels.mat", "val", r"no file imagelabels\.mat"),
        ("flowers102", "jpg/image_00007.jpg", "val", r"1 of the 3 .*setid\.mat.*image_00007\.jpg"),
        ("cars", "cars_test", "val", "no folder cars_test/"),
        ("cars", "devkit/cars_train_annos.mat", "train", r"no file devkit/cars_train_annos\.mat"),
        (
            "cars",
            "devkit/cars_test_annos_withlabels.mat",
            "val",
            r"no file devkit/cars_test_annos_withlabels\.mat \(cars_test_annos\.mat has no labels",
        ),
        ("cars", "cars_train/00002.jpg", "train", r"1 of the 3 .*cars_train_annos\.mat"),
        ("food101", "images", "train", "no folder images/"),
        ("food101", "meta/test.txt", "val", r"no file meta/test\.txt"),
        ("food101", "meta/train.txt", "val", r"no file meta/train\.txt"),
        ("food101", "images/waffles", "val", r"1 of the 3 .*waffles/21\.jpg"),
        ("pets", "images", "val", "no folder images/"),
        ("pets", "annotations", "train", r"no file annotations/trainval\.txt, no file annotations"),
        ("pets", "images/Bengal_1.jpg", "train", r"1 of the 6 .*Bengal_1\.jpg"),
    ],
)
def test_what_is_missing_is_named_with_the_tree(
    name: str, gone: str, split: str, message: str, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path)
    path = tmp_path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message) as caught:
        cls_of(name)(tmp_path).scan(split)
    assert "expected:\n" in str(caught.value)


def test_a_missing_file_is_named_once(tmp_path: Path) -> None:
    trees.write_inat(tmp_path)
    (tmp_path / "train2018.json").unlink()
    with pytest.raises(DataError) as caught:
        cls_of("inat18")(tmp_path).scan("train")
    assert str(caught.value).splitlines()[0].count("train2018.json") == 1


@pytest.mark.parametrize(
    ("name", "file", "split"),
    [
        ("inat18", "val2018.json", "val"),
        ("inat18", "categories.json", "val"),
        ("flowers102", "setid.mat", "train"),
        ("flowers102", "imagelabels.mat", "train"),
        ("cars", "devkit/cars_train_annos.mat", "train"),
        ("cars", "devkit/cars_meta.mat", "val"),
        ("food101", "meta/train.txt", "train"),
        ("pets", "annotations/test.txt", "val"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"\x80\x00not what it should be"])
def test_broken_file_is_named(
    name: str, file: str, split: str, content: bytes, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=file.rpartition("/")[2].replace(".", r"\.")):
        cls_of(name)(tmp_path).scan(split)


# iNaturalist


@pytest.mark.parametrize("year", [2018, 2019])
def test_inat_classes_are_in_the_order_of_category_ids(year: int, tmp_path: Path) -> None:
    trees.write_inat(tmp_path, year)
    train, _ = opened(f"inat{year % 100}", tmp_path)
    assert train.classes == ("b2", "b7", "p30")
    for id_, target in zip(train.ids, train.targets, strict=True):
        assert sorted(trees.SPECIES)[target] == int(id_.split("/")[1])
    assert train.ids[0].startswith("Aves/2/")


def test_inat_names_come_from_categories_where_they_are_there(tmp_path: Path) -> None:
    trees.write_inat(tmp_path)
    names = [{"id": id_, "name": "Pica pica" if id_ < 9 else "Acer"} for id_ in (30, 2, 7, 99)]
    trees.write_json(tmp_path / "categories.json", names)
    train, val = opened("inat18", tmp_path)
    assert train.classes == val.classes == ("Pica pica (2)", "Pica pica (7)", "Acer")


def test_inat_categories_of_another_year_are_refused(tmp_path: Path) -> None:
    trees.write_inat(tmp_path)
    trees.write_json(tmp_path / "categories.json", [{"id": 2, "name": "x"}])
    with pytest.raises(DataError, match=r"categories\.json lacks 2 categories .*7, 30"):
        opened("inat18", tmp_path)


def test_inat_labels_that_train_does_not_know_are_refused(tmp_path: Path) -> None:
    trees.write_inat(tmp_path)
    content = json.loads((tmp_path / "val2018.json").read_text())
    content["annotations"][1]["category_id"] = 5
    trees.write_json(tmp_path / "val2018.json", content)
    with pytest.raises(DataError, match=r"categories that train2018\.json does not have \(5\)"):
        cls_of("inat18")(tmp_path).scan("val")
    del content["annotations"][1]
    trees.write_json(tmp_path / "val2018.json", content)
    with pytest.raises(DataError, match=r"1 images of val2018\.json have no annotation"):
        cls_of("inat18")(tmp_path).scan("val")


def test_inat_split_without_images_is_refused(tmp_path: Path) -> None:
    trees.write_inat(tmp_path)
    trees.write_json(tmp_path / "val2018.json", {"images": [], "annotations": []})
    with pytest.raises(DataError, match="no images"):
        cls_of("inat18")(tmp_path).scan("val")


# Flowers


def test_flowers_train_is_train_and_valid_and_numbers_count_from_one(tmp_path: Path) -> None:
    trees.write_flowers(tmp_path)
    train, val = opened("flowers102", tmp_path)
    assert train.ids == ("image_00001.jpg", "image_00003.jpg", "image_00005.jpg")
    assert train.targets.tolist() == [1, 2, 0]
    assert val.ids == ("image_00002.jpg", "image_00004.jpg", "image_00007.jpg")
    assert val.targets.tolist() == [0, 2, 1]
    assert train.classes == ("1", "2", "3")
    assert train.split_ids == ("trnid+valid/tstid",)
    assert [train.image(0).getpixel((0, 0))[0], val.image(2).getpixel((0, 0))[0]] == [1, 7]


def test_flowers_numbers_beyond_the_labels_are_refused(tmp_path: Path) -> None:
    trees.write_flowers(tmp_path)
    sets = trees.FLOWER_SETS | {"tstid": [2, 8]}
    trees.save_mat(tmp_path / "setid.mat", **{k: np.array([v]) for k, v in sets.items()})
    with pytest.raises(DataError, match=r"images 2\.\.8, imagelabels\.mat labels 1\.\.7"):
        opened("flowers102", tmp_path)


def test_flowers_labels_from_zero_are_refused(tmp_path: Path) -> None:
    trees.write_flowers(tmp_path)
    trees.save_mat(tmp_path / "imagelabels.mat", labels=np.array([[0, 1, 2, 2, 0, 1, 1]]))
    with pytest.raises(DataError, match="no labels from 1 on"):
        opened("flowers102", tmp_path)


def test_flowers_empty_part_is_refused(tmp_path: Path) -> None:
    trees.write_flowers(tmp_path)
    sets = trees.FLOWER_SETS | {"tstid": []}
    trees.save_mat(tmp_path / "setid.mat", **{k: np.array([v]) for k, v in sets.items()})
    with pytest.raises(DataError, match="no images"):
        cls_of("flowers102")(tmp_path).scan("val")


# Cars


@pytest.mark.parametrize("test_labels", ["devkit", "."])
def test_cars_of_the_devkit(test_labels: str, tmp_path: Path) -> None:
    trees.write_cars_devkit(tmp_path, test_labels)
    train, val = opened("cars", tmp_path)
    assert train.ids == ("00001.jpg", "00002.jpg", "00003.jpg")
    assert train.targets.tolist() == [1, 0, 0]
    assert val.targets.tolist() == [0, 1]
    assert train.classes == trees.CAR_NAMES
    assert train.split_ids == ("cars_train/cars_test",)


def test_cars_of_the_older_release(tmp_path: Path) -> None:
    trees.write_cars_older(tmp_path)
    train, val = opened("cars", tmp_path)
    assert train.targets.tolist() == [1, 0, 0]
    assert val.ids == ("000004.jpg", "000005.jpg")
    assert val.targets.tolist() == [0, 1]
    assert val.classes == trees.CAR_NAMES
    assert val.split_ids == ("cars_annos",)


def test_cars_without_names_are_numbered(tmp_path: Path) -> None:
    trees.write_cars_devkit(tmp_path, meta=False)
    train, val = opened("cars", tmp_path)
    assert train.classes == val.classes == ("1", "2")


@pytest.mark.parametrize("gone", ["car_ims", "cars_annos.mat"])
def test_half_of_the_older_cars_is_named(gone: str, tmp_path: Path) -> None:
    trees.write_cars_older(tmp_path)
    path = tmp_path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=rf"no (file|folder) {gone}"):
        cls_of("cars")(tmp_path).scan("train")


def test_one_car_alone_is_read(tmp_path: Path) -> None:
    trees.write_cars_devkit(tmp_path)
    rows = trees.struct_rows({"class": [2], "fname": ["00002.jpg"]})
    trees.save_mat(tmp_path / "devkit/cars_train_annos.mat", annotations=rows)
    assert cls_of("cars")(tmp_path).scan("train").targets.tolist() == [1]


def test_cars_of_more_classes_than_names_are_refused(tmp_path: Path) -> None:
    trees.write_cars_devkit(tmp_path)
    names = np.array([trees.CAR_NAMES[:1]], dtype=object)
    trees.save_mat(tmp_path / "devkit/cars_meta.mat", class_names=names)
    with pytest.raises(DataError, match=r"classes 1\.\.2, expected 1\.\.1"):
        cls_of("cars")(tmp_path).scan("train")


# Food


@pytest.mark.parametrize("classes_file", [True, False])
def test_food_classes_are_sorted(classes_file: bool, tmp_path: Path) -> None:
    trees.write_food(tmp_path, classes_file)
    train, val = opened("food101", tmp_path)
    assert train.classes == ("apple_pie", "baby_back_ribs", "waffles")
    assert val.ids == ("apple_pie/20.jpg", "baby_back_ribs/22.jpg", "waffles/21.jpg")
    assert val.targets.tolist() == [0, 1, 2]
    assert train.split_ids == ("official",)


def test_food_of_unknown_classes_is_refused(tmp_path: Path) -> None:
    trees.write_food(tmp_path)
    trees.write_lines(tmp_path / "meta/test.txt", "sushi/1")
    with pytest.raises(DataError, match=r"1 classes that meta/classes\.txt does not .*sushi"):
        cls_of("food101")(tmp_path).scan("val")


def test_image_listed_twice_is_refused(tmp_path: Path) -> None:
    trees.write_food(tmp_path)
    trees.write_lines(tmp_path / "meta/test.txt", "waffles/01", "waffles/01")
    with pytest.raises(DataError, match=r"two images have the id 'waffles/01\.jpg'"):
        cls_of("food101")(tmp_path).scan("val")


# Pets


def test_pets_are_breeds_by_class_id(tmp_path: Path) -> None:
    trees.write_pets(tmp_path)
    train, val = opened("pets", tmp_path)
    assert train.classes == trees.BREEDS
    assert val.ids == ("Abyssinian_10.jpg", "Bengal_10.jpg", "american_bulldog_10.jpg")
    assert val.targets.tolist() == [0, 2, 1]
    assert val.split_ids == ("trainval/test",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Bengal_10 1 1 1", r"class 1 = Bengal, annotations/trainval\.txt Abyssinian"),
        ("Bengal_10 4 1 1", "class 4 = Bengal, .* no such class"),
        ("Bengal_10", "'Bengal_10' is not '<breed>_<number> CLASS-ID"),
        ("Bengal_10 two 1 1", "'Bengal_10 two 1 1' is not"),
        ("Bengal_10 3 1 1\nAbyssinian_10 3 1 1", "class 3 to Bengal and to Abyssinian"),
    ],
)
def test_pets_with_other_labels_are_refused(line: str, message: str, tmp_path: Path) -> None:
    trees.write_pets(tmp_path)
    trees.write_lines(tmp_path / "annotations/test.txt", line)
    with pytest.raises(DataError, match=message):
        cls_of("pets")(tmp_path).scan("train")


@pytest.mark.parametrize("name", ["../../outside/x.jpg", "/etc/x.jpg", "a/../x.jpg", "./x.jpg"])
def test_lists_reach_no_image_outside_of_their_folder(name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    trees.write_inat(root)
    trees.write_image(tmp_path / "outside/x.jpg")
    trees.write_image(root / "train_val2018/x.jpg")
    path = root / "val2018.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="expected a path below"):
        cls_of("inat18")(root).scan("val")

"""VOC 2012: the official layout, its modifiers, its XML files, and what is wrong with each."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.annotations import boxes_of, objects_of, semantic_of
from bench.data.voc2012 import Voc2012
from bench.dataset import Split, open_split
from bench.errors import DataError, SpecError
from tests.bench.dense_trees import BOXES, SEGMENTED, SIZE, rectangle, write_mask, write_voc
from tests.bench.test_readers_real import link, needs
from tests.bench.trees import write_lines


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "VOCdevkit/VOC2012")


def test_splits_are_the_lists_sorted_by_stem(voc: Path, tmp_path: Path) -> None:
    train, val = (open_split("voc2012", split, tmp_path) for split in ("train", "val"))
    assert train.ids == ("2007_000032", "2007_000039")
    assert val.ids == ("2007_000033",)
    trainval = open_split("voc2012", "trainval", tmp_path)
    assert trainval.ids == tuple(sorted(BOXES))
    assert train.image(0).size == SIZE
    assert train.image(1).getpixel((0, 0)) == (10, 10, 10)
    assert train.split_ids == ("official",)


def test_masks_are_indices_and_never_colours(voc: Path, tmp_path: Path) -> None:
    train = open_split("voc2012", "train", tmp_path)
    with Image.open(voc / "SegmentationClass/2007_000039.png") as stored:
        assert stored.mode == "P"
    semantic = semantic_of(train, 1)
    assert semantic.dtype == np.uint8
    assert semantic.tolist() == rectangle(20, 2, 2, 5, 4)
    assert objects_of(train, 1).tolist() == rectangle(1, 2, 2, 5, 4)
    assert len(Voc2012.annotations.classes) == 21  # type: ignore[union-attr]


def test_without_xml_files_boxes_are_those_of_the_objects_masks(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2012", annotations=False)
    val = open_split("voc2012", "val", tmp_path)
    assert boxes_of(val, 0).tolist() == [[2, 2, 5, 4]]
    assert val.classes == ()
    assert val.targets.tolist() == [-1]
    write_mask(root / "SegmentationObject/2007_000033.png", rectangle(0, 0, 0, 2, 2))
    assert boxes_of(val, 0).shape == (0, 4)


# Modifiers


def test_segmentation_lists_stand_for_a_missing_main_list(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOC2012", main=False)
    with pytest.raises(
        DataError,
        match=r"no file ImageSets/Main/trainval\.txt; write voc2012\[lists=segmentation\]",
    ):
        open_split("voc2012", "trainval", tmp_path)
    both = open_split("voc2012[lists=segmentation]", "trainval", tmp_path)
    assert both.ids == tuple(sorted(SEGMENTED))
    assert both.split_ids == ("lists:segmentation",)
    assert semantic_of(both, 1).tolist() == rectangle(15, 2, 2, 5, 4)
    train = open_split("voc2012[lists=segmentation]", "train", tmp_path)
    assert train.manifest == open_split("voc2012", "train", tmp_path).manifest


def test_an_image_of_both_segmentation_lists_is_refused(voc: Path) -> None:
    write_lines(voc / "ImageSets/Segmentation/val.txt", "2007_000033", "2007_000032")
    dataset = Voc2012(voc, {"lists": "segmentation"})
    with pytest.raises(DataError, match=r"1 images are in train\.txt and in val\.txt .2007_000032"):
        dataset.scan("trainval")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("trainaug.txt", "{}"),
        ("train_aug.txt", "/JPEGImages/{}.jpg /SegmentationClassAug/{}.png"),
    ],
)
def test_augmented_masks_train_and_official_ones_evaluate(
    name: str, line: str, voc: Path, tmp_path: Path
) -> None:
    stems = ("2008_000002", "2007_000032")
    lines = [line.replace("{}", stem) for stem in stems]
    write_lines(voc / "ImageSets/Segmentation" / name, *lines)
    grey = voc / "SegmentationClassAug/2008_000002.png"
    grey.parent.mkdir()
    Image.fromarray(np.array(rectangle(5, 1, 1, 7, 5), np.uint8)).save(grey)  # mode L
    with pytest.raises(DataError, match=rf"1 of 2 images of .*{name} have no mask .*_000032\.png"):
        open_split("voc2012[masks=aug]", "train", tmp_path)
    write_mask(voc / "SegmentationClassAug/2007_000032.png", rectangle(2, 1, 1, 7, 5))
    train = open_split("voc2012[masks=aug]", "train", tmp_path)
    assert train.ids == ("2007_000032", "2008_000002")
    assert [np.unique(semantic_of(train, row)).tolist() for row in (0, 1)] == [
        [2, 255],
        [5, 255],
    ]
    assert train.split_ids == ("masks:aug",)
    with pytest.raises(DataError, match="nothing of objects: drop masks=aug"):
        objects_of(train, 0)
    val = open_split("voc2012[masks=aug]", "val", tmp_path)
    assert val.manifest == open_split("voc2012", "val", tmp_path).manifest
    assert semantic_of(val, 0).max(where=semantic_of(val, 0) != 255, initial=0) == 15


def test_augmented_masks_need_their_list_and_folder(voc: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file ImageSets/Segmentation/trainaug\.txt"):
        open_split("voc2012[masks=aug]", "train", tmp_path)
    write_lines(voc / "ImageSets/Segmentation/trainaug.txt", "2007_000032")
    with pytest.raises(DataError, match="no folder SegmentationClassAug/"):
        open_split("voc2012[masks=aug]", "train", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voc2012[lists=segment]", "lists=segment: did you mean 'segmentation'"),
        ("voc2012[masks=sbd]", "masks=sbd: .*valid: aug, official"),
        ("voc2012[mask=aug]", "no modifier 'mask'; did you mean 'masks'"),
    ],
)
def test_unknown_modifiers_are_told_the_known(
    text: str, message: str, voc: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        open_split(text, "train", tmp_path)


# What is missing or strange


def test_missing_parts_are_named(voc: Path) -> None:
    dataset = Voc2012(voc)
    (voc / "SegmentationClass/2007_000033.png").unlink()
    with pytest.raises(
        DataError,
        match=r"1 of 1 images of .*val\.txt have no mask in SegmentationClass/ .2007_000033",
    ):
        dataset.scan("val")
    (voc / "JPEGImages/2007_000039.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images that .*/train\.txt lists .*2007_000039"):
        dataset.scan("train")
    shutil.rmtree(voc / "SegmentationClass")
    with pytest.raises(DataError, match="no folder SegmentationClass/"):
        dataset.scan("val")
    (voc / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(DataError, match=r"no file ImageSets/Segmentation/val\.txt"):
        dataset.scan("val")
    with pytest.raises(DataError, match="no folder JPEGImages/"):
        Voc2012(voc / "ImageSets").scan("val")


def test_objects_without_masks_are_missed_where_they_are_asked_for(
    voc: Path, tmp_path: Path
) -> None:
    shutil.rmtree(voc / "SegmentationObject")
    val = open_split("voc2012", "val", tmp_path)
    with pytest.raises(DataError, match=r"SegmentationObject/2007_000033\.png is missing"):
        objects_of(val, 0)


def test_masks_of_other_values_and_sizes_are_refused(voc: Path, tmp_path: Path) -> None:
    val = open_split("voc2012", "val", tmp_path)
    write_mask(voc / "SegmentationClass/2007_000033.png", rectangle(21, 2, 2, 5, 4))
    with pytest.raises(DataError, match=r"2007_000033\.png holds the value 21, expected 0 to 20"):
        semantic_of(val, 0)
    write_mask(voc / "SegmentationClass/2007_000033.png", [[0, 1], [2, 3]])
    with pytest.raises(DataError, match=r"has 2 x 2 pixels, its image 2007_000033\.jpg 8 x 6"):
        semantic_of(val, 0)


@pytest.mark.parametrize("folder", ["SegmentationClass", "SegmentationObject"])
def test_manifest_notices_changed_masks(folder: str, voc: Path, tmp_path: Path) -> None:
    before = open_split("voc2012", "val", tmp_path)
    path = voc / folder / "2007_000033.png"
    path.write_bytes(path.read_bytes() + b"\0")
    after = open_split("voc2012", "val", tmp_path)
    assert after.sizes[0] == before.sizes[0] + 1
    assert after.manifest != before.manifest


# Real data


def test_photographs_without_lists_are_told_the_missing_list() -> None:
    root = needs("VOCdevkit").parent
    for split, name in (("val", "Segmentation/val"), ("trainval", "Main/trainval")):
        with pytest.raises(DataError, match=rf"no file ImageSets/{name}\.txt"):
            open_split("voc2012", split, root)


def test_official_masks_read_as_indices(tmp_path: Path) -> None:
    real = needs("VOCdevkit/VOC2012")
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject", "SegmentationClassAug"):
        link(tmp_path / "VOC2012" / name, real / name)
    stems = sorted(path.stem for path in (real / "JPEGImages").iterdir())
    for name in ("train", "val", "trainaug"):
        write_lines(tmp_path / f"VOC2012/ImageSets/Segmentation/{name}.txt", *stems)
    val = open_split("voc2012", "val", tmp_path)
    assert val.ids == ("2011_000003", "2011_000006", "2011_000025")
    found = [np.unique(semantic_of(val, row)).tolist() for row in range(3)]
    assert found == [[0, 5, 15, 255], [0, 9, 15, 18, 255], [0, 6, 7]]
    for row in range(3):
        semantic, objects = semantic_of(val, row), objects_of(val, row)
        assert semantic.shape == val.image(row).size[::-1]
        inside = (semantic != 0) & (semantic != 255)
        assert np.array_equal(inside, (objects != 0) & (objects != 255))
        for left, top, right, bottom in boxes_of(val, row).astype(int):
            assert 0 <= left < right <= semantic.shape[1]
            assert 0 <= top < bottom <= semantic.shape[0]
    aug = open_split("voc2012[masks=aug]", "train", tmp_path)
    assert np.unique(semantic_of(aug, 2)).tolist() == [0, 6, 7, 255]


def test_derived_set_has_boxes_of_its_objects() -> None:
    root = needs("derived/VOC_from_COCO")
    split = open_split("voc2012[lists=segmentation]", "trainval", root)
    assert len(split) == 30
    assert not split.classes
    for row in range(0, 30, 7):
        objects = objects_of(split, row)
        numbers = [n for n in np.unique(objects) if n not in (0, 255)]
        boxes = boxes_of(split, row).astype(int)
        assert len(boxes) == len(numbers) > 0
        for number, (left, top, right, bottom) in zip(numbers, boxes, strict=True):
            outside = objects.copy()
            outside[top:bottom, left:right] = 0
            assert number not in outside


def test_a_split_opens_in_another_process(voc: Path) -> None:
    split = Split.open(Voc2012(voc), "val", "voc2012")
    copied = pickle.loads(pickle.dumps(split))  # own bytes, not a stranger's
    assert np.array_equal(semantic_of(copied, 0), semantic_of(split, 0))

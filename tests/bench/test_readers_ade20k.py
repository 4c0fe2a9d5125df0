"""ADE20K: the challenge's layout, classes of pixels counted from 1, and what is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.annotations import VOID, annotations_of, objects_of, semantic_of
from bench.class_words import class_words
from bench.data.ade20k import Ade20k
from bench.dataset import open_split
from bench.doctor import report
from bench.errors import DataError, SpecError
from tests.bench.test_readers_real import link, needs
from tests.bench.trees import write_image

SHAPE = (6, 8)  # of trees.write_image


def write_mask(path: Path, labels: np.ndarray) -> None:
    """Grey values, as the release stores them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def labels_of(number: int) -> np.ndarray:
    """(6, 8) every value in turn, from another one on in each image."""
    return (np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) + 40 * number) % 151


def write_ade(root: Path, parts: tuple[str, ...] = ("training", "validation")) -> Path:
    for part in parts:
        for number in range(3 if part == "training" else 2):
            stem = f"ADE_{part.removesuffix('ing').removesuffix('idation')}_{number + 1:08d}"
            mode = ("RGB", "L", "CMYK")[number]
            write_image(root / f"images/{part}/{stem}.jpg", 10 * number, mode)
            write_mask(root / f"annotations/{part}/{stem}.png", labels_of(number))
    return root


def test_splits_are_the_folders_and_ids_the_stems(tmp_path: Path) -> None:
    write_ade(tmp_path / "ADEChallengeData2016")
    train, val = (open_split("ade20k", split, tmp_path) for split in ("train", "val"))
    assert train.ids == tuple(f"ADE_train_{number:08d}" for number in (1, 2, 3))
    assert val.ids == ("ADE_val_00000001", "ADE_val_00000002")
    assert {train.image(row).mode for row in range(3)} == {"RGB"}
    assert train.image(1).getpixel((0, 0)) == (10, 10, 10)
    assert train.targets.tolist() == [-1, -1, -1]
    assert class_words(train) == ()
    with pytest.raises(SpecError, match="no split 'test'"):
        open_split("ade20k", "test", tmp_path)


def test_classes_count_from_zero_and_none_of_them_is_void(tmp_path: Path) -> None:
    write_ade(tmp_path / "ADEChallengeData2016")
    train = open_split("ade20k", "train", tmp_path)
    for row in range(3):
        stored, found = labels_of(row), semantic_of(train, row)
        assert found.dtype == np.uint8
        for value in range(151):
            expected = VOID if value == 0 else value - 1
            assert set(found[stored == value]) <= {expected}
    with pytest.raises(SpecError, match="ade20k says nothing of which object"):
        objects_of(train, 0)


def test_there_are_150_different_classes(tmp_path: Path) -> None:
    write_ade(tmp_path / "ADEChallengeData2016")
    found = annotations_of(open_split("ade20k", "val", tmp_path), "semantic")
    assert found.label_set == "ade20k-150"
    assert len(set(found.classes)) == len(found.classes) == 150
    assert (found.classes[0], found.classes[12], found.classes[149]) == ("wall", "person", "flag")
    assert not [name for name in found.classes if name != name.strip() or "," in name]


@pytest.mark.parametrize("folder", ["ade/ADEChallengeData2016", "ade20k", "ADE20K"])
def test_other_names_of_the_folder_are_found(folder: str, tmp_path: Path) -> None:
    write_ade(tmp_path / folder)
    assert len(open_split("ade20k", "val", tmp_path)) == 2


def test_validation_alone_evaluates_and_does_not_train(tmp_path: Path) -> None:
    write_ade(tmp_path / "ADEChallengeData2016", ("validation",))
    assert len(open_split("ade20k", "val", tmp_path)) == 2
    with pytest.raises(
        DataError, match=r"no folder images/training/, no folder annotations/training/"
    ):
        open_split("ade20k", "train", tmp_path)


def test_images_and_masks_without_their_partner_are_named(tmp_path: Path) -> None:
    root = write_ade(tmp_path)
    (root / "annotations/training/ADE_train_00000002.png").unlink()
    with pytest.raises(
        DataError, match=r"1 of 3 images of images/training/ have no mask .ADE_train_00000002\.png"
    ):
        Ade20k(root).scan("train")
    (root / "images/validation/ADE_val_00000001.jpg").unlink()
    with pytest.raises(
        DataError, match=r"1 of 2 masks of annotations/validation/ have no image .ADE_val_00000001"
    ):
        Ade20k(root).scan("val")
    write_image(root / "images/validation/ADE_val_00000002.png")
    with pytest.raises(DataError, match=r"ADE_val_00000002\.jpg and ADE_val_00000002\.png are"):
        Ade20k(root).scan("val")
    for path in (root / "images/training").iterdir():
        path.unlink()
    for path in (root / "annotations/training").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no images"):
        Ade20k(root).scan("train")


def test_masks_of_the_full_data_set_are_refused(tmp_path: Path) -> None:
    root = write_ade(tmp_path / "ADEChallengeData2016")
    val = open_split("ade20k", "val", tmp_path)
    path = root / "annotations/validation/ADE_val_00000001.png"
    write_mask(path, np.full(SHAPE, 151))
    with pytest.raises(DataError, match=rf"{path} holds the value 151, expected 0 .none. to 150"):
        semantic_of(val, 0)
    Image.new("RGB", SHAPE[::-1]).save(path)
    with pytest.raises(DataError, match=r"ADE_val_00000001\.png holds colours \(mode RGB\)"):
        semantic_of(val, 0)
    write_mask(path, np.ones((3, 3)))
    with pytest.raises(DataError, match=r"has 3 x 3 pixels, its image ADE_val_00000001\.jpg 8 x 6"):
        semantic_of(val, 0)


def test_manifest_notices_a_changed_mask(tmp_path: Path) -> None:
    root = write_ade(tmp_path / "ADEChallengeData2016")
    before = open_split("ade20k", "val", tmp_path)
    write_mask(root / "annotations/validation/ADE_val_00000002.png", np.zeros(SHAPE))
    after = open_split("ade20k", "val", tmp_path)
    assert after.sizes[0] == before.sizes[0]
    assert after.manifest != before.manifest


def test_real_validation_images_read() -> None:
    root = needs("ADEChallengeData2016").parent
    val = open_split("ade20k", "val", root)
    assert val.ids == tuple(f"ADE_val_0000000{number}" for number in (1, 2, 3))
    names = annotations_of(val, "semantic").classes
    official = (root / "ADEChallengeData2016/objectInfo150.txt").read_text().splitlines()[1:]
    assert names == tuple(line.split("\t")[-1].split(",")[0].strip() for line in official)
    stored = [
        np.asarray(Image.open(p)) for p in sorted((root / "ADEChallengeData2016").rglob("*.png"))
    ]
    for row, labels in enumerate(stored):
        found = semantic_of(val, row)
        assert found.shape == val.image(row).size[::-1]
        assert np.array_equal(found == VOID, labels == 0)
        assert np.array_equal(found[labels > 0] + 1, labels[labels > 0])
    with pytest.raises(DataError, match="no folder images/training/"):
        open_split("ade20k", "train", root)


def test_doctor_tells_what_there_is_of_the_dense_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slow in ("_rendering", "_device"):
        monkeypatch.setattr(f"bench.doctor.{slow}", lambda: ())
    for name in ("ADEChallengeData2016", "CamVid", "DAVIS"):
        link(tmp_path / name, needs(name))
    link(tmp_path / "VOCdevkit", needs("derived/VOC_from_COCO") / "VOCdevkit")
    found = {check.name: check for check in report(tmp_path).checks if check.section == "data"}
    expected = {
        "ade20k": "val 3 images without labels; train: no folder images/training/",
        "camvid": "train 16 images without labels; val 4 images without labels; test 6 images",
        "davis2017": "val 80 images without labels; objects 4 images without labels; train: no",
        "davis2016": "val 80 images without labels; objects 4 images without labels; train: no",
        "voc2012": "train 20 images without labels; val 10 images without labels; trainval: no",
    }
    for name, text in expected.items():
        assert found[name].status == "ok"
        assert text in found[name].found
        assert bool(found[name].mend) == ("train: no" in found[name].found)

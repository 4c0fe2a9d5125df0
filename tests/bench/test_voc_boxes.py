"""VOC's XML files: boxes and the class of an image, and what is wrong with each."""

from pathlib import Path

import numpy as np
import pytest

from bench.annotations import boxes_of
from bench.class_words import class_words
from bench.data.voc2012 import Voc2012
from bench.dataset import open_split
from bench.errors import DataError
from bench.voc import CLASSES, mask_boxes
from bench.voc_xml import read_boxes
from tests.bench.dense_trees import voc_xml, write_voc


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "VOCdevkit/VOC2012")


def test_target_is_the_class_of_the_largest_box_and_the_first_of_equals(
    voc: Path, tmp_path: Path
) -> None:
    trainval = open_split("voc2012", "trainval", tmp_path)
    assert trainval.classes == CLASSES == class_words(trainval)
    assert len(CLASSES) == 20
    names = [CLASSES[target] if target >= 0 else "" for target in trainval.targets]
    assert dict(zip(trainval.ids, names, strict=True)) == {
        "2007_000032": "dog",
        "2007_000039": "tvmonitor",
        "2007_000033": "person",
        "2008_000002": "bottle",
        "2008_000003": "",  # an image whose file has no object
    }
    (voc / "Annotations/2007_000033.xml").unlink()
    (voc / "Annotations/2007_000032.xml").write_text(voc_xml(("hand", (1, 1, 8, 6))))
    changed = open_split("voc2012", "trainval", tmp_path)
    assert changed.targets[:2].tolist() == [-1, -1]
    assert changed.classes == CLASSES


def test_boxes_count_left_and_top_from_zero_and_keep_difficult_ones(
    voc: Path, tmp_path: Path
) -> None:
    trainval = open_split("voc2012", "trainval", tmp_path)
    boxes = {id_: boxes_of(trainval, row) for row, id_ in enumerate(trainval.ids)}
    assert boxes["2007_000032"].tolist() == [[1, 1, 5, 4], [0, 0, 8, 6]]
    assert boxes["2008_000002"].tolist() == [[0, 0, 1, 1]]
    assert boxes["2008_000003"].shape == (0, 4)
    assert {found.dtype for found in boxes.values()} == {np.dtype(np.float64)}


def test_boxes_of_parts_are_none_of_the_objects(tmp_path: Path) -> None:
    head = "<bndbox><xmin>4</xmin><ymin>4</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    part = f"<part><name>head</name>{head}</part>"
    (tmp_path / "a.xml").write_text(voc_xml(("person", (1, 2, 8, 6)), inside=part))
    boxes, size = read_boxes(tmp_path / "a.xml")
    assert boxes == [("person", 0.0, 1.0, 8.0, 6.0)]
    assert size == (tmp_path / "a.xml").stat().st_size


def test_corners_between_pixels_are_kept(tmp_path: Path) -> None:
    # two files of the release have such corners
    (tmp_path / "a.xml").write_text(voc_xml(("dog", (1, 2.70000076293945, 8.5, 6))))
    assert read_boxes(tmp_path / "a.xml")[0] == [("dog", 0.0, 1.70000076293945, 8.5, 6.0)]


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((5, 1, 4, 6), "5 1 4 6"),
        ((1, 5, 8, 4), "1 5 8 4"),
        ((1, 1, 12, 6), "1 1 12 6"),
        ((1, 1, 8, 9), "1 1 8 9"),
        ((-4, 1, 8, 6), "-4 1 8 6"),
        ((1, -4, 8, 6), "1 -4 8 6"),
    ],
)
def test_inverted_boxes_and_those_outside_are_refused_by_file_and_object(
    box: tuple[float, float, float, float], found: str, voc: Path, tmp_path: Path
) -> None:
    path = voc / "Annotations/2008_000002.xml"
    path.write_text(voc_xml(("cat", (1, 1, 8, 6)), ("dog", box)))
    message = rf"{path} \(object 2, dog: box {found} is none inside 8 x 6 pixels\)"
    with pytest.raises(DataError, match=message):
        open_split("voc2012", "trainval", tmp_path)


LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
"""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ((LAUGHS + voc_xml(("&b;", (1, 1, 8, 6)))).encode(), "DOCTYPE"),
        ((LAUGHS + voc_xml(("&b;", (1, 1, 8, 6)))).encode("utf-16"), "expected plain elements"),
        (b"<!ENTITY a 'b'>", "ENTITY"),
        (b"<annotation><object>", "no element found"),
        (b"", "no element found"),
        (b'<?xml version="1.0" encoding="none"?><annotation/>', "unknown encoding: none"),
        (voc_xml(("dog", (1, 1, 8, 6))).replace("<width>8</width>", "").encode(), "size/width"),
        (voc_xml(("dog", (1, 1, 8, 6))).replace("xmin", "left").encode(), "bndbox/xmin"),
        (voc_xml(("dog", (1, 1, 8, 6))).replace("<ymax>6", "<ymax>six").encode(), "six"),
        (voc_xml(("dog", (1, 1, 8, float("nan")))).encode(), "bndbox/ymax is nan"),
        (voc_xml(("dog", (1, 1, float("inf"), 6))).encode(), "bndbox/xmax is inf"),
    ],
)
def test_strange_xml_is_refused_by_name(content: bytes, reason: str, voc: Path) -> None:
    (voc / "Annotations/2007_000033.xml").write_bytes(content)
    with pytest.raises(DataError, match=rf"(?s)2007_000033\.xml \(.*{reason}.*take it from"):
        Voc2012(voc).scan("val")


def test_a_missing_xml_file_has_no_boxes_to_give(voc: Path, tmp_path: Path) -> None:
    val = open_split("voc2012", "val", tmp_path)
    (voc / "Annotations/2007_000033.xml").unlink()
    with pytest.raises(DataError, match=r"2007_000033\.xml is missing"):
        boxes_of(val, 0)


def test_boxes_of_masks_touch_every_object() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(
        np.array([0, 1, 3, 7, 255], np.uint8), (20, 30), p=[0.9, 0.03, 0.03, 0.03, 0.01]
    )
    boxes = mask_boxes(labels)
    assert len(boxes) == 3
    for number, (left, top, right, bottom) in zip((1, 3, 7), boxes.astype(int), strict=True):
        places = [(x, y) for y in range(20) for x in range(30) if labels[y, x] == number]
        assert left == min(x for x, _ in places)
        assert top == min(y for _, y in places)
        assert right == max(x for x, _ in places) + 1
        assert bottom == max(y for _, y in places) + 1


def test_manifest_notices_changed_boxes(voc: Path, tmp_path: Path) -> None:
    before = open_split("voc2012", "trainval", tmp_path)
    path = voc / "Annotations/2007_000032.xml"
    path.write_text(path.read_text().replace("<xmax>5<", "<xmax>5.5<"))
    after = open_split("voc2012", "trainval", tmp_path)
    assert after.targets.tolist() == before.targets.tolist()
    assert (after.sizes - before.sizes).tolist() == [2, 0, 0, 0, 0]
    assert after.manifest != before.manifest

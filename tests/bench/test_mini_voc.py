"""mini_voc: VOC2012's layout, and masks, boxes and flags that agree with each other."""

import hashlib
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bench.annotations import VOID, boxes_of, objects_of, semantic_of
from bench.data.mini.layout import scenes
from bench.data.mini.materials import MATERIALS
from bench.data.mini.names import MATERIAL_NAMES
from bench.data.mini.plan import Plan
from bench.data.mini.voc import border, write
from bench.data.mini.windows import window
from bench.dataset import open_split

SIZES = {(48, 40), (40, 48), (48, 38)}
AROUND = np.ones((3, 3), np.bool_)


@pytest.fixture(scope="module")
def root(mini: Path) -> Path:
    return mini / "mini_voc"


def listed(root: Path, kind: str, split: str) -> list[str]:
    return (root / "ImageSets" / kind / f"{split}.txt").read_text().split()


def described(root: Path, stem: str) -> list[tuple[str, bool, bool, list[int]]]:
    """Name, truncated, difficult, and the four whole numbers of each box, as the file has them."""
    found = []
    for item in ElementTree.parse(root / "Annotations" / f"{stem}.xml").iterfind("object"):
        flags = [item.findtext(key) == "1" for key in ("truncated", "difficult")]
        box = [int(item.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")]
        found.append((item.findtext("name", ""), flags[0], flags[1], box))
    return found


def test_names_are_those_of_the_materials() -> None:
    assert tuple(material.name for material in MATERIALS) == MATERIAL_NAMES


def test_files_are_laid_out_like_voc(root: Path) -> None:
    main, masked = (
        {split: listed(root, kind, split) for split in ("train", "val", "trainval")}
        for kind in ("Main", "Segmentation")
    )
    for lists in (main, masked):
        assert all(own == sorted(set(own)) for own in lists.values())
        assert not set(lists["train"]) & set(lists["val"])
        assert set(lists["trainval"]) == {*lists["train"], *lists["val"]}
    for split in main:
        assert set(masked[split]) < set(main[split])  # some have boxes only, as most of VOC's
    for folder, ending, stems in (
        ("JPEGImages", "jpg", main),
        ("Annotations", "xml", main),
        ("SegmentationClass", "png", masked),
        ("SegmentationObject", "png", masked),
    ):
        found = sorted(path.name for path in (root / folder).iterdir())
        assert found == [f"{stem}.{ending}" for stem in stems["trainval"]]
    assert len(masked["train"]) == len(masked["val"]) == 2 * len(MATERIALS)


def test_images_are_of_several_sizes_and_masks_in_vocs_palette(root: Path) -> None:
    sizes = set()
    for stem in listed(root, "Main", "trainval"):
        with Image.open(root / "JPEGImages" / f"{stem}.jpg") as image:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
            sizes.add(image.size)
        tree = ElementTree.parse(root / "Annotations" / f"{stem}.xml")
        assert tree.findtext("filename") == f"{stem}.jpg"
        assert [tree.findtext(f"size/{key}") for key in ("width", "height", "depth")] == [
            *map(str, image.size), "3",
        ]  # fmt: skip
        masked = tree.findtext("segmented") == "1"
        for folder in ("SegmentationClass", "SegmentationObject"):
            path = root / folder / f"{stem}.png"
            assert path.exists() == masked
            if masked:
                with Image.open(path) as mask:
                    assert (mask.format, mask.mode, mask.size) == ("PNG", "P", image.size)
                    colours = np.reshape(mask.getpalette() or [], (-1, 3))
                # the first colours of VOC's development kit, which are in all its tables
                assert colours[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert sizes == SIZES


def test_the_reader_opens_lists_classes_and_largest_objects(mini: Path, root: Path) -> None:
    for split, kind in (("train", "Segmentation"), ("val", "Segmentation"), ("trainval", "Main")):
        found = open_split("mini_voc", split, mini)
        assert list(found.ids) == listed(root, kind, split)
        assert found.classes == MATERIAL_NAMES
    every = open_split("mini_voc", "train", mini)
    mains = Counter(every.targets.tolist())
    assert set(mains) == set(range(len(MATERIALS)))
    seen = {int(v) for i in range(len(every)) for v in np.unique(semantic_of(every, i))}
    assert seen == {*range(len(MATERIALS) + 1), VOID}


@pytest.mark.parametrize("part", ["train", "val"])
def test_masks_agree_with_boxes_names_and_flags(mini: Path, root: Path, part: str) -> None:
    split = open_split("mini_voc", part, mini)
    same = many = difficult_ones = 0
    for index, stem in enumerate(split.ids):
        classes, objects = semantic_of(split, index), objects_of(split, index)
        described_here = described(root, stem)
        corners = np.array([box for *_, box in described_here])
        np.testing.assert_array_equal(boxes_of(split, index), corners - [1, 1, 0, 0])
        clear = [row for row in described_here if not row[2]]
        assert described_here[: len(clear)] == clear  # difficult ones last: they have no number
        assert set(np.unique(objects)) - {0, VOID} == set(range(1, len(clear) + 1))
        for number, (name, _, _, (xmin, ymin, xmax, ymax)) in enumerate(clear, start=1):
            mask = objects == number
            assert mask.sum() >= 0.008 * 48**2  # what shows less is difficult
            assert set(classes[mask]) == {MATERIAL_NAMES.index(name) + 1}
            y, x = np.nonzero(mask)
            own = np.array([x.min() + 1, y.min() + 1, x.max() + 1, y.max() + 1])
            box = np.array([xmin, ymin, xmax, ymax])
            assert (own[:2] >= box[:2]).all()
            assert (own[2:] <= box[2:]).all()
            same, many = same + bool((own == box).all()), many + 1
        difficult_ones += len(described_here) - len(clear)
        np.testing.assert_array_equal(classes == VOID, objects == VOID)
        np.testing.assert_array_equal(classes == 0, objects == 0)
    assert same / many > 0.9  # others lose an outermost pixel to the border of what lies in front
    assert difficult_ones  # else this tests less than it says


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_void_border_parts_each_object_from_all_else(mini: Path, root: Path, part: str) -> None:
    split = open_split("mini_voc", part, mini)
    for index, stem in enumerate(split.ids):
        objects = objects_of(split, index)
        void = objects == VOID
        near = np.zeros_like(void)
        for number in set(np.unique(objects)) - {0, VOID}:
            grown = ndimage.binary_dilation(objects == number, AROUND)
            assert set(np.unique(objects[grown])) <= {number, VOID}
            near |= ndimage.binary_dilation(grown, AROUND)
        for _, _, difficult, (xmin, ymin, xmax, ymax) in described(root, stem):
            if difficult:  # void altogether, with its border
                near[max(0, ymin - 3) : ymax + 2, max(0, xmin - 3) : xmax + 2] = True
                assert void[ymin - 1 : ymax, xmin - 1 : xmax].any()
        # One pixel wide; two where it covers the tip of an object that has a border of its own.
        assert near[void].all()


def test_the_border_lies_on_what_is_behind() -> None:
    front = np.zeros((7, 9), np.uint8)
    front[2:5, 1:5] = 1
    front[2:5, 5:8] = 2
    void = border(front, 1)
    assert not void[front == 2].any()
    expected = np.zeros_like(void)
    expected[1:6, 0:9] = True
    expected[2:5, 1:4] = expected[2:5, 5:8] = False
    np.testing.assert_array_equal(void, expected)


def test_only_what_the_windows_edge_cuts_off_is_truncated(root: Path) -> None:
    cut = 0
    for stem in listed(root, "Main", "trainval"):
        with Image.open(root / "JPEGImages" / f"{stem}.jpg") as image:
            width, height = image.size
        for _, truncated, _, (xmin, ymin, xmax, ymax) in described(root, stem):
            at_edge = xmin == 1 or ymin == 1 or xmax == width or ymax == height
            assert at_edge or not truncated
            cut += truncated
    assert cut > 20


def test_a_window_keeps_the_largest_object_whole_and_drops_what_it_misses() -> None:
    rng = np.random.default_rng(0)
    dropped = 0
    for scene in scenes(np.arange(36) % len(MATERIALS), "val", 48, rng):
        for size in sorted(SIZES):
            seen = window(scene, size, rng)
            assert seen.pixels.shape == (size[1], size[0], 3)
            assert seen.front.shape == (size[1], size[0])
            assert (seen.front == 1).sum() == scene.masks[0].sum()
            assert seen.materials[0] == scene.materials[0]
            assert not seen.cut[0]
            numbers = set(np.unique(seen.front)) - {0}
            assert numbers == set(range(1, len(seen.materials) + 1))
            dropped += len(scene.materials) - len(seen.materials)
            # The same piece of the photograph as of the masks.
            places = np.argwhere(
                np.all(
                    np.lib.stride_tricks.sliding_window_view(scene.masks[0], seen.front.shape)
                    == (seen.front == 1),
                    axis=(2, 3),
                )
            )
            pieces = [scene.pixels[y : y + size[1], x : x + size[0]] for y, x in places]
            assert any((piece == seen.pixels).all() for piece in pieces)
    assert dropped


def test_the_set_does_not_depend_on_the_others(mini: Path, tmp_path: Path) -> None:
    write(tmp_path, Plan("small", 0, 300), lambda *_: None)
    for path in (path for path in tmp_path.rglob("*.*") if path.is_file()):
        written = mini / "mini_voc" / path.relative_to(tmp_path)
        assert hashlib.sha256(path.read_bytes()).digest() == (
            hashlib.sha256(written.read_bytes()).digest()
        )

"""mini_in9: ImageNet-9's layout, eight variants of the same image, and the map of classes."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bench import registry
from bench.data.mini.in9 import SUPER_CLASSES, _partners, super_class_of
from bench.data.mini.materials import MATERIALS
from bench.data.mini.plan import Plan
from bench.dataset import open_split
from bench.errors import DataError
from bench.imagenet9 import VARIANTS

JPEG = 6  # grey levels that pixels near a sharp edge may be off on average
MIXED = ("mixed_same", "mixed_rand", "mixed_next")


@pytest.fixture(scope="module")
def root(mini: Path) -> Path:
    return mini / "mini_in9" / "bg_challenge"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))
        return np.asarray(image).astype(int)


def inner_and_outer(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that surely are foreground, and those that surely are not."""
    return ndimage.binary_erosion(mask), ~ndimage.binary_dilation(mask, iterations=2)


def test_every_variant_has_the_same_stems_in_the_same_class_folders(root: Path) -> None:
    assert {path.name for path in root.iterdir()} == {*VARIANTS, "fg_mask", "in_to_in9.json"}
    wnids = {material.name: material.wnid for material in MATERIALS}
    many = Plan("small", 0, 300).per_class(0.1, 9)
    for variant in (*VARIANTS, "fg_mask"):
        ending = ".npy" if variant == "fg_mask" else ".JPEG"
        assert sorted(p.name for p in (root / variant / "val").iterdir()) == list(SUPER_CLASSES)
        for name, materials in SUPER_CLASSES.items():
            files = sorted((root / variant / "val" / name).iterdir())
            original = sorted((root / "original" / "val" / name).iterdir())
            assert [path.stem for path in files] == [path.stem for path in original]
            assert {path.suffix for path in files} == {ending}
            counts = Counter(path.stem.split("_")[0] for path in files)
            assert set(counts) == {wnids[material] for material in materials}
            assert sum(counts.values()) == many
            assert max(counts.values()) - min(counts.values()) <= 1


def test_variants_show_the_parts_of_one_image(root: Path) -> None:
    for mask_file in sorted((root / "fg_mask").rglob("*.npy")):
        mask = np.load(mask_file)
        assert (mask.dtype, mask.shape) == (np.bool_, (32, 32))
        place = f"val/{mask_file.parent.name}/{mask_file.stem}.JPEG"
        shown = {variant: pixels(root / variant / place) for variant in VARIANTS}
        original = shown["original"]
        inner, outer = inner_and_outer(mask)
        y, x = np.nonzero(mask)
        box = np.zeros_like(mask)
        box[y.min() : y.max() + 1, x.min() : x.max() + 1] = True
        box_inner, box_outer = inner_and_outer(box)

        def alike(a: np.ndarray, b: np.ndarray | int, where: np.ndarray) -> bool:
            off = np.abs(a - b)[where]
            return not off.size or bool(off.mean() <= JPEG)

        assert alike(shown["only_fg"], original, inner)
        assert alike(shown["only_fg"], 0, outer)
        assert alike(shown["no_fg"], original, outer)
        assert alike(shown["no_fg"], 0, inner)
        assert alike(shown["only_bg_b"], original, box_outer)
        assert alike(shown["only_bg_b"], 0, box_inner)
        assert alike(shown["only_bg_t"], original, box_outer)
        assert np.abs(shown["only_bg_t"] - original)[inner].mean() > JPEG
        for variant in MIXED:
            assert alike(shown[variant], original, inner)
            assert np.abs(shown[variant] - original)[outer].mean() > JPEG


def test_backgrounds_come_from_the_class_that_the_variant_says() -> None:
    supers = np.repeat(np.arange(9), 20)
    behind = _partners(supers, np.random.default_rng(0))
    assert set(behind) == set(MIXED)
    assert (supers[behind["mixed_same"]] == supers).all()
    assert (behind["mixed_same"] != np.arange(180)).all()
    assert (supers[behind["mixed_next"]] == (supers + 1) % 9).all()
    assert len(set(supers[behind["mixed_rand"]] - supers)) > 9


def test_the_map_has_the_official_form_over_the_classes_of_mini_objects(
    mini: Path, root: Path
) -> None:
    content = json.loads((root / "in_to_in9.json").read_text())
    assert content == super_class_of()
    wnids = sorted(path.name for path in (mini / "mini_objects" / "train").iterdir())
    assert list(content) == [str(index) for index in range(len(wnids))]
    for number, name in enumerate(SUPER_CLASSES):
        own = {path.stem.split("_")[0] for path in (root / "original" / "val" / name).iterdir()}
        assert own == {wnids[int(index)] for index, value in content.items() if value == number}


def test_a_head_of_mini_objects_is_mapped_and_another_one_refused(mini: Path, root: Path) -> None:
    dataset = registry.load("dataset", "mini_in9")(root)
    classes = open_split("mini_objects", "train", mini).classes
    names = {material.wnid: material.name for material in MATERIALS}
    groups = list(SUPER_CLASSES.values())
    for order in (classes, classes[::-1], classes[3:7]):
        for wnid, number in zip(order, dataset.super_classes_of(order), strict=True):
            assert names[wnid] in groups[number]
    with pytest.raises(DataError, match=r"n01440764.*head trained on mini_objects"):
        dataset.super_classes_of(["n01440764"])


def test_the_reader_names_variant_and_super_class(mini: Path) -> None:
    found = open_split("mini_in9", "val", mini)
    assert found.classes == tuple(SUPER_CLASSES)
    for id_, target in zip(found.ids, found.targets, strict=True):
        variant, name, _ = id_.split("/")
        assert variant in VARIANTS
        assert list(SUPER_CLASSES).index(name) == target
    assert len(set(Counter(id_.split("/")[0] for id_ in found.ids).values())) == 1

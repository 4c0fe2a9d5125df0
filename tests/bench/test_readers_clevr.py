"""CLEVR: VTAB's labels at every bound, and the official layout."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.clevr import LABELS, scene_labels
from bench.data.clevr import Clevr
from bench.dataset import Split, open_split
from bench.errors import DataError, SpecError
from tests.bench.trees import MODES, write_image, write_json

#: depth of the nearest object -> class, by hand from thresholds {0, 8, 8.5, 9, 9.5, 10, 100}
DEPTH_CLASS = {
    0.1: 0,
    8.0: 0,
    8.01: 1,
    8.5: 1,
    8.75: 2,
    9.0: 2,
    9.01: 3,
    9.5: 3,
    9.51: 4,
    10.0: 4,
    10.5: 5,
    100.0: 5,
}


def scene(name: str, count: int, nearest: float = 8.2) -> dict[str, Any]:
    """As in the release: the nearest object is not the first, and fields that no label needs."""
    depths = [nearest + 1.5 * number for number in range(1, count)] + [nearest]
    objects = [
        {"pixel_coords": [5, 6, depth], "3d_coords": [0.1, 0.2, 0.3], "shape": "cube"}
        for depth in depths
    ]
    relations = {"left": [list(range(count))] * count}
    return {"image_filename": name, "objects": objects, "relationships": relations}


def write_clevr(root: Path) -> None:
    for split, counts in (("train", range(3, 11)), ("val", (4, 7))):
        scenes = [scene(f"CLEVR_{split}_{n:06d}.png", count) for n, count in enumerate(counts)]
        for number, item in enumerate(scenes):
            path = root / f"images/{split}" / item["image_filename"]
            write_image(path, number, ("RGBA", *MODES)[number % 7])
        content = {"info": {"split": split}, "scenes": scenes}
        write_json(root / f"scenes/CLEVR_{split}_scenes.json", content)


def test_count_has_eight_classes_from_three_objects_on() -> None:
    scenes = [scene(str(count), count) for count in range(3, 11)]
    assert list(scene_labels(scenes, "count").values()) == list(range(8))
    assert LABELS["count"][1] == ("3", "4", "5", "6", "7", "8", "9", "10")


@pytest.mark.parametrize("depth", DEPTH_CLASS)
def test_distance_is_the_largest_threshold_below_the_nearest_object(depth: float) -> None:
    assert scene_labels([scene("a", 4, depth)], "distance") == {"a": DEPTH_CLASS[depth]}
    assert len(LABELS["distance"][1]) == 6


@pytest.mark.parametrize(
    ("item", "label", "message"),
    [
        (scene("a", 2), "count", "scene a has no count label .2 objects, expected 3 to 10"),
        (scene("a", 11), "count", "11 objects"),
        (scene("a", 3, 0.0), "distance", "scene a has no distance label .depth 0"),
        (scene("a", 3, 101.0), "distance", "depth 101"),
        (scene("a", 0) | {"objects": []}, "distance", "scene a has no distance label"),
    ],
)
def test_scenes_outside_the_labels_are_refused(
    item: dict[str, Any], label: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        scene_labels([item], label)


def test_two_scenes_of_one_image_are_refused() -> None:
    with pytest.raises(DataError, match="two scenes have the image a"):
        scene_labels([scene("a", 3), scene("a", 4)], "count")


def test_clevr_reads_both_labels_from_the_same_images(tmp_path: Path) -> None:
    write_clevr(tmp_path / "CLEVR_v1.0")
    train = open_split("clevr", "train", tmp_path)
    assert train.targets.tolist() == list(range(8))
    assert {train.image(index).mode for index in range(8)} == {"RGB"}
    assert train.image(4).getpixel((1, 1)) == (4, 4, 4)  # RGBA
    val = open_split("clevr[label=distance]", "val", tmp_path)
    assert val.ids == ("CLEVR_val_000000.png", "CLEVR_val_000001.png")
    assert val.targets.tolist() == [1, 1]
    assert val.classes == ("0-8", "8-8.5", "8.5-9", "9-9.5", "9.5-10", "10-100")
    assert val.manifest != open_split("clevr", "val", tmp_path).manifest
    assert val.split_ids == ("train/val",)


def test_unknown_label_is_told_the_two(tmp_path: Path) -> None:
    write_clevr(tmp_path)
    with pytest.raises(SpecError, match="label=dist: did you mean 'distance'"):
        Clevr(tmp_path, {"label": "dist"}).scan("val")


def test_clevr_missing_parts_are_named(tmp_path: Path) -> None:
    write_clevr(tmp_path)
    (tmp_path / "images/val/CLEVR_val_000001.png").unlink()
    with pytest.raises(DataError, match=r"1 of the 2 .*CLEVR_val_scenes\.json .*_000001\.png"):
        Clevr(tmp_path).scan("val")
    (tmp_path / "scenes/CLEVR_train_scenes.json").unlink()
    with pytest.raises(DataError, match=r"no file scenes/CLEVR_train_scenes\.json"):
        Clevr(tmp_path).scan("train")
    with pytest.raises(DataError, match=r"no folder images/train/, no file scenes/"):
        Clevr(tmp_path / "images").scan("train")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"scenes": [{"image_filename": "a.png"}]}', '{"scenes": 3}']
)
def test_broken_scenes_are_named(content: str, tmp_path: Path) -> None:
    write_clevr(tmp_path)
    (tmp_path / "scenes/CLEVR_val_scenes.json").write_text(content)
    with pytest.raises(DataError, match=r"cannot read CLEVR scenes .*CLEVR_val_scenes\.json"):
        Clevr(tmp_path).scan("val")


def test_no_scenes_are_an_empty_split(tmp_path: Path) -> None:
    write_clevr(tmp_path)
    (tmp_path / "scenes/CLEVR_val_scenes.json").write_text(json.dumps({"scenes": []}))
    with pytest.raises(DataError, match="holds no scenes"):
        Split.open(Clevr(tmp_path), "val", "clevr")

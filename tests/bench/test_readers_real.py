"""Readers of image-level evaluation on real files: ground truths, maps, scenes, derived sets.

Set SSLBENCH_REAL_DATA to the folder of the data. Sets that were re-arranged into an official layout
under another name are linked under the official one.
"""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.clevr import LABELS, scene_labels
from bench.dataset import open_split
from bench.doctor import report
from bench.errors import DataError
from bench.imagenet9 import CLASSES, VARIANTS, class_map, super_classes, super_classes_of
from bench.revisited import ground_truth

ROOT = Path(
    os.environ.get("SSLBENCH_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/data")
)


def needs(name: str) -> Path:
    if not (ROOT / name).exists():
        pytest.skip(f"no {name} in {ROOT}: set SSLBENCH_REAL_DATA")
    return (ROOT / name).resolve()


def link(link_path: Path, target: Path) -> None:
    link_path.parent.mkdir(parents=True, exist_ok=True)
    link_path.symlink_to(target)


def test_built_in_map_is_the_official_file() -> None:
    folder = needs("backgrounds_challenge")
    official = json.loads((folder / "in_to_in9.json").read_text())
    assert super_classes().tolist() == [official[str(index)] for index in range(1000)]
    assert np.array_equal(class_map(folder), super_classes())


def test_folder_with_the_map_alone_lacks_all_variants() -> None:
    needs("backgrounds_challenge")
    with pytest.raises(DataError, match="no folder original/val/, only_fg/val/"):
        open_split("imagenet9", "val", ROOT)


def test_derived_backgrounds_read_as_imagenet9(tmp_path: Path) -> None:
    link(tmp_path / "bg_challenge", needs("derived/in9_tiny"))
    val = open_split("imagenet9", "val", tmp_path)
    assert len(val) == 8 * 9 * 10
    assert np.bincount(val.targets).tolist() == [80] * 9
    assert Counter(id_.split("/")[0] for id_ in val.ids) == dict.fromkeys(VARIANTS, 90)
    assert {id_.split("/")[1] for id_ in val.ids} == set(CLASSES)
    assert {val.image(index).mode for index in range(0, len(val), 37)} == {"RGB"}
    # file names state ImageNet's class: the map agrees with the folders they lie in
    original = [i for i, id_ in enumerate(val.ids) if id_.startswith("original/")]
    wnids = [val.ids[index].rpartition("/")[2].partition("_")[0] for index in original]
    assert super_classes_of(wnids).tolist() == val.targets[original].tolist()


@pytest.mark.parametrize(("name", "images"), [("roxford5k", 4993), ("rparis6k", 6322)])
def test_original_ground_truth_is_read_whole(name: str, images: int) -> None:
    found = ground_truth(needs(f"revisitop/{name}"), name)
    assert (len(found.imlist), len(found.qimlist), len(found.queries)) == (images, 70, 70)
    assert all(len(query.easy) + len(query.hard) for query in found.queries)
    with pytest.raises(DataError, match=r"no folder jpg/\nfound in .*gnd_"):
        open_split(name, "database", ROOT)


def test_derived_photographs_read_as_a_revisited_set(tmp_path: Path) -> None:
    source = needs("derived/rdavis")
    link(tmp_path / "roxford5k/jpg", source / "jpg")
    link(tmp_path / "roxford5k/gnd_roxford5k.pkl", source / "gnd_rdavis.pkl")
    database, query, crop = (
        open_split("roxford5k", split, tmp_path) for split in ("database", "query", "query_crop")
    )
    assert (len(database), len(query), len(crop)) == (142, 40, 40)
    truth = ground_truth(tmp_path / "roxford5k", "roxford5k")
    for index, item in enumerate(truth.queries):
        scene = truth.qimlist[index].rpartition("_")[0]
        assert {database.ids[i].rpartition("_")[0] for i in (*item.easy, *item.hard)} == {scene}
    for index in (0, 17, 39):
        left, upper, right, lower = map(round, truth.queries[index].bbx)
        assert crop.image(index).size == (right - left, lower - upper)
        assert query.image(index).width > crop.image(index).width
    found = {c.name: c for c in report(tmp_path).checks if c.section == "data"}["roxford5k"]
    assert found.status == "ok"
    assert "database 142 images without labels; query 40 images" in found.found
    assert not found.mend


def test_scenes_of_clevr_have_both_labels(tmp_path: Path) -> None:
    folder = needs("CLEVR")
    scenes = json.loads((folder / "CLEVR_scenes.json").read_text())["scenes"]
    counts, depths = (scene_labels(scenes, label) for label in ("count", "distance"))
    for scene in scenes:
        name = scene["image_filename"]
        assert LABELS["count"][1][counts[name]] == str(len(scene["objects"]))
        low, high = map(float, LABELS["distance"][1][depths[name]].split("-"))
        assert low < min(item["pixel_coords"][2] for item in scene["objects"]) <= high
    link(tmp_path / "CLEVR_v1.0/images/val", folder / "images")
    link(tmp_path / "CLEVR_v1.0/scenes/CLEVR_val_scenes.json", folder / "CLEVR_scenes.json")
    val = open_split("clevr", "val", tmp_path)
    assert val.targets.tolist() == [counts[name] for name in val.ids]
    assert {val.image(index).mode for index in range(len(val))} == {"RGB"}
    with pytest.raises(DataError, match="no folder images/val/, no file scenes/CLEVR_val"):
        open_split("clevr", "val", ROOT)

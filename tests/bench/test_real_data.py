"""The readers on small pieces of the real datasets, where they are at hand.

Counts are those of `data/README.md` beside the data; set SSLBENCH_REAL_DATA to their folder.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from bench.coco import coco_annotations
from bench.dataset import open_split
from bench.doctor import report
from bench.safe_pickle import load_plain_pickle

ROOT = Path(
    os.environ.get("SSLBENCH_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/data")
)

pytestmark = pytest.mark.skipif(
    not ROOT.is_dir(), reason=f"no real data in {ROOT}: set SSLBENCH_REAL_DATA"
)


def needs(name: str) -> Path:
    if not (ROOT / name).exists():
        pytest.skip(f"no {name} in {ROOT}")
    return ROOT / name


def test_imagenette_reads_as_ten_classes_of_photographs() -> None:
    needs("imagenette2-224")
    train, val = (open_split("imagenette", name, ROOT) for name in ("train", "val"))
    assert np.bincount(train.targets).tolist() == [90] * 10
    assert np.bincount(val.targets).tolist() == [30] * 10
    assert train.classes == val.classes
    assert train.classes[0] == "n01440764"
    assert not set(train.ids) & set(val.ids)
    for index in range(0, len(val), 29):
        image = val.image(index)
        assert image.mode == "RGB"
        assert min(image.size) == 224


def test_few_label_list_of_bare_names_finds_its_photographs(tmp_path: Path) -> None:
    needs("imagenette2-224")
    drawn = open_split("imagenette[n=50,seed=0]", "train", ROOT)
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{id_.partition('/')[2]}\n" for id_ in reversed(drawn.ids)))
    listed = open_split(f"imagenette[list={few}]", "train", ROOT)
    assert listed.manifest == drawn.manifest
    assert listed.ids == drawn.ids


def test_coco_reads_the_images_of_its_lists() -> None:
    needs("coco")
    train, val = (open_split("coco", name, ROOT) for name in ("train", "val"))
    assert (len(train), len(val)) == (120, 67)  # 90 photos lie in val2017, 67 have instances
    assert len(train.classes) == 80
    assert (train.classes[0], train.classes[-1]) == ("person", "toothbrush")
    assert train.classes == val.classes
    assert train.image(0).mode == "RGB"


def test_coco_target_matches_the_annotations_of_the_sample() -> None:
    needs("coco")
    val = open_split("coco", "val", ROOT).labelled()
    for index in range(0, len(val), 7):
        dataset, name, key = val.source(index)
        annotations = coco_annotations(dataset.root, name)
        entry = annotations.images[key]
        solid = [found for found in entry["instances"] if not found["iscrowd"]]
        largest = max(solid, key=lambda found: found["area"])
        assert val.classes[val.targets[index]] == annotations.categories[largest["category_id"]]
        assert val.image(index).size == (entry["image"]["width"], entry["image"]["height"])
        assert len(entry["captions"]) >= 5


def test_cifar_pictures_read_as_a_folder_with_and_without_labels() -> None:
    folder = needs("cifar10-images")
    text = f"folder[labels=folders,path={folder}]"
    train, val = (open_split(text, name) for name in ("train", "val"))
    assert np.bincount(train.targets).tolist() == [200] * 10
    assert np.bincount(val.targets).tolist() == [100] * 10
    assert train.classes == val.classes
    assert train.image(0).size == (32, 32)
    plain = open_split(f"folder[path={folder}]", "train")
    assert plain.ids == train.ids
    assert plain.classes == ()


def test_union_of_object_and_scene_images_for_pretraining() -> None:
    needs("imagenette2-224")
    needs("coco")
    both = open_split("imagenette[n=300,seed=0]+coco", "train", ROOT)
    assert len(both) == 420
    assert both.image(0).mode == both.image(419).mode == "RGB"


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
def test_original_retrieval_pickles_are_plain_data(name: str) -> None:
    path = needs(f"revisitop/{name}/gnd_{name}.pkl")
    truth = load_plain_pickle(path)
    assert len(truth["qimlist"]) == len(truth["gnd"]) == 70
    assert set(truth["gnd"][0]) == {"bbx", "easy", "hard", "junk"}


def test_doctor_finds_the_real_datasets() -> None:
    needs("coco")
    needs("imagenette2-224")
    found = {check.name: check for check in report(ROOT).checks if check.section == "data"}
    assert found["coco"].status == found["imagenette"].status == "ok"
    assert "train 900 images of 10 classes; val 300" in found["imagenette"].found

"""Revisited Oxford and Paris: ground truth, photographs and crops; hostile pickles."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import registry
from bench.dataset import Dataset, open_split
from bench.errors import DataError
from bench.revisited import ground_truth
from tests.bench.trees import write_photographs

SETS = ("roxford5k", "rparis6k")


def truth() -> dict[str, Any]:
    """3 queries on 6 images; regions as lists of floats or ints, as in both official files."""
    return {
        "imlist": ["radcliffe_2", "all_souls_1", "bodleian_3", "oxford_9", "oxford_4", "christ_5"],
        "qimlist": ["magdalen_7", "all_souls_6", "cornmarket_8"],
        "gnd": [
            {"bbx": [2.5, 3.4, 20.5, 21.6], "easy": [1, 0], "hard": [5], "junk": []},
            {"bbx": [0, 0, 40, 30], "easy": [], "hard": np.array([2, 3]), "junk": [4]},
            {"bbx": [30.0, 20.0, 44.0, 34.0], "easy": [3], "hard": [], "junk": []},
        ],
    }


def write(root: Path, name: str, content: Any, protocol: int = 2) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / f"gnd_{name}.pkl").write_bytes(pickle.dumps(content, protocol=protocol))


@pytest.fixture(params=SETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(name: str, tmp_path: Path) -> Path:
    write(tmp_path / name, name, truth())
    write_photographs(tmp_path / name, truth())
    return tmp_path / name


def pixels(root: Path, name: str) -> np.ndarray:
    with Image.open(root / f"jpg/{name}.jpg") as image:
        return np.asarray(image)


def test_ground_truth_gives_plain_integer_arrays(name: str, root: Path) -> None:
    found = ground_truth(root, name)
    assert found.imlist == tuple(truth()["imlist"])
    assert found.qimlist == tuple(truth()["qimlist"])
    first, second, _ = found.queries
    assert first.bbx == (2.5, 3.4, 20.5, 21.6)
    assert (first.easy.tolist(), first.hard.tolist(), first.junk.tolist()) == ([1, 0], [5], [])
    assert second.hard.tolist() == [2, 3]
    for query in found.queries:
        assert {query.easy.dtype, query.hard.dtype, query.junk.dtype} == {np.dtype(np.int64)}


def test_splits_are_in_the_order_of_the_ground_truth(name: str, root: Path) -> None:
    database, query = (open_split(name, split, root.parent) for split in ("database", "query"))
    assert database.ids == tuple(truth()["imlist"])
    assert query.ids == tuple(truth()["qimlist"])
    assert database.targets.tolist() == [-1] * 6
    assert query.classes == ()
    assert query.split_ids == ("official",)
    for split in (database, query):
        for index, id_ in enumerate(split.ids):
            assert np.array_equal(np.asarray(split.image(index)), pixels(root, id_))


def test_crops_are_the_regions_rounded_as_the_official_code_does(name: str, root: Path) -> None:
    query, crop = (open_split(name, split, root.parent) for split in ("query", "query_crop"))
    whole = pixels(root, "magdalen_7")
    # banker's rounding of PIL's crop: 2.5 -> 2, 3.4 -> 3, 20.5 -> 20, 21.6 -> 22
    assert np.array_equal(np.asarray(crop.image(0)), whole[3:22, 2:20])
    with Image.open(root / "jpg/magdalen_7.jpg") as image:
        official = np.asarray(image.convert("RGB").crop(truth()["gnd"][0]["bbx"]))
    assert np.array_equal(np.asarray(crop.image(0)), official)
    assert crop.image(2).size == (14, 14)  # over the edge: PIL fills with black
    assert [id_.partition("#")[0] for id_ in crop.ids] == list(query.ids)
    assert crop.ids[0] == "magdalen_7#2,3,20,22"


def test_features_of_crops_are_never_taken_for_those_of_whole_queries(
    name: str, root: Path
) -> None:
    query, crop = (open_split(name, split, root.parent) for split in ("query", "query_crop"))
    content = truth()
    content["gnd"][0]["bbx"][2] = 19
    write(root, name, content)
    moved = open_split(name, "query_crop", root.parent)
    assert len({query.manifest, crop.manifest, moved.manifest}) == 3


def test_region_outside_the_photograph_is_refused(name: str, root: Path) -> None:
    content = truth()
    content["gnd"][0]["bbx"] = [40, 3, 60, 20]
    write(root, name, content)
    crop = open_split(name, "query_crop", root.parent)
    with pytest.raises(DataError, match=r"lies outside jpg/magdalen_7\.jpg \(40 x 30 pixels\)"):
        crop.image(0)


def test_grey_photographs_come_out_in_rgb(name: str, root: Path) -> None:
    Image.new("L", (40, 30), 7).save(root / "jpg/magdalen_7.jpg", "JPEG")
    Image.new("CMYK", (40, 30), (0, 0, 0, 9)).save(root / "jpg/christ_5.jpg", "JPEG")
    for split, index in (("query", 0), ("query_crop", 0), ("database", 5)):
        assert open_split(name, split, root.parent).image(index).mode == "RGB"


@pytest.mark.parametrize("split", ["database", "query", "query_crop"])
def test_missing_photographs_are_named(split: str, name: str, root: Path) -> None:
    gone = "oxford_4" if split == "database" else "all_souls_6"
    (root / f"jpg/{gone}.jpg").unlink()
    with pytest.raises(DataError, match=rf"1 of the \d {split} images of gnd_.*{gone}\.jpg"):
        open_split(name, split, root.parent)


def test_missing_parts_are_named_with_the_tree(name: str, root: Path) -> None:
    cls: type[Dataset] = registry.load("dataset", name)
    (root / f"gnd_{name}.pkl").unlink()
    with pytest.raises(DataError, match=rf"no file gnd_{name}\.pkl\n.*\nexpected:\n  {name}/"):
        cls(root).scan("query")
    with pytest.raises(DataError, match="no folder jpg/, no file gnd_"):
        cls(root / "jpg").scan("query")


def test_it_is_found_under_each_of_its_names(name: str, root: Path, tmp_path: Path) -> None:
    cls: type[Dataset] = registry.load("dataset", name)
    reference = open_split(name, "database", root.parent).manifest
    for number, folder in enumerate(cls.folders):
        place = tmp_path / str(number) / folder
        place.parent.mkdir(parents=True)
        place.symlink_to(root)
        assert open_split(name, "database", tmp_path / str(number)).manifest == reference


def spoiled(**changes: Any) -> dict[str, Any]:
    content = truth()
    content["gnd"][1] |= changes
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "TypeError"),
        ({"imlist": ["a"], "qimlist": ["b"]}, "KeyError: 'gnd'"),
        (truth() | {"imlist": []}, "imlist holds 0 names"),
        (truth() | {"imlist": ["a", "a"]}, "imlist holds 2 names, 1 of them different"),
        (truth() | {"imlist": ["../../secret", "a"]}, r"imlist holds '\.\./\.\./secret'"),
        (truth() | {"imlist": [1, 2]}, "imlist holds 1, expected names"),
        (truth() | {"qimlist": ["b"]}, "1 queries and gnd of 3"),
        (truth() | {"gnd": [[1], [2], [3]]}, "TypeError"),
        (spoiled(easy=[6]), r"query all_souls_6 has easy images outside 0\.\.5"),
        (spoiled(hard=[-1]), "has hard images outside"),
        (spoiled(junk=[0.5]), "has junk images outside"),
        (spoiled(easy=[2]), "has an image twice in easy, hard and junk"),
        (spoiled(easy=["x"]), "ValueError"),
        (spoiled(bbx=[1, 2, 3]), "not enough values"),
        (spoiled(bbx=[9, 2, 3, 20]), r"query all_souls_6 has the region \(9\.0, 2\.0, 3\.0, 20\.0"),
        (spoiled(bbx=[1, 2, float("nan"), 20]), "has the region"),
    ],
)
def test_other_ground_truth_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path, "roxford5k", content)
    with pytest.raises(DataError, match=rf"gnd_roxford5k\.pkl is not the revisited.*{message}"):
        ground_truth(tmp_path, "roxford5k")


class Payload:
    """Unpickled without care, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_malicious_ground_truth_is_refused_and_runs_nothing(
    protocol: int, root: Path, name: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    write(root, name, truth() | {"gnd": Payload(trace)}, protocol)
    for split in ("database", "query", "query_crop"):
        with pytest.raises(DataError, match=rf"refused to unpickle .*gnd_{name}\.pkl.*posix\.mkd"):
            open_split(name, split, root.parent)
    assert not trace.exists()


def test_what_matches_a_query_is_in_its_manifest(name: str, root: Path) -> None:
    def manifests() -> list[str]:
        return [open_split(name, split, root).manifest for split in ("query", "query_crop")]

    before, database = manifests(), open_split(name, "database", root).manifest
    assert before == manifests()
    assert before[0] != before[1]
    for changes in ({"easy": [1]}, {"junk": [0]}, {"bbx": [0, 0, 41, 30]}):
        write(root, name, spoiled(**changes))
        assert not set(before) & set(manifests())
        assert open_split(name, "database", root).manifest == database

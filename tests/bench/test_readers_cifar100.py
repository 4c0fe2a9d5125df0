"""CIFAR-100: fine and coarse labels of the same rows."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.cifar100 import Cifar100
from bench.dataset import open_split
from bench.errors import DataError, SpecError

META = {"fine_label_names": ["apple", "bear", "cup"], "coarse_label_names": ["fruit", "mammals"]}


def content(seed: int, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        "fine_labels": rng.integers(0, 3, n).tolist(),
        "coarse_labels": rng.integers(0, 2, n).tolist(),
        "filenames": ["x.png"] * n,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar100/cifar-100-python"
    folder.mkdir(parents=True)
    for name, value in (("train", content(0, 9)), ("test", content(1, 4)), ("meta", META)):
        (folder / name).write_bytes(pickle.dumps(value, protocol=2))
    return tmp_path


def test_fine_labels_are_the_default_and_coarse_ones_another_task(root: Path) -> None:
    fine, coarse = (
        open_split(text, "train", root) for text in ("cifar100", "cifar100[label=coarse]")
    )
    assert fine.classes == ("apple", "bear", "cup")
    assert coarse.classes == ("fruit", "mammals")
    assert fine.targets.tolist() == content(0, 9)["fine_labels"]
    assert coarse.targets.tolist() == content(0, 9)["coarse_labels"]
    assert fine.ids == coarse.ids == tuple(f"train/{row:05d}" for row in range(9))
    assert fine.manifest != coarse.manifest
    assert fine.manifest == open_split("cifar100[label=fine]", "train", root).manifest
    expected = content(0, 9)["data"][5].reshape(3, 32, 32).transpose(1, 2, 0)
    for split in (fine, coarse):
        assert np.array_equal(split.image(5), expected)
    assert len(open_split("cifar100", "val", root)) == 4


def test_archive_right_in_the_data_root_is_the_same(root: Path, tmp_path: Path) -> None:
    inner = open_split("cifar100", "val", root)
    outer = open_split("cifar100", "val", root / "cifar100")
    assert inner.manifest == outer.manifest


def test_other_labels_are_refused(root: Path) -> None:
    with pytest.raises(SpecError, match="label=super: valid: coarse, fine"):
        open_split("cifar100[label=super]", "train", root)


@pytest.mark.parametrize("name", ["meta", "train", "test"])
def test_missing_file_is_named(name: str, root: Path) -> None:
    folder = root / "cifar100"
    (folder / "cifar-100-python" / name).unlink()
    with pytest.raises(DataError, match=rf"no file {name}\nfound in .*\nexpected:\n  cifar-100"):
        Cifar100(folder).scan("val")


def test_names_of_cifar10_are_refused(root: Path) -> None:
    folder = root / "cifar100/cifar-100-python"
    (folder / "meta").write_bytes(pickle.dumps({"label_names": ["cat"]}, protocol=2))
    with pytest.raises(DataError, match=r"meta holds no 'fine_label_names': unpack cifar-100-"):
        Cifar100(folder).scan("val")


def test_batch_of_cifar10_is_refused(root: Path) -> None:
    folder = root / "cifar100/cifar-100-python"
    batch = content(0, 2) | {"labels": [0, 1]}
    del batch["fine_labels"]
    (folder / "test").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=r"test is no CIFAR batch .*'fine_labels' \(n\)"):
        Cifar100(folder).scan("val")


def test_more_classes_than_names_are_refused(root: Path) -> None:
    folder = root / "cifar100/cifar-100-python"
    names = META | {"fine_label_names": ["apple", "bear"]}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    with pytest.raises(DataError, match=r"targets 0\.\.2 do not fit 2 classes"):
        Cifar100(folder).scan("train")

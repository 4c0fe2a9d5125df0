"""Names of classes: WordNet ids become words, and outcomes keep them."""

from pathlib import Path

import numpy as np
import pytest

from bench.class_words import class_words
from bench.dataset import open_split
from bench.recording import with_class_names
from bench.records import Outcome
from bench.split import Split


def imagenet(root: Path, *names: str) -> Split:
    """A split in ImageNet's layout with one empty image a class."""
    for name in names:
        (root / "train" / name).mkdir(parents=True)
        (root / "train" / name / "1.JPEG").write_bytes(b"")
    return open_split(f"folder[labels=folders,path={root / 'train'}]", "train")


def test_wordnet_ids_become_the_first_word_of_their_synset(tmp_path: Path) -> None:
    split = imagenet(tmp_path, "n01440764", "n02102040", "dog", "n99999999")
    assert dict(zip(split.classes, class_words(split), strict=True)) == {
        "n01440764": "tench",
        "n02102040": "English springer",
        "dog": "dog",
        "n99999999": "n99999999",
    }


def test_two_classes_of_one_word_keep_their_ids(tmp_path: Path) -> None:
    # The bird and the machine.
    split = imagenet(tmp_path, "n02012849", "n03126707", "n01440764")
    assert set(class_words(split)) == {"crane (n02012849)", "crane (n03126707)", "tench"}


def test_the_list_of_the_data_set_comes_before_that_of_timm(mini: Path) -> None:
    split = open_split("mini_objects", "val", mini)
    lines = (mini / "mini_objects" / "LOC_synset_mapping.txt").read_text().splitlines()
    known = dict(line.split(" ", 1) for line in lines)
    assert class_words(split) == tuple(known[name] for name in split.classes)


def test_other_names_stay_as_they_are(mini: Path) -> None:
    split = open_split("mini_scenes", "train", mini)
    assert class_words(split) == split.classes


@pytest.mark.parametrize(
    ("target", "named"), [(np.array([0, 1]), True), (np.array([0.5, 1.0]), False), (None, False)]
)
def test_outcomes_of_classes_keep_their_names(
    target: np.ndarray | None, named: bool, mini: Path
) -> None:
    split = open_split("mini_objects", "val", mini)
    columns = {"id": np.array(["a", "b"])} | ({} if target is None else {"target": target})
    kept = with_class_names(Outcome(columns), split).extras
    assert ("class_names" in kept) is named
    if named:
        assert tuple(kept["class_names"]) == class_words(split)
        own = Outcome(columns, {"class_names": np.array(["x", "y"])})
        assert list(with_class_names(own, split).extras["class_names"]) == ["x", "y"]

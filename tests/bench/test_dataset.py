"""Splits: stable ids, draws, unions, lists, manifests, and what a bad request is told."""

import hashlib
import multiprocessing
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import registry, subsets
from bench.dataset import Dataset, Split, Table, data_root, open_split
from bench.errors import DataError, SpecError
from bench.spec import parse_dataset

CLASSES = ("n01440764", "n02102040", "n03000684")
TRAIN, VAL = 5, 2  # images of each class


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with Imagenette (3 classes) and an unlabelled folder `loose`."""
    for split, count in (("train", TRAIN), ("val", VAL)):
        for wnid in CLASSES:
            folder = tmp_path / "imagenette2" / split / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                colour = (number, CLASSES.index(wnid), 0)
                Image.new("RGB", (3, 2), colour).save(folder / f"{wnid}_{number}.JPEG", "PNG")
    (tmp_path / "loose").mkdir()
    for number in range(4):
        Image.new("RGB", (3, 2), (0, 0, number)).save(tmp_path / f"loose/{number}.png")
    return tmp_path


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSLBENCH_DATA", raising=False)


# Tables


def test_table_refuses_what_cannot_be_a_split() -> None:
    one = np.zeros(1, np.int64)
    two = np.zeros(2, np.int64)
    with pytest.raises(DataError, match="two images have the id 'a'"):
        Table(("a", "a"), ("x", "y"), two, ("c",), two)
    with pytest.raises(DataError, match="differ in length"):
        Table(("a", "b"), ("x", "y"), one, ("c",), two)
    with pytest.raises(DataError, match=r"targets 0\.\.0 do not fit 0 classes"):
        Table(("a",), ("x",), one, (), one)


# Splits


def test_images_belong_to_their_ids(root: Path) -> None:
    split = open_split("imagenette", "train", root)
    assert len(split) == TRAIN * len(CLASSES)
    for index, id_ in enumerate(split.ids):
        wnid, name = id_.split("/")
        number = int(name.partition(".")[0].rpartition("_")[2])
        expected = (number, CLASSES.index(wnid), 0)
        assert split.image(index).getpixel((0, 0)) == expected
        assert split.classes[split.targets[index]] == wnid


def test_truncated_image_is_named(root: Path) -> None:
    path = root / f"imagenette2/train/{CLASSES[0]}/{CLASSES[0]}_0.JPEG"
    path.write_bytes(path.read_bytes()[:40])
    split = open_split("imagenette", "train", root)
    with pytest.raises(DataError, match=f"{CLASSES[0]}_0.JPEG"):
        split.image(0)


def _first_pixel(split: Split) -> tuple[str, object]:
    return split.manifest, split.image(len(split) - 1).getpixel((0, 0))


def test_split_travels_to_other_processes(root: Path) -> None:
    split = open_split(f"imagenette+folder[path={root / 'loose'}]", "train", root)
    copy = pickle.loads(pickle.dumps(split))
    assert (copy.ids, copy.name, copy.classes) == (split.ids, split.name, split.classes)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_first_pixel, (split,)) == _first_pixel(split)


def test_take_keeps_rows_together(root: Path) -> None:
    split = open_split("imagenette", "train", root)
    taken = split.take([7, 2], "two")
    assert (taken.name, len(taken)) == ("two", 2)
    assert taken.ids == (split.ids[7], split.ids[2])
    assert taken.targets.tolist() == [split.targets[7], split.targets[2]]
    assert taken.image(0).getpixel((0, 0)) == split.image(7).getpixel((0, 0))
    assert taken.classes == split.classes


def test_manifest_is_the_hash_that_the_contract_describes(root: Path) -> None:
    split = open_split("imagenette", "val", root)
    lines = []
    for wnid in CLASSES:
        for number in range(VAL):
            path = root / f"imagenette2/val/{wnid}/{wnid}_{number}.JPEG"
            lines.append(f"{wnid}/{path.name} {path.stat().st_size} {CLASSES.index(wnid)}")
    text = "\n".join([*sorted(lines), *(f"class {name}" for name in CLASSES)])
    assert split.manifest == hashlib.sha256(text.encode()).hexdigest()


def test_manifest_tells_data_apart_but_not_places_or_orders(root: Path, tmp_path: Path) -> None:
    split = open_split("imagenette", "train", root)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (root / "imagenette2").rename(moved / "imagenette2-160")
    again = open_split("imagenette", "train", moved)
    assert again.manifest == split.manifest
    assert again.take(range(len(again))[::-1], "reversed").manifest == split.manifest
    assert again.take(range(14), "fewer").manifest != split.manifest
    path = moved / "imagenette2-160" / "train" / split.ids[0]
    path.write_bytes(path.read_bytes() + b" ")
    assert open_split("imagenette", "train", moved).manifest != split.manifest


# Draws


def test_draws_are_nested_ordered_and_fixed_by_the_seed(root: Path) -> None:
    split = open_split("imagenette", "train", root)
    small, large, other = split.subset(4, 0), split.subset(9, 0), split.subset(4, 1)
    assert set(small.ids) < set(large.ids)
    assert list(large.ids) == sorted(large.ids)
    assert small.ids == split.subset(4, 0).ids
    assert small.ids != other.ids
    assert split.subset(len(split), 3).ids == split.ids


def test_draw_does_not_depend_on_the_order_of_the_samples(root: Path) -> None:
    split = open_split("imagenette", "train", root)
    turned = split.take(range(len(split))[::-1], "turned")
    assert set(turned.subset(5, 0).ids) == set(split.subset(5, 0).ids)


def test_draw_is_the_one_stored_results_were_made_with() -> None:
    """Golden: `sorted(range(100), key=blake2b(b"0\\nimage_<k>", digest_size=8))[:5]`."""
    ids = [f"image_{number}" for number in range(100)]
    assert subsets.uniform(ids, 5, 0).tolist() == [0, 30, 83, 88, 93]


def test_draws_are_uniform() -> None:
    ids = [f"{number}" for number in range(20)]
    seeds = 2000
    counts = Counter(int(i) for seed in range(seeds) for i in subsets.uniform(ids, 5, seed))
    expected = seeds * 5 / 20
    spread = (seeds * 0.25 * 0.75) ** 0.5
    assert all(abs(counts[i] - expected) < 4 * spread for i in range(20))


@pytest.mark.parametrize("n", [0, 16])
def test_draw_of_more_than_there_is_is_refused(n: int, root: Path) -> None:
    with pytest.raises(DataError, match=f"cannot draw {n} of 15 images"):
        open_split("imagenette", "train", root).subset(n, 0)


def test_n_draws_from_train_and_val_n_from_the_rest(root: Path) -> None:
    text = "imagenette[n=4,seed=7,val_n=3]"
    train, val = (open_split(text, name, root) for name in ("train", "val"))
    assert (len(train), len(val)) == (4, 3)
    assert train.ids == open_split("imagenette", "train", root).subset(4, 7).ids
    assert val.ids == open_split("imagenette", "val", root).subset(3, 7).ids
    assert len(open_split("imagenette[n=4]", "val", root)) == VAL * len(CLASSES)
    assert train.name == val.name == text


# Unions


def test_union_prefixes_ids_and_drops_labels_that_differ(root: Path) -> None:
    split = open_split(f"imagenette[n=2]+folder[path={root / 'loose'}]", "train", root)
    assert len(split) == 6
    assert split.ids[0].startswith("imagenette:n")
    assert split.ids[2] == "folder:0.png"
    assert split.classes == ()
    assert split.targets.tolist() == [-1] * 6
    assert split.image(5).getpixel((0, 0)) == (0, 0, 3)
    assert split.name == f"imagenette[n=2]+folder[path={root / 'loose'}]"


def test_union_of_equal_classes_keeps_labels(root: Path) -> None:
    split = open_split("imagenette[n=3]+imagenette[n=4,seed=1]", "train", root)
    assert split.classes == CLASSES
    assert len(split) == 7
    assert split.ids[0].startswith("imagenette[n=3]:")
    first = open_split("imagenette[n=3]", "train", root)
    assert split.targets[:3].tolist() == first.targets.tolist()


def test_union_counts_one_validation_split_once(root: Path) -> None:
    val = open_split("imagenette[n=3]+imagenette[n=4,seed=1]", "val", root)
    assert len(val) == VAL * len(CLASSES)
    assert val.manifest == open_split("imagenette", "val", root).manifest


def test_union_of_three_reads_each_image_from_its_own_part(root: Path) -> None:
    parts = [open_split("imagenette", name, root) for name in ("train", "val")]
    inner = Split.union([part.take([0], f"p{k}") for k, part in enumerate(parts)])
    loose = open_split(f"folder[path={root / 'loose'}]", "train", root)
    outer = Split.union([loose, inner, parts[0].subset(2, 0)])
    assert outer.image(5).getpixel((0, 0)) == parts[1].image(0).getpixel((0, 0))
    assert outer.source(5)[1:] == ("val", f"val/{parts[1].ids[0]}")
    assert outer.image(3).getpixel((0, 0)) == (0, 0, 3)


def test_same_part_twice_is_refused(root: Path) -> None:
    with pytest.raises(SpecError, match="the same part twice"):
        open_split("imagenette[n=3]+imagenette[n=3]", "train", root)


# Lists


def test_few_label_list_keeps_the_named_files_of_train(root: Path) -> None:
    (root / "few.txt").write_text(f"{CLASSES[2]}_4.JPEG\n{CLASSES[0]}_1.JPEG\n\n")
    text = "imagenette[list=few.txt]"
    split = open_split(text, "train", root)
    assert split.ids == (f"{CLASSES[0]}/{CLASSES[0]}_1.JPEG", f"{CLASSES[2]}/{CLASSES[2]}_4.JPEG")
    assert split.targets.tolist() == [0, 2]
    assert split.classes == CLASSES
    assert len(open_split(text, "val", root)) == VAL * len(CLASSES)


def test_few_label_list_of_imagenet_serves_its_subsets(root: Path) -> None:
    (root / "few.txt").write_text(f"n09999999_3.JPEG\n{CLASSES[0]}_1.JPEG\n")
    assert len(open_split("imagenette[list=few.txt]", "train", root)) == 1


def test_few_label_list_must_fit(root: Path) -> None:
    (root / "few.txt").write_text(f"{CLASSES[0]}_1.JPEG\n{CLASSES[0]}_99.JPEG\n")
    with pytest.raises(DataError, match=rf"1 of its images .*{CLASSES[0]}_99"):
        open_split("imagenette[list=few.txt]", "train", root)
    (root / "few.txt").write_text("n09999999_3.JPEG\n")
    with pytest.raises(DataError, match="all of its images are not in this split"):
        open_split("imagenette[list=few.txt]", "train", root)


def test_names_that_several_images_bear_must_be_written_whole(root: Path) -> None:
    for name in ("a", "b"):
        (root / "twins" / name).mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(root / "twins" / name / "1.png")
    (root / "few.txt").write_text("1.png\n")
    with pytest.raises(DataError, match=r"several images are called 1\.png"):
        open_split("folder[path=twins,list=few.txt]", "train", root)
    (root / "few.txt").write_text("b/1.png\n")
    assert open_split("folder[path=twins,list=few.txt]", "train", root).ids == ("b/1.png",)


@pytest.mark.parametrize("order", [1, -1])
def test_class_list_keeps_classes_in_both_splits(order: int, root: Path) -> None:
    lines = [f"{CLASSES[0]} tench, Tinca tinca", "# origin: CMC", CLASSES[2]][::order]
    (root / "classes.txt").write_text("\n".join(lines))
    for name, count in (("train", TRAIN), ("val", VAL)):
        split = open_split("imagenette[classes=classes.txt]", name, root)
        assert split.classes == (CLASSES[0], CLASSES[2])
        assert split.targets.tolist() == [0] * count + [1] * count


def test_class_list_must_name_known_classes(root: Path) -> None:
    (root / "classes.txt").write_text("tench\n")
    with pytest.raises(DataError, match=r"1 unknown classes \(tench\).*n01440764"):
        open_split("imagenette[classes=classes.txt]", "train", root)


def test_class_list_needs_labels(root: Path) -> None:
    (root / "classes.txt").write_text("tench\n")
    with pytest.raises(DataError, match="have no labels"):
        open_split("folder[path=loose,classes=classes.txt]", "train", root)


def test_lists_come_before_draws(root: Path) -> None:
    (root / "classes.txt").write_text(CLASSES[1])
    split = open_split("imagenette[classes=classes.txt,n=5]", "train", root)
    assert len(split) == TRAIN


@pytest.mark.parametrize(
    ("lines", "each", "longer"), [(12_811, 12, 811), (128_116, 128, 116)], ids=["1 %", "10 %"]
)
def test_lists_of_the_size_of_simclr_keep_their_balance(
    lines: int, each: int, longer: int, tmp_path: Path
) -> None:
    """SimCLRv2's lists: 12 or 13 images of each of 1,000 classes, 128 or 129."""
    wnids = [f"n{index:08d}" for index in range(1000)]
    ids = [f"{wnid}/{wnid}_{number}.JPEG" for wnid in wnids for number in range(each + 2)]
    names = [
        f"{wnid}_{number}.JPEG"
        for index, wnid in enumerate(wnids)
        for number in range(1, each + 1 + (index < longer))
    ]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(reversed(names)) + "\n")
    chosen = subsets.of_list(ids, wnids, path)
    assert len(chosen) == len(names) == lines
    counts = Counter(ids[index].partition("/")[0] for index in chosen)
    assert Counter(counts.values()) == {each: 1000 - longer, each + 1: longer}
    path.write_text("\n".join([*names, f"{wnids[5]}_99999.JPEG"]))
    with pytest.raises(DataError, match=rf"1 of its images are not .*{wnids[5]}_99999"):
        subsets.of_list(ids, wnids, path)


def test_class_list_of_imagenet100_renumbers_a_hundred_classes(tmp_path: Path) -> None:
    wnids = tuple(f"n{index:08d}" for index in range(1000))
    path = tmp_path / "imagenet100.txt"
    path.write_text("\n".join(wnids[5::10][::-1]))
    targets = np.arange(1000).repeat(2)
    chosen, renumbered, names = subsets.of_classes(wnids, targets, path)
    assert names == wnids[5::10]
    assert renumbered.tolist() == np.arange(100).repeat(2).tolist()
    assert targets[chosen].tolist() == np.arange(5, 1000, 10).repeat(2).tolist()


@pytest.mark.parametrize("content", ["", "# only a comment\n"])
def test_empty_list_is_refused(content: str, root: Path) -> None:
    (root / "few.txt").write_text(content)
    with pytest.raises(DataError, match=r"few\.txt is empty"):
        open_split("imagenette[list=few.txt]", "train", root)


# Requests


@pytest.mark.parametrize(
    ("text", "role", "message"),
    [
        ("imagenete", "train", "did you mean 'imagenette'"),
        ("imagenette[nn=3]", "train", "no modifier 'nn'; did you mean 'n'"),
        ("imagenette[path=x]", "train", "no modifier 'path'"),
        ("imagenette[n=0]", "train", "expected a whole number > 0"),
        ("imagenette[n=1e3]", "train", "expected a whole number > 0"),
        ("imagenette[n=3,seed=-1]", "train", "seed=-1: expected a whole number"),
        ("imagenette[split=unlabeled]", "train", "no split 'unlabeled'; valid: train, val"),
        ("imagenette", "test", "no split 'test'"),
        ("folder", "train", r"folder\[path=DIR\]"),
        ("", "train", "empty dataset"),
    ],
)
def test_bad_request_is_told_what_is_valid(text: str, role: str, message: str, root: Path) -> None:
    with pytest.raises(SpecError, match=message):
        open_split(text, role, root)


def test_split_modifier_says_what_is_opened_as_train(root: Path) -> None:
    split = open_split("imagenette[split=val,n=2]", "train", root)
    assert set(split.ids) <= set(open_split("imagenette", "val", root).ids)
    assert (len(split), split.split) == (2, "train")


def test_parsed_parts_and_text_open_the_same(root: Path) -> None:
    text = "imagenette[n=4,seed=2]"
    parsed = open_split(parse_dataset(text), "train", root)
    assert parsed.manifest == open_split(text, "train", root).manifest


def test_missing_list_says_where_it_was_looked_for(root: Path) -> None:
    with pytest.raises(DataError, match=r"list no\.txt is not there \(looked for .*imagenette2"):
        open_split("imagenette[list=no.txt]", "train", root)


def test_folder_needs_no_data_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(open_split(f"folder[path={root / 'loose'}]", "train")) == 4
    monkeypatch.chdir(root)
    assert len(open_split("folder[path=loose]", "train")) == 4


def test_labelled_drops_what_has_no_label(root: Path) -> None:
    loose = open_split("folder[path=loose]", "train", root)
    with pytest.raises(DataError, match="none of its 4 train images has a label"):
        loose.labelled()
    whole = open_split("imagenette", "train", root)
    assert whole.labelled() is whole


# Finding


def test_data_root_comes_from_the_argument_or_the_variable(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"pass --data DIR or set SSLBENCH_DATA=DIR"):
        data_root()
    with pytest.raises(DataError, match="no data root"):
        open_split("imagenette", "train")
    monkeypatch.setenv("SSLBENCH_DATA", str(root / "loose"))
    assert data_root() == root / "loose"
    assert data_root(root) == root
    with pytest.raises(DataError, match="is not a folder"):
        data_root(root / "gone")


def test_dataset_is_found_by_name_or_is_the_data_root_itself(root: Path, tmp_path: Path) -> None:
    cls: type[Dataset] = registry.load("dataset", "imagenette")
    assert cls.locate(root) == root / "imagenette2"
    assert cls.locate(root / "imagenette2") == root / "imagenette2"
    (tmp_path / "alias").symlink_to(root / "imagenette2")
    assert cls.locate(tmp_path / "alias") == tmp_path / "alias"


def test_dataset_is_not_taken_for_another_of_the_same_layout(root: Path) -> None:
    cls: type[Dataset] = registry.load("dataset", "imagenet1k")
    for place in (root, root / "imagenette2"):
        with pytest.raises(DataError) as caught:
            cls.locate(place)
        why, found, expected, *tree = str(caught.value).splitlines()
        assert why.startswith("ImageNet-1k: no folder imagenet1k")
        assert found.startswith(f"found in {place}: ")
        assert expected == "expected:"
        assert any("train/<wnid>/*.JPEG" in line for line in tree)


def test_split_rules_of_the_parts_are_told_in_their_order(root: Path) -> None:
    for number in range(5):
        for kind in ("lake", "beach"):
            (root / "resisc45" / kind).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2)).save(root / f"resisc45/{kind}/{number}.png")
    split = open_split("imagenette+resisc45[n=2]", "train", root)
    assert split.split_ids == ("official", "hash60-20-20")
    assert open_split("imagenette[n=2]", "train", root).split_ids == ("official",)


@pytest.mark.parametrize("name", registry.names("dataset"))
def test_every_dataset_states_its_layout(name: str) -> None:
    cls: type[Dataset] = registry.load("dataset", name)
    assert cls.title
    assert cls.tree.strip()
    # Of three kinds: below the data root, where its path says, or simulated.
    assert cls.folders or {"path", "rollouts"} & set(cls.modifiers)
    assert cls.splits
    assert len(set(cls.splits)) == len(cls.splits)
    assert cls.__mro__[1] is Dataset

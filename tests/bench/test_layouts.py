"""Readers of official layouts, on tiny trees written in each of them."""

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from bench import cifar, layouts
from bench.coco import coco_annotations
from bench.data.cifar10 import Cifar10
from bench.data.coco import Coco
from bench.data.folder import Folder
from bench.data.imagenet1k import ImageNet1k
from bench.data.imagenette import Imagenette
from bench.data.mini.cifar import pickled
from bench.data.mini_cifar import MiniCifar
from bench.dataset import Split
from bench.errors import DataError, SpecError
from bench.safe_pickle import load_plain_pickle

WNIDS = ("n01440764", "n02102040", "n03000684")


def write_image(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (shade, 0, 0)).save(path, "PNG")


def val_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


#: number at the end of the file name -> wnid; not sorted by class, as in the real set
VAL_TRUTH = {1: WNIDS[2], 2: WNIDS[0], 3: WNIDS[1], 4: WNIDS[0]}


def write_train(folder: Path) -> None:
    for index, wnid in enumerate(WNIDS):
        for number in range(index + 1):
            write_image(folder / wnid / f"{wnid}_{number}.JPEG", 10 * index + number)


def write_flat_val(folder: Path) -> None:
    for number in VAL_TRUTH:
        write_image(folder / val_name(number), number)


def write_sorted_val(folder: Path) -> None:
    for number, wnid in VAL_TRUTH.items():
        write_image(folder / wnid / val_name(number), number)


def write_kaggle_solution(path: Path) -> None:
    rows = [f"{val_name(n).partition('.')[0]},{wnid} 1 2 3 4 " for n, wnid in VAL_TRUTH.items()]
    path.write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]) + "\n")


def write_devkit(folder: Path) -> None:
    """As in the real one, ILSVRC ids are not in the order of wnids, and inner nodes follow."""
    ids = {WNIDS[0]: 3, WNIDS[1]: 1, WNIDS[2]: 2}
    by_id = sorted((number, wnid, 0) for wnid, number in ids.items()) + [(4, "n00001740", 2)]
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    synsets = np.array(by_id, dtype=kind).reshape(-1, 1)
    (folder / "data").mkdir(parents=True)
    scipy.io.savemat(folder / "data/meta.mat", {"synsets": synsets})
    truth = "".join(f"{ids[VAL_TRUTH[number]]}\n" for number in sorted(VAL_TRUTH))
    (folder / "data/ILSVRC2012_validation_ground_truth.txt").write_text(truth)


def by_class_folders(root: Path) -> None:
    write_train(root / "train")
    write_sorted_val(root / "val")


def as_on_kaggle(root: Path) -> None:
    write_train(root / "ILSVRC/Data/CLS-LOC/train")
    write_flat_val(root / "ILSVRC/Data/CLS-LOC/val")
    write_kaggle_solution(root / "LOC_val_solution.csv")


def flat_with_devkit(root: Path) -> None:
    write_train(root / "train")
    write_flat_val(root / "val")
    write_devkit(root / "ILSVRC2012_devkit_t12")


@pytest.mark.parametrize("write", [by_class_folders, as_on_kaggle, flat_with_devkit])
def test_imagenet_is_the_same_in_all_its_layouts(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path)
    dataset = ImageNet1k(tmp_path)
    train, val = (Split.open(dataset, name, "imagenet1k") for name in ("train", "val"))
    assert train.classes == val.classes == WNIDS
    assert train.targets.tolist() == [0, 1, 1, 2, 2, 2]
    assert val.ids == (
        f"{WNIDS[0]}/{val_name(2)}",
        f"{WNIDS[0]}/{val_name(4)}",
        f"{WNIDS[1]}/{val_name(3)}",
        f"{WNIDS[2]}/{val_name(1)}",
    )
    assert val.targets.tolist() == [0, 0, 1, 2]
    shades = [val.image(index).getpixel((0, 0))[0] for index in range(4)]
    assert shades == [2, 4, 3, 1]
    by_class_folders(tmp_path / "reference")
    reference = Split.open(ImageNet1k(tmp_path / "reference"), "val", "imagenet1k")
    assert val.manifest == reference.manifest


def test_kaggle_solution_is_found_beside_the_folder_ilsvrc(tmp_path: Path) -> None:
    as_on_kaggle(tmp_path)
    root = ImageNet1k.locate(tmp_path)
    assert root.name == "ILSVRC"
    assert ImageNet1k(root).scan("val").targets.tolist() == [0, 0, 1, 2]


def test_flat_validation_images_work_without_train(tmp_path: Path) -> None:
    write_flat_val(tmp_path / "val")
    write_kaggle_solution(tmp_path / "LOC_val_solution.csv")
    assert ImageNet1k(tmp_path).scan("val").classes == WNIDS


def test_flat_validation_images_without_truth_are_refused_with_the_tree(tmp_path: Path) -> None:
    write_train(tmp_path / "train")
    write_flat_val(tmp_path / "val")
    with pytest.raises(DataError) as caught:
        ImageNet1k(tmp_path).scan("val")
    message = str(caught.value)
    assert "4 images lie flat, and neither LOC_val_solution.csv nor" in message
    assert f"found in {tmp_path / 'val'}: {val_name(1)}" in message
    assert "val/<wnid>/*.JPEG" in message.partition("expected:")[2]


def test_broken_ground_truth_is_named(tmp_path: Path) -> None:
    write_flat_val(tmp_path / "val")
    (tmp_path / "LOC_val_solution.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"LOC_val_solution\.csv"):
        ImageNet1k(tmp_path).scan("val")


def test_image_that_the_ground_truth_does_not_list_is_refused(tmp_path: Path) -> None:
    flat_with_devkit(tmp_path)
    write_image(tmp_path / "val" / val_name(5), 5)
    with pytest.raises(DataError, match=r"1 flat images have no class of train .*00000005"):
        ImageNet1k(tmp_path).scan("val")


def test_class_without_validation_images_keeps_the_numbers_of_training(tmp_path: Path) -> None:
    write_train(tmp_path / "train")
    write_image(tmp_path / "val" / WNIDS[2] / val_name(1), 1)
    table = Imagenette(tmp_path).scan("val")
    assert table.classes == WNIDS
    assert table.targets.tolist() == [2]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("val/n99999999/a.png", "1 class folders are not in .*n99999999"),
        ("val/loose.png", "1 images lie beside the class folders .*loose"),
        ("val/n01440764/empty/a.txt", ""),
    ],
)
def test_class_folders_that_do_not_fit_are_refused(
    spoil: str, message: str, tmp_path: Path
) -> None:
    by_class_folders(tmp_path)
    path = tmp_path / spoil
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        write_image(path, 1)
    if not message:
        assert len(ImageNet1k(tmp_path).scan("val").ids) == 4
        return
    with pytest.raises(DataError, match=message):
        ImageNet1k(tmp_path).scan("val")


def test_empty_class_folder_is_refused_as_half_unpacked(tmp_path: Path) -> None:
    by_class_folders(tmp_path)
    (tmp_path / "train/n04000000").mkdir()
    with pytest.raises(DataError, match="1 of 4 class folders hold no images"):
        ImageNet1k(tmp_path).scan("train")


def test_missing_split_folder_shows_the_tree_and_what_is_there(tmp_path: Path) -> None:
    write_train(tmp_path / "training")
    with pytest.raises(DataError, match=r"no folder train/\nfound in .*: training/\nexpected:\n"):
        ImageNet1k(tmp_path).scan("train")


class CountingEntry:
    """A directory entry that counts its stat calls."""

    def __init__(self, entry: os.DirEntry[str], counts: dict[str, int]) -> None:
        self.entry, self.counts, self.name = entry, counts, entry.name

    def stat(self) -> os.stat_result:
        self.counts[self.entry.path] = self.counts.get(self.entry.path, 0) + 1
        return self.entry.stat()

    def is_dir(self) -> bool:
        return self.entry.is_dir()


class ReversedScan:
    """`os.scandir` on a file system that lists names the other way round."""

    counts: dict[str, int]

    def __init__(self, folder: Path, turn: bool, counts: dict[str, int]) -> None:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name, reverse=turn)
        self.entries = [CountingEntry(entry, counts) for entry in found]

    def __enter__(self) -> Iterator[CountingEntry]:
        return iter(self.entries)

    def __exit__(self, *_: object) -> None:
        pass


class FakeOs:
    """The parts of `os` that the readers use, with another `scandir`."""

    path = os.path

    def __init__(self, turn: bool) -> None:
        self.counts: dict[str, int] = {}
        self.scandir = lambda folder: ReversedScan(folder, turn, self.counts)


def test_order_does_not_depend_on_the_file_system_and_no_file_is_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_class_folders(tmp_path)
    tables = []
    for turn in (False, True):
        fake = FakeOs(turn)
        monkeypatch.setattr(layouts, "os", fake)
        tables.append(ImageNet1k(tmp_path).scan("train"))
        assert set(fake.counts.values()) == {1}
        assert len(fake.counts) == 6
    assert tables[0].ids == tables[1].ids
    assert tables[0].sizes.tolist() == tables[1].sizes.tolist()


# Plain folders


def test_plain_folder_is_searched_through_and_has_no_labels(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/deep/er/c.jpeg"):
        write_image(tmp_path / name, 9)
    for name in (".hidden.png", "a/._z.JPG", ".cache/x.png"):
        write_image(tmp_path / name, 9)
    (tmp_path / "a/notes.txt").write_text("no image")
    split = Split.open(Folder(tmp_path), "train", "folder")
    assert split.ids == ("a/deep/er/c.jpeg", "a/z.JPG", "b.png")
    assert split.classes == ()
    assert split.targets.tolist() == [-1, -1, -1]
    assert split.image(1).size == (4, 3)


def test_plain_folder_has_no_held_out_split(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match="no split 'val'"):
        Folder(tmp_path).scan("val")


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_folder_with_splits_never_mixes_them(held_out: str, tmp_path: Path) -> None:
    write_image(tmp_path / "train/cat/a.png", 1)
    write_image(tmp_path / held_out / "cat/b.png", 2)
    dataset = Folder(tmp_path)
    assert dataset.scan("train").ids == ("cat/a.png",)
    assert dataset.scan("val").ids == ("cat/b.png",)


def test_folder_names_are_labels_on_request(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/deep/2.png"):
        write_image(tmp_path / name, 1)
    table = Folder(tmp_path, {"labels": "folders"}).scan("train")
    assert table.classes == ("cat", "dog")
    assert table.ids == ("cat/deep/2.png", "dog/1.png")
    assert table.targets.tolist() == [0, 1]


def test_folder_refuses_other_kinds_of_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 1)
    with pytest.raises(SpecError, match="did you mean 'folders'"):
        Folder(tmp_path, {"labels": "folder"}).scan("train")


def test_link_loops_end(tmp_path: Path) -> None:
    write_image(tmp_path / "a/x.png", 1)
    (tmp_path / "a/up").symlink_to(tmp_path, target_is_directory=True)
    assert [name for name, _ in layouts.list_tree(tmp_path)] == ["a/x.png"]


def test_linked_folders_and_files_count(tmp_path: Path) -> None:
    write_image(tmp_path / "store/x.png", 1)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/linked").symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "set/y.png").symlink_to(tmp_path / "store/x.png")
    files = layouts.list_tree(tmp_path / "set")
    size = (tmp_path / "store/x.png").stat().st_size
    assert files == [("linked/x.png", size), ("y.png", size)]


def test_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"x\.png"):
        layouts.list_tree(tmp_path)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images\nfound in .*: \(empty\)"):
        Folder(tmp_path).scan("train")


# CIFAR-10


def cifar_batch(seed: int, n: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "batch_label": f"batch {seed}",
        "labels": rng.integers(0, 3, n).tolist(),
        "data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        "filenames": [f"x_s_{seed:06d}.png"] * n,
    }


def as_python3(content: dict[str, Any], protocol: int) -> bytes:
    return pickle.dumps(content, protocol=protocol)


WRITERS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "official": pickled,
    "protocol 2": lambda content: as_python3(content, 2),
    "protocol 4": lambda content: as_python3(content, 4),
    "protocol 5": lambda content: as_python3(content, 5),
}


def write_cifar(folder: Path, write: Callable[[dict[str, Any]], bytes] = pickled) -> None:
    folder.mkdir(parents=True)
    for seed, name in enumerate(n for names in cifar.BATCHES.values() for n in names):
        (folder / name).write_bytes(write(cifar_batch(seed)))
    meta = {"label_names": ["cat", "dog", "ship"], "num_cases_per_batch": 4, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(write(meta))


@pytest.mark.parametrize("writer", WRITERS)
def test_cifar_batches_give_pixels_and_labels(writer: str, tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py", WRITERS[writer])
    dataset = Cifar10(Cifar10.locate(tmp_path))
    train, val = (Split.open(dataset, name, "cifar10") for name in ("train", "val"))
    assert (len(train), len(val), train.classes) == (20, 4, ("cat", "dog", "ship"))
    assert train.ids[5] == "data_batch_2/00001"
    assert train.targets[4:8].tolist() == cifar_batch(1)["labels"]
    assert val.targets.tolist() == cifar_batch(5)["labels"]
    # channel after channel, row after row
    expected = cifar_batch(1)["data"][1].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(train.image(5), expected)


def test_cifar_is_the_same_inside_a_folder_of_its_own(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py")
    write_cifar(tmp_path / "mini_cifar/cifar-10-batches-py")
    inner = MiniCifar(MiniCifar.locate(tmp_path))
    outer = Cifar10(Cifar10.locate(tmp_path))
    assert Split.open(inner, "val", "a").manifest == Split.open(outer, "val", "b").manifest
    assert np.array_equal(
        Split.open(inner, "val", "a").image(3), Split.open(outer, "val", "b").image(3)
    )


@pytest.mark.parametrize("missing", ["data_batch_3", "batches.meta"])
def test_missing_cifar_file_is_named(missing: str, tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar10/cifar-10-batches-py")
    (tmp_path / "cifar10/cifar-10-batches-py" / missing).unlink()
    with pytest.raises(DataError, match=f"no file {missing}"):
        Cifar10(Cifar10.locate(tmp_path)).scan("val")


class Payload:
    """Unpickled without care, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_malicious_batch_is_refused_and_runs_nothing(protocol: int, tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar10")
    trace = tmp_path / "trace"
    content = {**cifar_batch(0), "labels": Payload(trace)}
    (tmp_path / "cifar10/data_batch_1").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DataError, match=r"refused to unpickle .*data_batch_1.*posix\.mkdir"):
        Cifar10(tmp_path / "cifar10").scan("train")
    assert not trace.exists()


#: Streams that reach for more than plain data without naming an obviously evil function.
SLY = {
    "attribute of an allowed class": b"cnumpy\nndarray.tofile\n.",
    "class of the array itself": b"cnumpy\nndarray\n(K\x08tR.",
    "array of objects": pickle.dumps(np.array([1, None], dtype=object), protocol=2),
    "structured type": pickle.dumps(np.zeros(2, dtype=[("a", "O")]), protocol=2),
    "type of objects": b"cnumpy\ndtype\n(VO8\ntR.",
    "codec": b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
    "getattr": b"c__builtin__\ngetattr\n.",
    "truncated": pickle.dumps(list(range(100)))[:-20],
    "no pickle": b"\x00\x01\x02",
    "empty": b"",
}


@pytest.mark.parametrize("stream", SLY)
def test_pickle_of_more_than_plain_data_is_refused(stream: str, tmp_path: Path) -> None:
    path = tmp_path / "gnd.pkl"
    path.write_bytes(SLY[stream])
    with pytest.raises(DataError, match=r"gnd\.pkl"):
        load_plain_pickle(path)


def test_forged_type_flags_do_not_reach_numpy(tmp_path: Path) -> None:
    """A stream may claim that bytes are object pointers; the type it gets stays a byte."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = (
        b"cnumpy\ndtype\nU\x02u1\x89\x88\x87R(K\x03U\x01|NNN"
        + 2 * b"J\xff\xff\xff\xff"
        + b"K\x3ftb"
    )
    path = tmp_path / "forged.pkl"
    path.write_bytes(b"\x80\x02" + array + b"(K\x01K\x02\x85" + kind + b"\x89U\x02AAtb.")
    found = load_plain_pickle(path)
    assert found.dtype == np.dtype(np.uint8)
    assert not found.dtype.hasobject
    assert found.tolist() == [65, 65]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_survives_every_protocol(protocol: int, tmp_path: Path) -> None:
    content = {
        "c": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big": np.arange(3, dtype=">i2"),
        "text": np.array(["a", "bc"]),
        "bytes": np.array([b"a", b"bc"]),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.float32(0.5),
        "raw": b"\xff\x00",
        "none": b"",
        "sets": [{1, 2}, frozenset({3}), (None, True)],
    }
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = load_plain_pickle(path)
    for key, value in content.items():
        if isinstance(value, np.ndarray):
            assert found[key].dtype.newbyteorder("=") == value.dtype.newbyteorder("=")
            assert np.array_equal(found[key], value)
        else:
            assert found[key] == value


# COCO


def write_coco(root: Path) -> None:
    """Sparse ids, a crowd, a tie in area, an image without instances and one outside the list."""
    names = {
        7: "000000000007.jpg",
        3: "000000000003.jpg",
        5: "000000000005.jpg",
        9: "000000000009.jpg",
    }
    for number in (*names, 11):
        write_image(root / f"val2017/{number:012d}.jpg", number)
    boxes = [  # image, category, area, crowd
        (7, 90, 50.0, 0),
        (7, 3, 900.0, 1),
        (7, 44, 60.5, 0),
        (3, 90, 10.0, 0),
        (3, 3, 10.0, 0),
        (9, 3, 5.0, 1),
    ]
    annotations = [
        {
            "id": 100 + index,
            "image_id": image,
            "category_id": category,
            "area": area,
            "iscrowd": crowd,
            "bbox": [0, 0, 2, 2],
            "segmentation": [[0, 0, 2, 0, 2, 2]],
        }
        for index, (image, category, area, crowd) in enumerate(boxes)
    ]
    images = [
        {"id": number, "file_name": name, "width": 4, "height": 3} for number, name in names.items()
    ]
    categories = [
        {"id": 90, "name": "toothbrush"},
        {"id": 3, "name": "car"},
        {"id": 44, "name": "bottle"},
    ]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    captions = {
        "images": [*images, {"id": 11, "file_name": "000000000011.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 7, "caption": "a bottle by a car"},
            {"id": 2, "image_id": 11, "caption": "elsewhere"},
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations/instances_val2017.json").write_text(json.dumps(instances))
    (root / "annotations/captions_val2017.json").write_text(json.dumps(captions))


def test_coco_target_is_the_largest_instance_that_is_no_crowd(tmp_path: Path) -> None:
    write_coco(tmp_path)
    split = Split.open(Coco(tmp_path), "val", "coco")
    assert split.classes == ("car", "bottle", "toothbrush")  # in the order of sparse ids
    assert split.ids == tuple(f"{number:012d}.jpg" for number in (3, 5, 7, 9))
    # 3: a tie, the lower annotation id wins; 5: no instances; 9: only a crowd
    assert split.targets.tolist() == [2, -1, 1, -1]
    assert split.labelled().ids == ("000000000003.jpg", "000000000007.jpg")
    assert split.image(2).size == (4, 3)


def test_coco_annotations_are_reached_from_a_sample(tmp_path: Path) -> None:
    write_coco(tmp_path)
    dataset, name, key = Split.open(Coco(tmp_path), "val", "coco").source(2)
    annotations = coco_annotations(dataset.root, name)
    entry = annotations.images[key]
    assert entry["image"]["id"] == 7
    assert [found["id"] for found in entry["instances"]] == [100, 101, 102]
    assert entry["instances"][0]["segmentation"]
    assert entry["captions"] == ["a bottle by a car"]
    assert list(annotations.categories.items()) == [(3, "car"), (44, "bottle"), (90, "toothbrush")]


def test_coco_without_annotations_serves_unlabelled(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "annotations/instances_val2017.json").unlink()
    table = Coco(tmp_path).scan("val")
    assert (len(table.ids), table.classes) == (5, ())  # the captions list all five
    (tmp_path / "annotations/captions_val2017.json").unlink()
    table = Coco(tmp_path).scan("val")
    assert len(table.ids) == 5
    assert set(table.targets.tolist()) == {-1}
    with pytest.raises(DataError, match="instances_val2017"):
        coco_annotations(tmp_path, "val")


def test_coco_images_that_the_list_names_must_be_there(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "val2017/000000000005.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of the 4 images .*000000000005\.jpg"):
        Coco(tmp_path).scan("val")


def test_coco_list_cannot_point_outside_the_folder(tmp_path: Path) -> None:
    write_coco(tmp_path)
    path = tmp_path / "annotations/instances_val2017.json"
    write_image(tmp_path / "secret.jpg", 1)
    path.write_text(path.read_text().replace("000000000003.jpg", "../secret.jpg"))
    with pytest.raises(DataError, match="are not in val2017"):
        Coco(tmp_path).scan("val")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"images": [{}]}'])
def test_broken_coco_annotations_are_named(content: str, tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "annotations/instances_val2017.json").write_text(content)
    with pytest.raises(DataError, match=r"instances_val2017\.json"):
        Coco(tmp_path).scan("val")


def test_unlabeled_images_of_coco_are_a_split(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_image(tmp_path / "unlabeled2017/000000000100.jpg", 1)
    table = Coco(tmp_path).scan("unlabeled")
    assert (table.ids, table.targets.tolist()) == (("000000000100.jpg",), [-1])
    with pytest.raises(DataError, match="no folder train2017/"):
        Coco(tmp_path).scan("train")

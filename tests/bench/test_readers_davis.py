"""DAVIS: frames and objects of both releases, choices of sequences, and what is wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.annotations import VOID, objects_of, semantic_of
from bench.data.davis2016 import Davis2016
from bench.data.davis2017 import Davis2017
from bench.dataset import Dataset, open_split
from bench.errors import DataError, SpecError
from tests.bench.dense_trees import SIZE, write_mask
from tests.bench.test_readers_real import needs
from tests.bench.trees import write_image, write_lines

#: sequence -> (its list, numbers of its objects in the first frame); neither list is sorted
SEQUENCES = {
    "swan": ("val", (1,)),
    "bike": ("val", (1, 2, 5)),
    "kite": ("train", (1, 2)),
    "bear": ("train", (1,)),
}
FRAMES = ("00000", "00001", "00002")


def labels_of(numbers: tuple[int, ...], frame: int) -> list[list[int]]:
    """A column for each object, a column of void; objects move to the right, new ones come."""
    labels = np.zeros((SIZE[1], SIZE[0]), int)
    for place, number in enumerate(numbers):
        labels[1:4, place + frame] = number
    labels[:, 6] = VOID
    if frame:
        labels[5, 0] = 9  # not in the first frame: nothing to follow
    return [list(map(int, row)) for row in labels]


def write_davis(root: Path) -> Path:
    for name, (_, numbers) in SEQUENCES.items():
        for frame, stem in enumerate(FRAMES):
            write_image(root / f"JPEGImages/480p/{name}/{stem}.jpg", 50 * frame + len(numbers))
            path = root / f"Annotations/480p/{name}/{stem}.png"
            write_mask(path, labels_of(numbers, frame))
    for year in (2016, 2017):
        for part in ("train", "val"):
            names = [name for name, (where, _) in SEQUENCES.items() if where == part]
            write_lines(root / f"ImageSets/{year}/{part}.txt", *names)
    return root


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    return write_davis(tmp_path / "DAVIS")


def test_every_frame_is_a_sample_in_the_order_of_the_list(davis: Path, tmp_path: Path) -> None:
    for split, names in (("val", ("swan", "bike")), ("train", ("kite", "bear"))):
        found = open_split("davis2017", split, tmp_path)
        assert found.ids == tuple(f"{name}/{frame}" for name in names for frame in FRAMES)
        assert set(found.targets) == {-1}
        for row, id_ in enumerate(found.ids):
            name, _, frame = id_.partition("/")
            numbers = SEQUENCES[name][1]
            assert found.image(row).getpixel((0, 0)) == (50 * int(frame) + len(numbers),) * 3
            assert objects_of(found, row).tolist() == labels_of(numbers, int(frame))
    with pytest.raises(SpecError, match="davis2017 says nothing of the classes"):
        semantic_of(found, 0)


def test_objects_are_those_of_the_first_frames_without_void(davis: Path, tmp_path: Path) -> None:
    found = open_split("davis2017", "objects", tmp_path)
    assert found.ids == ("swan/1", "bike/1", "bike/2", "bike/5")
    for row, id_ in enumerate(found.ids):
        numbers = SEQUENCES[id_.partition("/")[0]][1]
        assert found.image(row).getpixel((0, 0)) == (len(numbers),) * 3
        assert objects_of(found, row).tolist() == labels_of(numbers, 0)
    opened = open_split("davis2017[split=objects]", "train", tmp_path)
    assert opened.manifest == found.manifest
    assert np.array_equal(np.asarray(opened.image(3)), np.asarray(found.image(3)))


def test_objects_of_2016_are_one_whatever_their_masks_store(davis: Path, tmp_path: Path) -> None:
    val, objects = (open_split("davis2016", split, tmp_path) for split in ("val", "objects"))
    assert objects.ids == ("swan/1", "bike/1")
    for found in (val, objects):
        for row, id_ in enumerate(found.ids):
            name, _, frame = id_.partition("/")
            numbers, number = SEQUENCES[name][1], int(frame) if found is val else 0
            stored = np.array(labels_of(numbers, number))
            assert objects_of(found, row).tolist() == (stored != 0).astype(int).tolist()


def test_masks_and_lists_of_the_first_release_are_read(davis: Path, tmp_path: Path) -> None:
    shutil.rmtree(davis / "ImageSets/2016")
    for name in SEQUENCES:
        for stem in FRAMES:
            path = davis / f"Annotations_2016/480p/{name}/{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = np.zeros(SIZE[::-1], np.uint8)
            grey[2:4, 3:5] = 255
            Image.fromarray(grey).save(path)  # mode L
    pairs = [
        f"/JPEGImages/480p/{name}/{stem}.jpg /Annotations_2016/480p/{name}/{stem}.png"
        for name in ("swan", "bike")
        for stem in FRAMES
    ]
    write_lines(davis / "ImageSets/480p/val.txt", *pairs)
    val = open_split("davis2016", "val", tmp_path)
    assert val.ids == tuple(f"{name}/{frame}" for name in ("swan", "bike") for frame in FRAMES)
    assert objects_of(val, 4).tolist() == (grey // 255).tolist()
    assert open_split("davis2016", "objects", tmp_path).ids == ("swan/1", "bike/1")
    # the later release keeps its own masks
    later = open_split("davis2017", "val", tmp_path)
    assert objects_of(later, 4).tolist() == labels_of((1, 2, 5), 1)


@pytest.mark.parametrize("name", ["davis2017", "davis2016"])
def test_chosen_sequences_hold_for_all_splits(name: str, davis: Path, tmp_path: Path) -> None:
    text = f"{name}[sequences=kite:bike]"
    assert open_split(text, "val", tmp_path).ids == tuple(f"bike/{frame}" for frame in FRAMES)
    assert open_split(text, "train", tmp_path).ids == tuple(f"kite/{frame}" for frame in FRAMES)
    objects = open_split(text, "objects", tmp_path)
    assert {id_.partition("/")[0] for id_ in objects.ids} == {"bike"}
    assert objects.name == text
    both = open_split(f"{name}[sequences=bike:swan:bike]", "val", tmp_path)
    assert both.ids == open_split(name, "val", tmp_path).ids


def test_sequences_that_are_not_there_are_refused(davis: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no list names 'bikes'; did you mean 'bike'"):
        open_split("davis2017[sequences=swan:bikes]", "val", tmp_path)
    with pytest.raises(DataError, match=r"none of the sequences kite is in .*2017/val\.txt"):
        open_split("davis2017[sequences=kite]", "val", tmp_path)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("folder", ["Annotations", "JPEGImages"])
def test_manifests_notice_any_changed_file_of_a_sequence(
    folder: str, frame: str, davis: Path, tmp_path: Path
) -> None:
    before = {s: open_split("davis2017", s, tmp_path) for s in ("val", "objects", "train")}
    ending = "png" if folder == "Annotations" else "jpg"
    path = davis / f"{folder}/480p/bike/{frame}.{ending}"
    path.write_bytes(path.read_bytes() + b"\0")
    after = {s: open_split("davis2017", s, tmp_path) for s in ("val", "objects", "train")}
    changed = (after["objects"].sizes - before["objects"].sizes).tolist()
    assert changed == [0, 1, 1, 1]  # of all objects of this sequence, of no other
    assert after["objects"].manifest != before["objects"].manifest
    assert after["val"].manifest != before["val"].manifest
    assert after["train"].manifest == before["train"].manifest


# What is missing or strange


@pytest.mark.parametrize("dataset", [Davis2017, Davis2016])
def test_frames_and_masks_without_their_partner_are_named(
    dataset: type[Dataset], davis: Path
) -> None:
    (davis / "Annotations/480p/bike/00001.png").unlink()
    for split in ("val", "objects"):
        with pytest.raises(
            DataError, match=r"1 of 3 frames of sequence bike have no mask .00001\.png"
        ):
            dataset(davis).scan(split)
    (davis / "Annotations/480p/swan/00000.png").unlink()
    with pytest.raises(DataError, match=r"frames of sequence swan have no mask .00000\.png"):
        dataset(davis).scan("objects")
    (davis / "JPEGImages/480p/kite/00002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 3 masks of sequence kite have no frame .00002\.png"):
        dataset(davis).scan("train")


def test_sequences_without_folder_or_frames_are_named(davis: Path) -> None:
    dataset = Davis2017(davis)
    for folder in ("Annotations/480p/swan", "JPEGImages/480p/swan"):
        for path in (davis / folder).iterdir():
            path.unlink()
    with pytest.raises(DataError, match="sequence swan has no frames"):
        dataset.scan("val")
    (davis / "Annotations/480p/swan").rmdir()
    with pytest.raises(
        DataError, match="sequence swan of the list has no folder Annotations/480p/"
    ):
        dataset.scan("val")
    write_lines(davis / "ImageSets/2017/val.txt", "swam")
    with pytest.raises(DataError, match="sequence swam of the list has no folder JPEGImages/480p/"):
        dataset.scan("val")
    write_lines(davis / "ImageSets/2017/val.txt", "/JPEGImages/480p/../00000.jpg x")
    with pytest.raises(DataError, match=r"val\.txt lists '/JPEGImages/480p/\.\./00000\.jpg'"):
        dataset.scan("val")


def test_missing_lists_and_folders_are_named(davis: Path) -> None:
    shutil.rmtree(davis / "ImageSets")
    with pytest.raises(DataError, match=r"no file ImageSets/2017/train\.txt"):
        Davis2017(davis).scan("train")
    with pytest.raises(DataError, match=r"no file ImageSets/2016/val\.txt"):
        Davis2016(davis).scan("objects")
    shutil.rmtree(davis / "Annotations")
    with pytest.raises(DataError, match="no folder Annotations/480p/"):
        Davis2017(davis).scan("val")
    with pytest.raises(DataError, match="no folder JPEGImages/480p/"):
        Davis2016(davis / "JPEGImages").scan("val")


def test_first_frames_must_hold_objects(davis: Path) -> None:
    empty = [[0] * SIZE[0] for _ in range(SIZE[1])]
    write_mask(davis / "Annotations/480p/bike/00000.png", empty)
    for dataset in (Davis2017(davis), Davis2016(davis)):
        with pytest.raises(DataError, match=r"bike/00000\.jpg .*has no object: the first frame"):
            dataset.scan("objects")
        assert len(dataset.scan("val").ids) == 6


def test_masks_in_colours_and_of_other_sizes_are_refused(davis: Path, tmp_path: Path) -> None:
    val = open_split("davis2017", "val", tmp_path)
    path = davis / "Annotations/480p/swan/00000.png"
    with Image.open(path) as mask:
        colours = mask.convert("RGB")
    colours.save(path)
    with pytest.raises(DataError, match=rf"{path} holds colours \(mode RGB\)"):
        objects_of(val, 0)
    with pytest.raises(DataError, match=rf"{path} holds colours"):
        open_split("davis2017", "objects", tmp_path)
    write_mask(path, [[0, 1]])
    with pytest.raises(DataError, match=r"has 2 x 1 pixels, its image 00000\.jpg 8 x 6"):
        objects_of(val, 0)


# Real data


def test_real_sequences_read() -> None:
    root = needs("DAVIS").parent
    names = ("blackswan", "car-shadow", "libby", "drift-chicane")
    val, objects = (open_split("davis2017", split, root) for split in ("val", "objects"))
    frames = tuple(f"{name}/{number:05d}" for name in names for number in range(20))
    assert val.ids == frames
    assert objects.ids == tuple(f"{name}/1" for name in names)
    assert val.image(0).size == objects.image(0).size == (854, 480)
    older = {split: open_split("davis2016", split, root) for split in ("val", "objects")}
    assert older["val"].ids == frames
    assert older["objects"].ids == objects.ids
    for row in (0, 27, 79):
        labels = objects_of(val, row)
        assert labels.shape == (480, 854)
        assert np.unique(labels).tolist() == [0, 1]
        merged = objects_of(older["val"], row)
        union, both = (labels | merged).sum(), (labels & merged).sum()
        assert both / union > 0.95
    assert objects.sizes[0] == val.sizes[:20].sum()
    with pytest.raises(DataError, match=r"no file ImageSets/2017/train\.txt"):
        open_split("davis2017", "train", root)

"""The mini benchmark: same bytes for the same seed, official layouts, no leaks, no shortcuts."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image
from scipy import ndimage

from bench.data.mini import grounds, in9, materials
from bench.data.mini.cifar import CLASSES, pickled
from bench.data.mini.compose import single
from bench.data.mini.layout import scenes
from bench.data.mini.materials import MATERIALS, Box, photograph, textures
from bench.data.mini.motion import videos
from bench.data.mini.plan import Plan
from bench.data.mini.polygons import polygons
from bench.data.mini.shapes import shapes
from bench.data.mini.sheet import contact_sheet
from bench.data.mini.surface import pieces, recoloured, surface
from bench.data.mini.tabletop import placed, rendered
from bench.data.mini.views import VIEWS, seen, things
from bench.data.mini.windows import windows
from bench.data.mini.write import DATA_SETS, write_mini
from bench.errors import DataError
from bench.safe_pickle import load_plain_pickle

FEW = 36  # two object images a class: what the slow tests write


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def is_picture(path: Path) -> bool:
    """Whether a file of the benchmark is an image, and no mask of one."""
    masks = {"SegmentationClass", "SegmentationObject", "Annotations", "annotations"}
    return path.suffix.lower() in (".jpg", ".jpeg", ".png") and not masks & set(path.parts)


def filled(polygon: list[int], height: int, width: int) -> np.ndarray:
    """Pixels whose centre lies inside, by matplotlib: nothing of ours."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    inside = Outline(np.reshape(polygon, (-1, 2))).contains_points(
        np.stack([x, y], -1).reshape(-1, 2)
    )
    return inside.reshape(height, width)


@pytest.fixture(scope="module")
def coco(mini: Path) -> dict[str, dict[str, Any]]:
    folder = mini / "mini_scenes" / "annotations"
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.iterdir())}


# ---- the folder as a whole -----------------------------------------------------------------


def test_same_seed_gives_the_same_bytes_and_another_seed_other_pictures(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_mini(tmp_path / name, "small", seed, images=FEW)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    pictures = [
        digest
        for path, digest in a.items()
        # Mixed variants of an image may draw the same background; small masks may be the same.
        if is_picture(Path(path)) and "/mixed_" not in path
    ]
    assert len(set(pictures)) == len(pictures)
    assert not set(pictures) & set(c.values())


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    write_mini(tmp_path, "small", 0, images=FEW)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    calls: list[str] = []
    write_mini(tmp_path, "small", 0, images=FEW, progress=lambda name, *_: calls.append(name))
    assert calls == []
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} | {
        tmp_path / ".mini.lock": before[tmp_path / ".mini.lock"]
    }


def test_another_seed_into_the_same_folder_is_refused_with_advice(mini: Path) -> None:
    with pytest.raises(DataError, match=r"seed=0.*wanted.*seed=5.*delete"):
        write_mini(mini, "small", seed=5, images=300)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mini_scenes").mkdir()
    (tmp_path / "mini_scenes" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not written by `sslbench mini`"):
        write_mini(tmp_path, "small", images=FEW)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        ".mini.lock", "mine.txt", "mini_scenes",
    ]  # fmt: skip


@pytest.mark.parametrize(("size", "images"), [("large", 10), ("small", 0)])
def test_sizes_that_do_not_exist_are_refused(tmp_path: Path, size: Any, images: int) -> None:
    with pytest.raises(DataError, match="expected"):
        write_mini(tmp_path, size, images=images)


@pytest.mark.parametrize("last", [*DATA_SETS][1:])
def test_an_exception_half_way_leaves_only_whole_data_sets(tmp_path: Path, last: str) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if name == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mini(tmp_path, "small", images=1, progress=stop)
    whole = [*DATA_SETS][: [*DATA_SETS].index(last)]
    assert {path.name for path in tmp_path.iterdir()} == {".mini.lock", *whole}


def test_a_killed_run_leaves_nothing_half_written_and_the_next_one_finishes(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from bench.data.mini.tabletop import placed, rendered
from bench.data.mini.views import VIEWS, seen, things
from bench.data.mini.write import write_mini
def die(name, done, total):
    if name == "mini_scenes":
        os.kill(os.getpid(), signal.SIGKILL)
write_mini(Path({str(tmp_path)!r}), "small", images={FEW}, progress=die)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    assert killed.returncode == -9
    names = {path.name for path in tmp_path.iterdir()}
    assert "mini_scenes" not in names
    assert not names & set([*DATA_SETS][2:])
    assert any(name.startswith(".mini-writing-") for name in names)  # else this tests nothing
    write_mini(tmp_path, "small", images=FEW)
    assert {path.name for path in tmp_path.iterdir()} == {".mini.lock", *DATA_SETS}


def test_medium_doubles_the_pictures_sides(tmp_path: Path) -> None:
    write_mini(tmp_path, "medium", images=1)
    for pattern, sizes in (
        ("mini_objects/val/*/*.JPEG", {(64, 64)}),
        ("mini_scenes/val2017/*.jpg", {(96, 96)}),
        ("mini_clevr/images/*/*.png", {(96, 64)}),
        ("mini_in9/bg_challenge/*/val/*/*.JPEG", {(64, 64)}),
        ("mini_oxford/jpg/*.jpg", {(128, 96), (96, 128), (128, 80)}),
        ("mini_voc/JPEGImages/*.jpg", {(96, 80), (80, 96), (96, 76)}),
        ("mini_voc/Segmentation*/*.png", {(96, 80), (80, 96), (96, 76)}),
        ("mini_ade/*/*/ADE_*", {(96, 72), (72, 96), (80, 80)}),
        ("mini_davis/*/480p/*/*", {(168, 96)}),
    ):
        found = set()
        for path in tmp_path.glob(pattern):
            with Image.open(path) as image:
                found.add(image.size)
        assert found == sizes


@pytest.mark.parametrize(
    "name", ["mini_clevr", "mini_in9", "mini_oxford", "mini_voc", "mini_ade", "mini_davis"]
)
def test_progress_is_reported_up_to_the_last_picture(tmp_path: Path, name: str) -> None:
    calls: list[tuple[int, int]] = []
    DATA_SETS[name](
        tmp_path, Plan("small", 0, FEW), lambda _, done, total: calls.append((done, total))
    )
    many = sum(is_picture(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert calls == sorted(calls)
    assert calls[-1] == (many, many)


def test_the_contact_sheet_shows_the_data_and_asks_for_it_where_there_is_none(
    mini: Path, tmp_path: Path
) -> None:
    sheet = contact_sheet(mini)
    assert sheet.mode == "RGB"
    assert min(sheet.size) > 500
    with pytest.raises(DataError, match="sslbench mini"):
        contact_sheet(tmp_path)


# ---- what the classes are made of ----------------------------------------------------------


def test_boxes_of_one_photograph_never_overlap_and_lie_inside_it() -> None:
    boxes: dict[str, list[Box]] = defaultdict(list)
    for material in MATERIALS:
        boxes[material.photo] += [*material.train, *material.val]
    for photo, own in boxes.items():
        height, width = photograph(photo).shape[:2]
        for x0, y0, x1, y1 in own:
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
        for a, b in combinations(own, 2):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{photo}: {a} and {b} overlap"


def every_kind_of_picture(part: materials.Part) -> list[np.ndarray]:
    """Objects, floors, videos and windows of both parts, and what there is of val only."""
    rng = np.random.default_rng(0)
    classes = np.arange(len(MATERIALS)).repeat(4)
    floors = placed(np.full(12, 10), np.full(12, 8.0), part, 32, rng)
    pictures = [single(classes, part, 32, rng), rendered(floors, part, 32, rng)]
    moving = videos(np.full(9, 3), 2, (84, 48), part, rng)
    pictures += [pixels for pixels, _ in moving.frames()]
    pictures += [view.pixels for view in windows(1, ((48, 40), (40, 48)), 48, part, rng)]
    if part == "val":
        supers = np.arange(9).repeat(8)
        challenge = in9._pictures(in9._materials()[supers, 0], supers, Plan("small", 0, 300), 0)
        pictures += [challenge.original, challenge.background]
        pictures.append(seen(things(72, part, rng), VIEWS["covered"], (64, 48), part, rng).pixels)
    return pictures


@pytest.mark.parametrize("part", ["train", "val"])
def test_pictures_depend_on_no_pixel_outside_their_parts_boxes(
    part: materials.Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_inside(path: str) -> np.ndarray:
        out = np.full_like(photograph(path), np.nan)
        for material in MATERIALS:
            if material.photo == path:
                for x0, y0, x1, y1 in material.boxes(part):
                    out[y0:y1, x0:x1] = photograph(path)[y0:y1, x0:x1]
        return out

    wanted = every_kind_of_picture(part)
    textures.cache_clear()
    monkeypatch.setattr(materials, "photograph", only_inside)
    monkeypatch.setattr(grounds, "photograph", only_inside)
    try:
        for found, expected in zip(every_kind_of_picture(part), wanted, strict=True):
            np.testing.assert_array_equal(found, expected)
    finally:
        textures.cache_clear()


def test_a_photograph_that_is_not_installed_is_reported_with_the_mend() -> None:
    with pytest.raises(DataError, match="pip install --force-reinstall scikit-image"):
        photograph("skimage/data/no_such_photograph.png")


def test_train_and_val_scans_are_disjoint_and_complete() -> None:
    train, val = shapes("train"), shapes("val")
    assert sorted([*train.scans, *val.scans]) == list(range(1797))
    assert set(train.digits) == set(val.digits) == set(range(10))


def test_the_class_moves_no_object_and_changes_no_outline() -> None:
    n = 60
    drawn = [
        scenes(mains, "val", 48, np.random.default_rng(3))
        for mains in (np.zeros(n, np.int64), np.arange(n) % len(MATERIALS))
    ]
    for a, b in zip(*drawn, strict=True):
        np.testing.assert_array_equal(a.masks, b.masks)
        np.testing.assert_array_equal(a.materials[1:], b.materials[1:])
    assert any((a.pixels != b.pixels).any() for a, b in zip(*drawn, strict=True))


def test_mean_colour_does_not_decide_the_class() -> None:
    def sample(many: int, part: materials.Part) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(1)
        classes = np.arange(len(MATERIALS)).repeat(many)
        steps = np.tile(np.arange(20) - 9.5, (len(classes), 1))
        crops = surface(
            classes, part, 32, steps, steps, pieces(len(classes), rng)
        )  # (n, 20, 20, 3)
        grey = np.tile([0.5, 0, 0], (len(classes), 1))
        crops = recoloured(crops, np.ones(crops.shape[:3]), grey, rng)
        return crops.mean((1, 2)), classes

    (known, labels), (asked, wanted) = sample(100, "train"), sample(30, "val")
    distance = ((asked[:, None] - known) ** 2).sum(-1)  # (n, m)
    nearest = labels[np.argpartition(distance, 10, axis=1)[:, :10]]
    votes = np.array([np.bincount(row, minlength=len(MATERIALS)) for row in nearest])
    # Of perfectly cut out objects: about 30 %. A small CNN reaches 65 %, chance is 5.6 %.
    accuracy = (votes.argmax(1) == wanted).mean()
    assert accuracy < 0.4, accuracy


# ---- mini_objects: ImageNet ----------------------------------------------------------------


def test_objects_are_laid_out_like_imagenet_and_balanced(mini: Path) -> None:
    root = mini / "mini_objects"
    plan = Plan("small", 0, 300)
    for part, share in (("train", 1.0), ("val", 0.2)):
        folders = sorted((root / part).iterdir())
        assert [folder.name for folder in folders] == [m.wnid for m in MATERIALS]
        for folder in folders:
            files = sorted(folder.iterdir())
            assert len(files) == plan.per_class(share)
            for path in files:
                assert re.fullmatch(rf"{folder.name}_\d+\.JPEG", path.name)
                with Image.open(path) as image:
                    image.load()
                    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))
    assert not list(root.rglob("*.jpg"))


def test_full_size_counts_are_those_of_the_design() -> None:
    plan = Plan("small", 0, 6000)
    classes = len(MATERIALS)
    assert abs(plan.per_class(1.0) * classes - 6000) < classes
    assert plan.per_class(0.2) * classes > 1000
    assert abs(plan.per_class(0.5) * classes - 3000) < classes
    assert abs(plan.per_class(0.8 / 6) * classes - 800) < classes


def test_few_label_lists_name_train_files_balanced_and_nested(mini: Path) -> None:
    root = mini / "mini_objects"
    every = {path.name for path in (root / "train").rglob("*.JPEG")}
    lists = {n: (root / f"{n}percent.txt").read_text().split() for n in (1, 10)}
    per_class = len(every) // len(MATERIALS)
    for n, names in lists.items():
        assert len(set(names)) == len(names)
        assert set(names) <= every
        counts = Counter(name.split("_")[0] for name in names)
        assert set(counts.values()) == {max(1, round(per_class * n / 100))}
        assert len(counts) == len(MATERIALS)
    assert set(lists[1]) <= set(lists[10])


# ---- mini_scenes: COCO ---------------------------------------------------------------------


def test_scenes_are_laid_out_like_coco(mini: Path, coco: dict[str, dict[str, Any]]) -> None:
    assert set(coco) == {
        "instances_train2017", "instances_val2017", "captions_train2017", "captions_val2017",
        "image_info_unlabeled2017",
    }  # fmt: skip
    ids: list[int] = []
    for name in ("instances_train2017", "instances_val2017", "image_info_unlabeled2017"):
        split = name.rsplit("_", 1)[1]
        images = coco[name]["images"]
        assert {image["file_name"] for image in images} == {
            path.name for path in (mini / "mini_scenes" / split).iterdir()
        }
        for image in images:
            assert image["file_name"] == f"{image['id']:012d}.jpg"
            with Image.open(mini / "mini_scenes" / split / image["file_name"]) as picture:
                picture.load()
                assert picture.format == "JPEG"
                assert picture.size == (image["width"], image["height"]) == (48, 48)
        ids += [image["id"] for image in images]
    assert len(set(ids)) == len(ids)


def test_categories_are_sparse_and_the_same_in_both_splits(coco: dict[str, dict[str, Any]]) -> None:
    categories = coco["instances_train2017"]["categories"]
    assert categories == coco["instances_val2017"]["categories"]
    ids = [category["id"] for category in categories]
    assert ids == sorted(set(ids))
    assert 1 <= ids[0] <= ids[-1] <= 90
    assert ids != list(range(ids[0], ids[0] + len(ids)))


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_instances_agree_with_their_polygons(coco: dict[str, dict[str, Any]], split: str) -> None:
    content = coco[f"instances_{split}"]
    images = {image["id"]: image for image in content["images"]}
    known = {category["id"] for category in content["categories"]}
    rows = content["annotations"]
    assert len({row["id"] for row in rows}) == len(rows)
    taken: dict[int, np.ndarray] = {}
    for row in rows:
        image = images[row["image_id"]]
        height, width = image["height"], image["width"]
        assert row["iscrowd"] == 0
        assert row["category_id"] in known
        pieces = [filled(polygon, height, width) for polygon in row["segmentation"]]
        mask = np.logical_or.reduce(pieces)
        assert sum(piece.sum() for piece in pieces) == mask.sum() == row["area"]
        y, x = np.nonzero(mask)
        left, top = x.min(), y.min()
        assert row["bbox"] == [left, top, x.max() + 1 - left, y.max() + 1 - top]
        assert not (mask & taken.get(row["image_id"], False)).any()  # what is hidden is not counted
        taken[row["image_id"]] = mask | taken.get(row["image_id"], False)
    assert set(taken) == set(images)


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_one_object_is_clearly_the_largest_and_its_class_balanced(
    coco: dict[str, dict[str, Any]], split: str
) -> None:
    content = coco[f"instances_{split}"]
    areas: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for row in content["annotations"]:
        areas[row["image_id"]].append((row["area"], row["category_id"]))
    labels: list[int] = []
    for own in areas.values():
        assert 2 <= len(own) <= 6
        own.sort(reverse=True)
        assert own[0][0] >= 1.5 * own[1][0]
        assert own[-1][0] >= 12
        labels.append(own[0][1])
    assert set(Counter(labels).values()) == {len(content["images"]) // len(MATERIALS)}
    assert len(set(map(len, areas.values()))) > 2


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_captions_name_what_is_there(coco: dict[str, dict[str, Any]], split: str) -> None:
    names = {row["id"]: row["name"] for row in coco[f"instances_{split}"]["categories"]}
    seen: dict[int, set[str]] = defaultdict(set)
    for row in coco[f"instances_{split}"]["annotations"]:
        seen[row["image_id"]].add(names[row["category_id"]])
    captions: dict[int, list[str]] = defaultdict(list)
    for row in coco[f"captions_{split}"]["annotations"]:
        captions[row["image_id"]].append(row["caption"])
    assert set(captions) == set(seen)
    for image, sentences in captions.items():
        assert len(sentences) == 5
        text = " ".join(sentences)
        assert {name for name in names.values() if name in re.findall(r"\w+", text)} == seen[image]


def test_polygons_fill_back_to_any_mask() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        field = ndimage.gaussian_filter(rng.normal(size=(19, 23)), rng.uniform(0, 2))
        mask = field > np.quantile(field, rng.uniform(0.1, 0.9))
        pieces = [filled(polygon, *mask.shape) for polygon in polygons(mask)]
        np.testing.assert_array_equal(np.sum(pieces, axis=0), mask.astype(int))
    assert polygons(np.zeros((4, 4), np.bool_)) == []


# ---- mini_cifar: CIFAR-10 ------------------------------------------------------------------


def test_cifar_batches_have_the_official_keys_shapes_and_balance(mini: Path) -> None:
    root = mini / "mini_cifar" / "cifar-10-batches-py"
    meta = load_plain_pickle(root / "batches.meta")
    assert meta["label_names"] == list(CLASSES)
    assert meta["num_vis"] == 3072
    pixels = []
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        batch = load_plain_pickle(root / name)
        assert list(batch) == ["batch_label", "labels", "data", "filenames"]
        n = meta["num_cases_per_batch"]
        assert (batch["data"].shape, batch["data"].dtype) == ((n, 3072), np.uint8)
        assert set(Counter(batch["labels"]).values()) == {n // 10}
        assert len(set(batch["filenames"])) == n
        pixels += [row.tobytes() for row in batch["data"]]
    assert len(set(pixels)) == len(pixels)


def test_torchvision_reads_the_batches_when_told_their_checksums(
    mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10, cifar

    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: Path(path).exists())
    for train, many in ((True, 250), (False, 50)):
        data = CIFAR10(str(mini / "mini_cifar"), train=train)
        assert len(data) == many
        assert data.classes == list(CLASSES)
        image, label = data[0]
        assert image.size == (32, 32)
        assert 0 <= label < 10


def test_pickled_text_is_bytes_or_text_as_the_reader_asks(tmp_path: Path) -> None:
    long = "x" * 300
    content = {"name": long, "data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [3, -1]}
    (tmp_path / "batch").write_bytes(pickled(content))
    script = "import pickle, sys; print(sorted(pickle.load(sys.stdin.buffer, encoding='bytes')))"
    keys = subprocess.run(
        [sys.executable, "-c", script], input=pickled(content), capture_output=True, check=True
    )
    assert keys.stdout.strip() == b"[b'data', b'labels', b'name']"
    read = load_plain_pickle(tmp_path / "batch")
    assert (read["name"], read["labels"]) == (long, [3, -1])
    np.testing.assert_array_equal(read["data"], content["data"])

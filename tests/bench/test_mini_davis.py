"""mini_davis: DAVIS-2017's layout; objects that move, keep their look, and hide each other."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bench.annotations import objects_of
from bench.data.mini.davis import FRAMES
from bench.data.mini.motion import Videos, videos
from bench.dataset import open_split

TIMES = max(FRAMES)
SIZE = (84, 48)


@pytest.fixture(scope="module")
def root(mini: Path) -> Path:
    return mini / "mini_davis"


@pytest.fixture(scope="module")
def three() -> Videos:
    """Videos of three objects each, as they are before anything is drawn."""
    return videos(np.full(12, 3), TIMES, SIZE, "val", np.random.default_rng(0))


def listed(root: Path, part: str) -> list[str]:
    return (root / "ImageSets" / "2017" / f"{part}.txt").read_text().split()


def masks(root: Path, name: str) -> np.ndarray:
    """Numbers (t, h, w) of a video's objects."""
    found = []
    for path in sorted((root / "Annotations" / "480p" / name).iterdir()):
        with Image.open(path) as mask:
            assert (mask.format, mask.mode) == ("PNG", "P")
            assert (mask.getpalette() or [])[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
            found.append(np.asarray(mask))
    return np.stack(found)


def drawn(found: Videos) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, t, h, w, 3) and numbers (n, t, h, w)."""
    pixels, labels = zip(*found.frames(), strict=True)
    return np.stack(pixels, 1), np.stack(labels, 1)


def alone(found: Videos, rank: int) -> Videos:
    """The same videos with one of the objects only."""
    return replace(found, movers=found.movers[rank : rank + 1], looks=found.looks[rank : rank + 1])


# ---- as it is written ----------------------------------------------------------------------


def test_files_are_laid_out_like_davis(root: Path) -> None:
    names = {part: listed(root, part) for part in ("train", "val")}
    assert not set(names["train"]) & set(names["val"])
    assert [len(own) for own in names.values()] == [3, 4]
    assert all(own == sorted(own) for own in names.values())
    lengths = set()
    for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
        folder = root / kind / "480p"
        assert {path.name for path in folder.iterdir()} == {*names["train"], *names["val"]}
        for video in folder.iterdir():
            frames = sorted(path.name for path in video.iterdir())
            assert frames == [f"{number:05d}.{ending}" for number in range(len(frames))]
            lengths.add(len(frames))
            for frame in video.iterdir():
                with Image.open(frame) as image:
                    image.load()
                    assert image.size == SIZE
    assert lengths == set(FRAMES)


def test_objects_keep_their_numbers_in_all_frames(root: Path) -> None:
    counts = []
    for part in ("train", "val"):
        for name in listed(root, part):
            numbers = [set(np.unique(mask)) - {0} for mask in masks(root, name)]
            assert numbers[0] == set(range(1, len(numbers[0]) + 1))
            assert all(own == numbers[0] for own in numbers)
            counts.append(len(numbers[0]))
    assert set(counts) == {1, 2, 3}


def test_objects_move_and_are_large_enough_for_patches(root: Path) -> None:
    for part in ("train", "val"):
        for name in listed(root, part):
            labels = masks(root, name)
            for number in range(1, labels.max() + 1):
                own = labels == number
                assert all((a != b).any() for a, b in pairwise(own))
                middle = [np.argwhere(mask).mean(0) for mask in own]
                assert np.linalg.norm(middle[-1] - middle[0]) > 4
                extent = np.ptp(np.argwhere(own[0]), axis=0) + 1
                assert extent.max() >= 2 * 4
                assert extent.min() >= 4


def test_the_reader_opens_frames_and_objects(mini: Path, root: Path) -> None:
    for part in ("train", "val"):
        split = open_split("mini_davis", part, mini)
        expected = [
            (f"{name}/{number:05d}", mask)
            for name in listed(root, part)
            for number, mask in enumerate(masks(root, name))
        ]
        assert list(split.ids) == [id_ for id_, _ in expected]
        for index, (_, mask) in enumerate(expected):
            np.testing.assert_array_equal(objects_of(split, index), mask)
    objects = open_split("mini_davis", "objects", mini)
    assert list(objects.ids) == [
        f"{name}/{number}"
        for name in listed(root, "val")
        for number in range(1, masks(root, name).max() + 1)
    ]


# ---- how it is drawn -----------------------------------------------------------------------


def test_things_travel_turn_and_change_size_from_frame_to_frame(three: Videos) -> None:
    for movers in three.movers:
        step = np.hypot(np.diff(movers.x, axis=1), np.diff(movers.y, axis=1))
        assert step.min() > 1
        assert step.max() < 6  # slowly enough to be followed
        turn = np.diff(movers.angle, axis=1)
        assert (np.abs(turn) > 0.01).all()
        assert (np.sign(turn) == np.sign(turn[:, :1])).all()
        growth = movers.scale[:, -1] / movers.scale[:, 0]
        assert growth.min() < 0.9
        assert growth.max() > 1.1


def test_things_start_apart_and_later_ones_pass_in_front(three: Videos) -> None:
    _, labels = drawn(three)
    hidden = []
    for rank, movers in enumerate(three.movers):
        whole = drawn(alone(three, rank))[1] == 1
        seen = labels == rank + 1
        assert not (seen & ~whole).any()
        area = whole.sum((2, 3))[movers.video]  # (m, t)
        share = seen.sum((2, 3))[movers.video] / area
        assert share[:, 0].min() > 0.9
        if rank == len(three.movers) - 1:
            np.testing.assert_array_equal(seen, whole)
        else:
            hidden.append(1 - share.min(1))
    assert (np.concatenate(hidden) > 0.2).sum() > 3
    assert np.concatenate(hidden).max() < 0.9  # never lost from sight


def test_a_thing_keeps_its_look(three: Videos) -> None:
    for rank, movers in enumerate(three.movers):
        pixels, labels = drawn(alone(three, rank))
        masks = np.stack([ndimage.binary_erosion(m) for m in (labels == 1).reshape(-1, 48, 84)])
        weight = masks.reshape(labels.shape)[movers.video]  # (m, t, h, w)
        total = (pixels[movers.video] * weight[..., None]).sum((2, 3))
        mean = total / weight.sum((2, 3))[..., None]  # (m, t, 3)
        within = np.abs(np.diff(mean, axis=1)).mean()
        between = np.abs(mean[1:] - mean[:-1]).mean()
        assert within < 0.15 * between


def test_the_photograph_turns_and_grows_with_the_thing(three: Videos) -> None:
    """Points on a thing keep their grey level only where they move with its turn and size."""
    moved, only_shifted = [], []
    for rank, movers in enumerate(three.movers):
        pixels, labels = drawn(alone(three, rank))
        for row, video in enumerate(movers.video):
            middle = np.array([movers.y[row], movers.x[row]])  # (2, t)
            inner = ndimage.binary_erosion(labels[video, 0] == 1, iterations=2)
            away = np.argwhere(inner).T + 0.5 - middle[:, :1]  # (2, points) from the middle
            angle = movers.angle[row, -1] - movers.angle[row, 0]
            growth = movers.scale[row, -1] / movers.scale[row, 0]
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            for errors, there in ((moved, growth * turn @ away), (only_shifted, away)):
                grey = pixels[video, -1].mean(-1)
                found = ndimage.map_coordinates(grey, there + middle[:, -1:] - 0.5, order=1)
                errors += list(np.abs(found - pixels[video, 0].mean(-1)[inner]))
    assert np.mean(moved) < 0.6 * np.mean(only_shifted)


def test_no_two_things_of_a_video_are_of_one_material(three: Videos) -> None:
    material = np.full((12, 3), -1)
    for rank, movers in enumerate(three.movers):
        material[movers.video, rank] = movers.thing.material
    assert all(len(set(row)) == 3 for row in material)
    assert len(set(material[:, 0])) == 12


def test_the_ground_drifts_with_what_lies_on_it(three: Videos) -> None:
    pixels, labels = drawn(three)
    way = three.corner[:, -1] - three.corner[:, 0]  # (n, 2) as x, y
    assert (np.abs(way) >= 6).all()
    free = ndimage.binary_dilation(labels > 0, np.ones((1, 1, 7, 7))) == 0
    for row, (dx, dy) in enumerate(way):
        rows, columns = np.mgrid[0:48, 0:84]
        there = (rows + dy >= 0) & (rows + dy < 48) & (columns + dx >= 0) & (columns + dx < 84)
        y, x = rows[there], columns[there]
        both = free[row, -1, y, x] & free[row, 0, y + dy, x + dx]
        assert both.sum() > 500
        first, last = pixels[row, 0, y + dy, x + dx][both], pixels[row, -1, y, x][both]
        np.testing.assert_array_equal(first, last)
        unmoved = pixels[row, 0][free[row, 0] & free[row, -1]]
        assert (unmoved != pixels[row, -1][free[row, 0] & free[row, -1]]).mean() > 0.3


def test_masks_lie_where_the_things_are(three: Videos) -> None:
    pixels, labels = drawn(three)
    steps = {}
    for shift in (-3, 0, 3):
        moved = np.roll(labels, shift, axis=3)
        apart = moved[..., 1:] != moved[..., :-1]
        steps[shift] = np.abs(np.diff(pixels.astype(int), axis=3))[apart].mean()
    assert steps[0] > 1.5 * max(steps[-3], steps[3])


@pytest.mark.parametrize("counts", [[1], [3], [1, 3, 2, 3, 1]])
def test_each_video_has_as_many_objects_as_asked_for(counts: list[int]) -> None:
    found = videos(np.array(counts), 5, SIZE, "train", np.random.default_rng(1))
    pixels, labels = drawn(found)
    assert pixels.shape == (len(counts), 5, 48, 84, 3)
    assert [len(np.unique(own)) - 1 for own in labels] == counts

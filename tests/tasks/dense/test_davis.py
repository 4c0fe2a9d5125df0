"""DAVIS: perfect patches reach the ceiling of their grid, and nothing but the protocol counts."""

import io
import multiprocessing
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench import dist
from bench.backbone import Backbone
from bench.checkpoint import LoadedModel
from bench.errors import DataError, SpecError
from bench.label_maps import index_png
from bench.network import seeded_network
from bench.records import KeyReport, Outcome
from bench.task import warnings_of
from bench.transforms import InputSpec
from tasks.dense.davis import Davis
from tasks.video_following import Follower
from tasks.video_metric import frame_scores, statistics
from tasks.video_scoring import Scoring
from tasks.videos import videos_of
from tests.tasks.photos import write_photos
from tests.tasks.video_fakes import (
    SHAPE,
    ceiling,
    data_of,
    moving,
    oracle,
    rectangles,
    write_videos,
)

TASK = Davis(size_px=64)  # frames of 64 x 128 stay as they are


def two_videos() -> dict[str, list[np.ndarray]]:
    """One of two objects, one of one."""
    return {"zebra": moving(7), "ant": [rectangles((20, 10 + 5 * t), side=24) for t in range(5)]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_videos(tmp_path / "data", two_videos())


def small_model(mean: float = 0.485) -> LoadedModel:
    network = seeded_network("vit_mini_patch8_32", 0, depth=2, embed_dim=48, num_heads=3)
    spec = InputSpec(size_px=32) if mean == 0.485 else InputSpec(32, (mean,) * 3, (0.5,) * 3)
    return LoadedModel.of(
        Backbone(network, spec), KeyReport(0, 0), name="s", source="s", family="native", arch="s"
    )


def pictures(outcome: Outcome) -> dict[str, np.ndarray]:
    """The stored masks by their ids."""
    ends, content = outcome.extras["mask_offsets"], outcome.extras["mask_png"].tobytes()
    found = {}
    for place, id_ in enumerate(outcome.extras["mask_id"]):
        with Image.open(io.BytesIO(content[ends[place] : ends[place + 1]])) as picture:
            assert picture.mode == "P"
            found[str(id_)] = np.array(picture)
    return found


def equal(one: Outcome, other: Outcome) -> None:
    for kind in ("columns", "extras"):
        assert getattr(one, kind).keys() == getattr(other, kind).keys()
        for name, array in getattr(one, kind).items():
            np.testing.assert_array_equal(array, getattr(other, kind)[name], err_msg=name)


# oracles


def test_patches_that_tell_the_object_reach_the_ceiling_of_their_grid(root: Path) -> None:
    outcome = TASK.run(oracle(), data_of(root))
    assert outcome.columns["id"].tolist() == ["zebra/1", "zebra/2", "ant/1"]
    masks, row = pictures(outcome), 0
    for name, maps in two_videos().items():
        numbers = range(1, int(maps[0].max()) + 1)
        best = [ceiling(labels) for labels in maps]
        assert np.array_equal(masks[f"{name}/00000"], maps[0]), "the first mask is given"
        for t in range(1, len(maps)):
            assert np.array_equal(masks[f"{name}/{t:05d}"], best[t])
        scores = [frame_scores(best[t], maps[t], numbers) for t in range(1, len(maps) - 1)]
        for place in range(len(numbers)):
            for kind, values in zip("jf", np.array(scores)[..., place].T, strict=True):
                expected = statistics(values)
                columns = (kind, f"{kind}_recall", f"{kind}_decay")
                assert [outcome.columns[c][row] for c in columns] == pytest.approx(list(expected))
            row += 1
    assert outcome.columns["j"].min() > 0.6, "the ceiling itself is high"
    assert not warnings_of(outcome)


def test_a_static_video_of_masks_on_the_grid_scores_1(tmp_path: Path) -> None:
    halves = np.zeros(SHAPE, dtype=np.uint8)
    halves[24:48], halves[48:] = 1, 2
    outcome = TASK.run(oracle(), data_of(write_videos(tmp_path, {"halves": [halves] * 12})))
    metrics = TASK.score(outcome)
    for name in ("jf_mean", "j_mean", "f_mean", "j_recall", "f_recall"):
        assert metrics[name].value == 1
    assert metrics["j_decay"].value == 0


def test_a_static_video_keeps_the_ceiling_whatever_the_network_sees(tmp_path: Path) -> None:
    labels = moving(1)[0]
    root = write_videos(tmp_path, {"still": [labels] * 10})
    folder = root / "mini_davis/JPEGImages/480p/still"
    noise = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    for file in folder.iterdir():
        Image.fromarray(noise).save(file)
    outcome = Davis(size_px=64, topk=1).run(small_model(), data_of(root))
    for mask in list(pictures(outcome).values())[1:]:
        assert np.array_equal(mask, ceiling(labels))


def test_a_network_that_knows_nothing_stays_below_the_ceiling(root: Path) -> None:
    best = TASK.score(TASK.run(oracle(), data_of(root)))["jf_mean"]
    blind = oracle()
    blind.backbone.features = lambda images, recipes: {
        "patch": torch.ones(len(images), SHAPE[0] // 8, SHAPE[1] // 8, 4)
    }
    chance = TASK.score(TASK.run(blind, data_of(root)))["jf_mean"]
    assert chance.value < 0.5 * best.value


# invariance


def test_results_do_not_depend_on_batches_or_processes(root: Path) -> None:
    one = TASK.run(oracle(), data_of(root, batch_size=128))
    equal(one, TASK.run(oracle(), data_of(root, batch_size=1)))
    equal(one, TASK.run(oracle(), data_of(root, batch_size=3, workers=2)))


def test_scores_do_not_depend_on_how_processes_start(root: Path) -> None:
    """Spawned ones get what they work on as a pickle."""
    data = data_of(root)
    videos = videos_of(data)
    masks = [[index_png(ceiling(m)) for m in maps] for maps in two_videos().values()]
    scoring = Scoring(data.open("val"), videos, masks)
    copy = pickle.loads(pickle.dumps(scoring))
    for one, other in zip(scoring.run(0), copy.run(0), strict=True):
        assert np.array_equal(one, other)


def test_forwards_hold_a_bounded_number_of_tokens(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.video_following.TOKENS", 2 * 8 * 16)
    model = oracle()
    outcome = TASK.run(model, data_of(root))
    assert max(model.backbone.batches) == 2
    monkeypatch.undo()
    equal(outcome, TASK.run(oracle(), data_of(root)))


def test_a_killed_cell_continues_behind_its_last_video(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tmp_path / "space"
    space.mkdir()
    follow, seen = Follower.follow, []

    def killed(self: Follower, video: Any, progress: Any) -> Any:
        seen.append(video.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return follow(self, video, progress)

    monkeypatch.setattr(Follower, "follow", killed)
    with pytest.raises(KeyboardInterrupt):
        TASK.run(oracle(), data_of(root, workspace=space))
    outcome = TASK.run(oracle(), data_of(root, workspace=space))
    assert seen == ["zebra", "ant", "ant"]
    monkeypatch.undo()
    equal(outcome, TASK.run(oracle(), data_of(root)))


def test_processes_of_a_group_share_the_videos(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, shares = TASK.run(oracle(), data_of(root)), {}
    for rank in (1, 0):

        def gathered(value: Any, rank: int = rank) -> list[Any]:
            shares[rank] = value
            return [shares[r] for r in sorted(shares)]

        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(dist, "shard", lambda n, rank=rank: range(rank, rank + 1))
        monkeypatch.setattr(dist, "all_gather_object", gathered)
        if rank == 1:
            with pytest.raises(KeyError):  # the other one's share is not there yet
                TASK.run(oracle(), data_of(root))
    equal(whole, TASK.run(oracle(), data_of(root)))
    assert [len(share) for share in shares.values()] == [1, 1]


def test_the_figure_is_given_the_masks_of_the_videos_that_it_names(root: Path) -> None:
    stored = pictures(TASK.run(oracle(), data_of(root)))
    ((name, frames, masks),) = TASK.predictions(oracle(), data_of(root), names=["ant"])
    assert name == "ant"
    assert len(masks) == len(frames) == 5
    for frame, mask in zip(frames, masks, strict=True):
        assert np.array_equal(mask, stored[f"ant/{frame}"])
    assert [name for name, _, _ in TASK.predictions(oracle(), data_of(root))] == ["zebra", "ant"]


# scores


def test_metrics_are_means_over_objects_and_can_be_redone_from_frames(root: Path) -> None:
    outcome = TASK.run(oracle(), data_of(root))
    metrics, columns, extras = TASK.score(outcome), outcome.columns, outcome.extras
    assert len(extras["frame"]) == 5 + 5 + 3
    for row in range(3):
        mine = extras["frame_object"] == row
        for kind in "jf":
            expected = statistics(extras[f"frame_{kind}"][mine])
            assert columns[kind][row] == expected.mean
            assert columns[f"{kind}_recall"][row] == expected.recall
            assert columns[f"{kind}_decay"][row] == expected.decay
    assert extras["frame"].tolist()[:6] == ["00001", "00002", "00003", "00004", "00005", "00001"]
    assert metrics["jf_mean"].value == pytest.approx(
        (columns["j"].mean() + columns["f"].mean()) / 2
    )
    assert metrics["jf_mean"].value == pytest.approx(columns["value"].mean())
    assert metrics["j_recall"].value == pytest.approx(columns["j_recall"].mean())
    assert metrics["f_decay"].value == pytest.approx(columns["f_decay"].mean())
    assert metrics["jf_mean"].n == 3
    assert set(metrics) == {
        *("jf_mean", "j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay")
    }


def test_void_counts_as_background(tmp_path: Path) -> None:
    plain = two_videos()
    void = {name: [m.copy() for m in maps] for name, maps in plain.items()}
    for maps in void.values():
        for labels in maps:
            labels[:3] = 255
    one = TASK.run(oracle(), data_of(write_videos(tmp_path / "plain", plain)))
    two = TASK.run(oracle(), data_of(write_videos(tmp_path / "void", void)))
    for name in ("j", "f"):
        assert np.array_equal(one.columns[name], two.columns[name])


def test_an_object_without_a_patch_is_told_and_never_predicted(tmp_path: Path) -> None:
    maps = [rectangles((8, 8 + t), side=24) for t in range(5)]
    for labels in maps:
        labels[49:52, 100:104] = 2
    outcome = TASK.run(oracle(), data_of(write_videos(tmp_path, {"tiny": maps})))
    assert outcome.columns["value"][1] == 0
    assert outcome.columns["value"][0] > 0.8
    (warning,) = warnings_of(outcome)
    assert "tiny/2 has no patch of its own in the first frame (8 x 16 patches)" in warning


# the protocol


def test_red_is_divided_by_the_official_slip_where_the_statistics_are_imagenets(root: Path) -> None:
    pixels = torch.full((1, 3, 2, 2), 200, dtype=torch.uint8)
    for model, task, red in (
        (small_model(), TASK, (200 / 255 - 0.485) / 0.228),
        (small_model(), Davis(normalise="model"), (200 / 255 - 0.485) / 0.229),
        (small_model(0.5), TASK, (200 / 255 - 0.5) / 0.5),
    ):
        change = Follower.of(model, data_of(root), task.rules())._normalise()
        found = (change or model.backbone.input.normalise)(pixels)
        assert found[0, 0, 0, 0].item() == pytest.approx(red, rel=1e-6)
    green = (200 / 255 - 0.456) / 0.224
    change = Follower.of(small_model(), data_of(root), TASK.rules())._normalise()
    assert change is not None
    assert change(pixels)[0, 1, 0, 0].item() == pytest.approx(green, rel=1e-6)


def test_options_override_the_protocol() -> None:
    plain = Davis().rules()
    assert (plain.size_px, plain.multiple) == (480, 64)
    assert (plain.positions, plain.normalise) == ("dino", "davis")
    rule = plain.propagation
    assert (rule.context, rule.radius, rule.topk, rule.temperature) == (7, 12, 5, 0.1)
    changed = Davis(size_px=32, topk=3, radius=0, positions="size").rules()
    assert (changed.size_px, changed.multiple, changed.positions) == (32, 64, "size")
    assert (changed.propagation.topk, changed.propagation.radius) == (3, 0)
    assert changed.propagation.context == 7


@pytest.mark.parametrize(
    "wrong",
    [{"size_px": 0}, {"multiple": 0}, {"context": -1}, {"radius": -1}, {"topk": 0}]
    + [{"temperature": 0.0}, {"temperature": float("nan")}],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"davis: .*{next(iter(wrong))}="):
        Davis(**wrong)


def test_positions_are_interpolated_as_the_protocol_says(root: Path) -> None:
    model = small_model()
    assert model.backbone.pos_interp == "size"
    for task, expected in ((TASK, "dino"), (Davis(positions="model"), "size")):
        follower = Follower.of(model, data_of(root), task.rules())
        assert follower.model.backbone.pos_interp == expected


# other data sets and bad input


def test_videos_may_have_sizes_of_their_own(tmp_path: Path) -> None:
    tall = [labels.T.copy() for labels in moving(4)]
    large = [np.kron(labels, np.ones((2, 2), np.uint8)) for labels in moving(4)]
    root = write_videos(tmp_path, {"wide": moving(4), "tall": tall, "large": large})
    outcome = TASK.run(oracle(), data_of(root))
    masks = pictures(outcome)
    for name, shape in (("wide", SHAPE), ("tall", SHAPE[::-1]), ("large", (128, 256))):
        assert masks[f"{name}/00002"].shape == shape
    assert outcome.columns["value"].min() > 0.6


def test_davis_2016_takes_all_objects_as_one(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "mini_davis", tmp_path / "DAVIS-2016")
    folder = tmp_path / "DAVIS-2016"
    (folder / "ImageSets/2017").rename(folder / "ImageSets/2016")
    outcome = TASK.run(oracle(), data_of(tmp_path, "davis2016"))
    assert outcome.columns["id"].tolist() == ["zebra/1", "ant/1"]
    assert set(np.unique(pictures(outcome)["zebra/00003"])) == {0, 1}


def test_frames_of_another_size_are_named(root: Path) -> None:
    frames = sorted((root / "mini_davis/JPEGImages/480p/zebra").iterdir())
    Image.new("RGB", (96, 64)).save(frames[-1])  # whose mask is not compared
    last = rf"frame zebra/{frames[-1].stem} has 96 x 64 pixels, the first of its .* 128 x 64"
    for skip_bad in (0, 5):
        with pytest.raises(DataError, match=last):
            TASK.run(oracle(), data_of(root, skip_bad=skip_bad))
    Image.new("RGB", (96, 64)).save(frames[3])
    with pytest.raises(DataError, match=r"zebra/00003.png has 128 x 64 pixels, its image 00003"):
        TASK.run(oracle(), data_of(root))


def test_a_broken_annotation_stops_before_any_frame_is_seen(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "mini_davis/Annotations/480p/ant/00003.png").write_bytes(b"no mask")
    monkeypatch.setattr(Follower, "follow", lambda *_: pytest.fail("it follows a video"))
    with pytest.raises(DataError, match=r"cannot read mask .*ant/00003.png"):
        TASK.run(oracle(), data_of(root))


def test_annotations_of_another_size_are_named(root: Path) -> None:
    data = data_of(root)
    videos = videos_of(data)[1:]
    masks = [[index_png(np.zeros((32, 64), np.uint8))] * 5]
    with pytest.raises(DataError, match=r"frame ant/00001 has 128 x 64 .*sequence 64 x 32"):
        list(Scoring(data.open("val"), videos, masks).run(0))
    file = root / "mini_davis/Annotations/480p/ant/00002.png"
    file.write_bytes(index_png(np.zeros((32, 64), np.uint8)))
    with pytest.raises(DataError, match=r"ant/00002.png has 64 x 32 pixels, its image"):
        TASK.run(oracle(), data_of(root))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mask_in_colours_is_named(root: Path, workers: int) -> None:
    file = root / "mini_davis/Annotations/480p/ant/00002.png"
    with Image.open(file) as picture:
        colours = picture.convert("RGB")
    colours.save(file)
    before = set(multiprocessing.active_children())
    with pytest.raises(DataError, match=r"ant/00002.png holds colours") as caught:
        TASK.run(oracle(), data_of(root, workers=workers))
    assert "\n" not in str(caught.value)
    # Left to the garbage collector, workers cost 10 seconds.
    assert set(multiprocessing.active_children()) <= before


def test_missing_files_are_told_before_anything_is_computed(root: Path) -> None:
    (root / "mini_davis/Annotations/480p/ant/00000.png").unlink()
    model = oracle()
    with pytest.raises(DataError, match="ant"):
        TASK.run(model, data_of(root))
    assert not model.backbone.batches


def test_frames_smaller_than_a_patch_are_named(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"frame zebra/00000 .*smaller than a patch \(8 px\).*size_px=7"
    ):
        Davis(size_px=7, multiple=1).run(oracle(), data_of(root))
    with pytest.raises(DataError, match="multiple=999"):
        Davis(size_px=64, multiple=999).run(oracle(), data_of(root))


def test_short_videos_are_told_and_not_scored(tmp_path: Path) -> None:
    root = write_videos(tmp_path / "some", two_videos() | {"two": moving(2), "one": moving(1)})
    outcome = TASK.run(oracle(), data_of(root))
    assert np.isnan(outcome.columns["value"]).tolist() == [False] * 3 + [True] * 4
    assert [text.split(" of the")[0] for text in warnings_of(outcome)] == ["two has 2", "one has 1"]
    assert TASK.score(outcome)["jf_mean"].n == 3
    assert "two/00001" in pictures(outcome)
    root = write_videos(tmp_path / "none", {"two": moving(2)})
    with pytest.raises(DataError, match="no video has 3 frames"):
        TASK.run(oracle(), data_of(root))


def test_a_video_with_an_unreadable_frame_is_left_out_where_that_is_allowed(root: Path) -> None:
    (root / "mini_davis/JPEGImages/480p/zebra/00000.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"00000.png"):
        TASK.run(oracle(), data_of(root))
    outcome = TASK.run(oracle(), data_of(root, skip_bad=1))
    assert np.isnan(outcome.columns["value"]).tolist() == [True, True, False]
    assert warnings_of(outcome) == ["zebra is left out: 1 of its 7 frames are unreadable"]
    assert {id_.partition("/")[0] for id_ in pictures(outcome)} == {"ant"}
    (root / "mini_davis/JPEGImages/480p/ant/00003.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="2 unreadable images so far, 1 allowed"):
        TASK.run(oracle(), data_of(root, skip_bad=1))
    with pytest.raises(DataError, match="no object is left to score: zebra is left out"):
        TASK.run(oracle(), data_of(root, skip_bad=2))


def test_a_part_of_the_frames_is_refused(root: Path) -> None:
    with pytest.raises(SpecError, match=r"leave out val_n; \[sequences="):
        TASK.run(oracle(), data_of(root, "mini_davis[val_n=3]"))
    outcome = TASK.run(oracle(), data_of(root, "mini_davis[sequences=ant]"))
    assert outcome.columns["id"].tolist() == ["ant/1"]


def test_data_without_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no split 'objects'.*davis2017, mini_davis"):
        TASK.run(oracle(), data_of(write_photos(tmp_path), "mini_objects"))


@pytest.mark.parametrize(
    ("frames", "objects", "message"),
    [
        (["a/0", "b"], ["a/1"], "'b' names no video"),
        (["a/0"], ["a/1", "c/1"], "objects of c, of which val has no frames"),
        (["a/0"], ["a/x"], "object 'x' is no number from 1 to 254"),
        (["a/0"], ["a/255"], "object '255' is no number"),
    ],
)
def test_ids_that_name_no_video_or_object_are_refused(
    frames: list[str], objects: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.videos.annotations_of", lambda split, kind: None)
    ids = {"val": frames, "objects": objects}
    data: Any = SimpleNamespace(
        open=lambda name: SimpleNamespace(name="x", split=name, ids=ids[name], origin=None)
    )
    with pytest.raises(DataError, match=message):
        videos_of(data)

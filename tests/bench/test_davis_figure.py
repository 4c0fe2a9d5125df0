"""The figure of videos: the task's masks and numbers, its strips and animation, what it refuses."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.annotations import objects_of
from bench.checkpoint import load_model
from bench.dataset import open_split
from bench.engine import Settings, evaluate
from bench.errors import DataError, SpecError
from bench.figure import Photos, draw
from bench.figures import _davis_gif
from bench.figures import davis as module
from bench.figures._clips import Clip
from bench.figures._davis_gif import animation, painted_frame
from bench.figures._davis_page import COLOURS, SHARE, davis_page, mask_layers
from bench.figures._overlay import at_size, painted
from bench.figures.davis import Davis, Found
from bench.label_maps import voc_palette
from bench.page import png, style
from bench.photos import sort_out
from bench.store import Store
from tests.bench.pages import clashes, texts, tile_pixels
from tests.tasks.video_fakes import moving, oracle, rectangles, write_videos

RANDOM = "random:vit_mini_patch4_32?seed=0"


@pytest.fixture(scope="module")
def found(mini: Path) -> Found:
    """Two mini videos followed by an untrained network."""
    return Davis().look(load_model(RANDOM), photos_of(mini), "cpu")


def photos_of(root: Path, text: str = "mini_davis", most: int = 3) -> Photos:
    return Photos(sort_out([text], most, 0, root)[1])


def frames_of(gif: bytes) -> list[np.ndarray]:
    picture = Image.open(io.BytesIO(gif))
    seen = []
    for frame in range(picture.n_frames):  # type: ignore[attr-defined]
        picture.seek(frame)
        seen.append(np.asarray(picture.convert("RGB")))
    return seen


def test_masks_and_numbers_are_those_of_the_task(found: Found, mini: Path, tmp_path: Path) -> None:
    spec = "davis@mini_davis?size_px=48&multiple=4"
    store, settings = (
        Store(tmp_path / "store"),
        Settings(data=mini, cache=tmp_path / "c", workers=0),
    )
    report = evaluate([RANDOM], [spec], store, settings)
    outcome = store.outcome(report.ran[0])
    columns, extras = outcome.columns, outcome.extras
    rows = {id_: row for row, id_ in enumerate(columns["id"].tolist())}
    values = []
    for video in json.loads(Davis().numbers(found))["sequences"]:
        for scores in video["objects"]:
            row = rows[f"{video['sequence']}/{scores['object']}"]
            for kind in "jf":
                assert scores[kind] == pytest.approx(columns[kind][row], abs=1e-12)
                own = extras[f"frame_{kind}"][extras["frame_object"] == row]
                frames = scores[f"frame_{kind}"]
                assert (frames[0], frames[-1]) == (None, None), "they do not count"
                np.testing.assert_allclose(frames[1:-1], own, atol=1e-12)
            values.append(columns["value"][row])
    assert len(values) >= 2
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    masks = extras["mask_png"].tobytes()
    ends = dict(zip(extras["mask_id"].tolist(), extras["mask_offsets"][1:].tolist(), strict=True))
    starts = dict(zip(extras["mask_id"].tolist(), extras["mask_offsets"].tolist(), strict=False))
    for clip in found.clips:
        for frame, mask in zip(clip.frames, clip.masks, strict=True):
            key = f"{clip.name}/{frame}"
            stored = Image.open(io.BytesIO(masks[starts[key] : ends[key]]))
            np.testing.assert_array_equal(np.asarray(stored), mask)


def test_overlaps_are_counted_by_hand(found: Found, mini: Path) -> None:
    val = open_split("mini_davis", "val", mini)
    for clip in found.clips:
        for frame in range(1, len(clip.frames) - 1):
            truth = objects_of(val, val.ids.index(f"{clip.name}/{clip.frames[frame]}"))
            for place, number in enumerate(clip.numbers):
                a, b = clip.masks[frame] == number, truth == number
                expected = (a & b).sum() / (a | b).sum() if (a | b).any() else 1.0
                assert clip.scores[0, place, frame] == pytest.approx(expected, abs=1e-12)


def test_videos_are_whole_whichever_frames_were_drawn(found: Found, mini: Path) -> None:
    val = open_split("mini_davis", "val", mini)
    names = list(dict.fromkeys(id_.partition("/")[0] for id_ in val.ids))
    assert [clip.name for clip in found.clips] == names[:2]
    assert found.videos == len(names)
    for clip in found.clips:
        assert [f"{clip.name}/{frame}" for frame in clip.frames] == [
            id_ for id_ in val.ids if id_.startswith(f"{clip.name}/")
        ]
    one = photos_of(mini, "mini_davis[val_n=5]", 1)
    again = Davis(sequences=names[1]).look(load_model(RANDOM), one, "cpu")
    (clip,) = again.clips
    assert clip.frames == found.clips[1].frames
    for mine, theirs in zip(clip.masks, found.clips[1].masks, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_videos_are_chosen_by_number_or_by_name() -> None:
    names = ["bear", "cow", "dog"]
    assert Davis(sequences="1").chosen(names) == ["bear"]
    assert Davis(sequences="9").chosen(names) == names
    assert Davis(sequences="dog:bear").chosen(names) == ["dog", "bear"]
    with pytest.raises(SpecError, match=r"no sequence 'dig'; did you mean 'dog'"):
        Davis(sequences="dig").chosen(names)


def test_small_frames_are_not_enlarged_and_large_ones_are_the_tasks(
    mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, model = open_split("mini_davis", "val", mini), load_model(RANDOM)
    rules = Davis().task(model, frames).rules()
    assert (rules.size_px, rules.multiple) == (48, 4)
    assert Davis(size_px=24).task(model, frames).rules().size_px == 24
    monkeypatch.setattr(module, "objects_of", lambda *_: np.zeros((480, 854), np.uint8))
    rules = Davis().task(model, frames).rules()
    assert (rules.size_px, rules.multiple) == (480, 64)
    rules = Davis(size_px=240).task(model, frames).rules()
    assert (rules.size_px, rules.multiple) == (240, 64)


def test_strips_show_predicted_masks_over_true_ones_in_the_colours_of_davis(found: Found) -> None:
    with style():
        page = davis_page(found, 4)
        picture = png(page)
    tiles = iter(page.axes)
    for clip in found.clips:
        for frame in np.linspace(0, len(clip.frames) - 1, 4).round().astype(int).tolist():
            photo = at_size(clip.image(frame))
            for labels in (clip.masks[frame], clip.truth(frame)):
                seen = tile_pixels(next(tiles), picture).astype(float)
                wanted = 255 * painted(photo, mask_layers(labels), SHARE)
                height, width = len(seen) // 8 * 8, seen.shape[1] // 8 * 8
                rows, cols = (np.arange(8) * n // 8 for n in (height, width))
                for top in rows:
                    for left in cols:
                        part = seen[top : top + height // 8, left : left + width // 8]
                        y, x = len(photo) / len(seen), photo.shape[1] / seen.shape[1]
                        own = wanted[
                            round(top * y) : round((top + height // 8) * y),
                            round(left * x) : round((left + width // 8) * x),
                        ]
                        assert np.abs(part.mean((0, 1)) - own.mean((0, 1))).max() < 12
    assert next(tiles, None) is None
    palette = np.array(voc_palette()).reshape(256, 3)
    np.testing.assert_array_equal((255 * COLOURS).round().astype(int), palette)


def test_the_animation_shows_every_frame_at_ten_a_second(found: Found) -> None:
    gif = animation(found)
    assert gif == animation(found)
    picture = Image.open(io.BytesIO(gif))
    assert picture.info["loop"] == 0
    assert picture.info["duration"] == 100
    assert max(picture.size) <= 480
    seen = frames_of(gif)
    assert len(seen) == sum(len(clip.frames) for clip in found.clips)
    wanted = [painted_frame(c, f) for c in found.clips for f in range(len(c.frames))]
    for mine, own in zip(seen, wanted, strict=True):
        difference = np.abs(mine.astype(int) - own.astype(int))
        assert difference.mean() < 6
        white = (own == 255).all(-1)
        assert white.any(), "the true borders"
        assert mine[white].min() > 250
        edge = (own == [128, 0, 0]).all(-1)  # where a predicted border is not a true one
        assert np.abs(mine[edge].astype(int) - [128, 0, 0]).max(initial=0) < 5


def test_the_animation_has_the_true_borders_in_white(found: Found) -> None:
    clip, last = found.clips[0], len(found.clips[0].frames) - 1
    picture, truth = painted_frame(clip, last), clip.truth(last)
    assert (clip.masks[last] != truth).any()
    large = np.array(Image.fromarray(truth).resize(picture.shape[1::-1], Image.Resampling.NEAREST))
    for number in clip.numbers:
        beside = np.pad(large == number, 1, mode="edge")
        whole = beside[:-2, 1:-1] & beside[2:, 1:-1] & beside[1:-1, :-2] & beside[1:-1, 2:]
        edge = (large == number) & ~whole
        assert (picture[edge] == 255).all(-1).mean() > 0.9  # but where two ways of rounding differ


def test_long_videos_are_thinned_and_sizes_share_a_canvas(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_davis_gif, "MOST", 4)
    tall = replace(clip_of((90, 60)), name="tall")
    seen = frames_of(animation(replace(found, clips=(found.clips[0], tall))))
    assert len(seen) == 8
    assert {frame.shape for frame in seen} == {(400, 400, 3)}
    assert seen[-1][:, :50].max() < 20, "black beside"


class Stills:
    """A split whose frames are noise and whose masks are a rectangle each."""

    def __init__(self, size: tuple[int, int], objects: int) -> None:
        self.size, self.objects = size, objects

    def image(self, row: int) -> Image.Image:
        pixels = np.random.default_rng(row).integers(90, 130, (*self.size, 3), np.uint8)
        return Image.fromarray(pixels)

    def labels(self) -> np.ndarray:
        found = np.zeros(self.size, np.uint8)
        for number in range(1, self.objects + 1):
            found[number * 2 : number * 2 + 6, number : number + 9] = number
        return found


class Still(Clip):
    """A clip of them."""

    def truth(self, frame: int) -> np.ndarray:
        return self.masks[frame]


def clip_of(size: tuple[int, int], frames: int = 5, objects: int = 2) -> Still:
    split = Stills(size, objects)
    scores = np.random.default_rng(0).random((2, objects, frames))
    scores[:, :, [0, -1]] = np.nan
    return Still(
        "a-video-of-a-long-name",
        tuple(f"{frame:05d}" for frame in range(frames)),
        split,  # type: ignore[arg-type]
        tuple(range(frames)),
        [split.labels()] * frames,
        tuple(range(1, objects + 1)),
        scores,
    )


@pytest.mark.parametrize("most", [1, 5, 14])
def test_nothing_overlaps_whatever_the_videos(most: int, found: Found) -> None:
    clips = (
        clip_of((60, 107), 20, 11),
        clip_of((150, 50), 9),
        clip_of((30, 200), 3, 1),
        clip_of((48, 48), 1),
    )
    sizes = {"davis2017[sequences=" + "a-long-name:" * 9 + "b]": 480, "mini_davis": 48}
    many = replace(found, clips=clips, sizes=sizes)
    with style():
        page = davis_page(many, most)
        assert clashes(page) == []
    shown = sum(min(most, len(clip.frames)) for clip in clips)
    assert len(page.axes) == 2 * shown
    written = " ".join(texts(page))
    assert written.count("given") == 1 + 4, "the caption says it too"
    assert written.count("not scored") == 2


def test_a_model_that_knows_the_objects_keeps_them(tmp_path: Path) -> None:
    write_videos(tmp_path, {"one": moving(), "two": moving(4, 2)})
    found = Davis(sequences="two:one").look(oracle(), photos_of(tmp_path), "cpu")
    assert [clip.name for clip in found.clips] == ["two", "one"]
    assert found.mean is not None
    assert found.mean > 0.7


def test_videos_of_two_frames_are_drawn_without_scores(tmp_path: Path) -> None:
    write_videos(tmp_path, {"short": moving(2), "still": [rectangles((8, 8))]})
    found = Davis().look(oracle(), photos_of(tmp_path), "cpu")
    numbers = json.loads(Davis().numbers(found))
    assert numbers["jf_mean"] is None
    assert {scores["j"] for video in numbers["sequences"] for scores in video["objects"]} == {None}
    with style():
        assert any("not scored" in text for text in texts(davis_page(found, 5)))
    assert frames_of(animation(found))


def test_an_unreadable_frame_leaves_its_video_out_only_when_asked(tmp_path: Path) -> None:
    write_videos(tmp_path, {"bad": moving(4), "good": moving(4, 2)})
    (tmp_path / "mini_davis/JPEGImages/480p/bad/00002.png").write_bytes(b"no image")
    photos = photos_of(tmp_path)
    with pytest.raises(DataError, match=r"00002.*--skip-bad"):
        Davis().look(oracle(), photos, "cpu")
    found = Davis().look(oracle(), replace(photos, skip_bad=1), "cpu")
    assert [clip.name for clip in found.clips] == ["good"]
    with pytest.raises(DataError, match="sequences=bad: none of them is readable"):
        Davis(sequences="bad").look(oracle(), replace(photos, skip_bad=1), "cpu")


REQUESTS = {
    "a file": (["{file}"], "", "davis draws data sets of videos, and photo.png is of none"),
    "photographs": (["mini_voc"], "", "is of none: name davis2017"),
    "train": (["mini_davis[split=train]"], "", "leave out split=train"),
    "unknown": (["mini_davis"], "?sequences=swan", "there is no sequence 'swan'"),
    "none": (["mini_davis"], "?sequences=0", "sequences=0: expected a number from 1"),
    "border": (["mini_davis"], "?size_px=50", "size_px=50 for patches of 4 px"),
    "two models": ([RANDOM, "mini_davis"], "", "davis draws one model"),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_cannot_be_drawn_is_told_in_a_line(request_: str, mini: Path, tmp_path: Path) -> None:
    things, options, words = REQUESTS[request_]
    Image.new("RGB", (50, 40)).save(tmp_path / "photo.png")
    things = [thing.format(file=tmp_path / "photo.png") for thing in things]
    with pytest.raises(SpecError) as caught:
        draw(f"davis{options}", [RANDOM, *things], tmp_path / "new" / "out", data=mini)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()

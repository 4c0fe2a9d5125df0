"""From videos to an outcome: masks kept as they are found, then scored, one row an object."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench import dist
from bench.errors import DataError
from bench.label_maps import index_png
from bench.progress import Progress, track
from bench.records import Array, Outcome
from tasks.each_image import Kept
from tasks.video_following import Follower
from tasks.video_metric import statistics
from tasks.video_scoring import Scores, Scoring
from tasks.videos import Video, check_annotations

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.task import TaskData
    from tasks.video_protocols import VideoProtocol

Piece = Mapping[str, Array]  # png (bytes,), offsets (frames + 1,), warnings (n,) of one video
NAMES = ("j", "f", "j_recall", "f_recall", "j_decay", "f_decay")


def found_masks(
    model: LoadedModel, data: TaskData, videos: Sequence[Video], protocol: VideoProtocol
) -> dict[int, tuple[Piece, Scores]]:
    """Masks and scores of each video that has masks, by its place; masks alone are kept on disk.

    Under a process group each process takes its share and all get everything.
    """
    folder = data.workspace / f"rank{dist.rank()}" if data.workspace is not None else None
    if folder is not None:
        folder.mkdir(exist_ok=True)
    kept, share = Kept(folder), dist.shard(len(videos))
    todo = [place for place in share if _name(place) not in kept.pieces]
    counts = [sum(len(videos[place].rows) for place in places) for places in (share, todo)]
    check_annotations(data.open("val"), [videos[place] for place in todo])
    follower = Follower.of(model, data, protocol)
    label = f"davis {data.open('val').name}"
    with Progress(label, counts[0], counts[0] - counts[1]) as progress:
        for place in todo:
            followed = follower.follow(videos[place], progress)
            pngs = [np.frombuffer(index_png(mask), np.uint8) for mask in followed.masks]
            piece = {
                "png": np.concatenate([*pngs, np.empty(0, np.uint8)]),
                "offsets": np.cumsum([0, *map(len, pngs)]),
                "warnings": np.array(followed.warnings, dtype=np.str_),
            }
            kept.keep(_name(place), piece)
    pieces = [kept.pieces[_name(place)] for place in share]
    scoring = Scoring(
        data.open("val"), [videos[place] for place in share], [_pngs(piece) for piece in pieces]
    )
    scores = list(track(scoring.run(data.workers), len(share), "J&F"))
    found = dict(zip(share, zip(pieces, scores, strict=True), strict=True))
    return {k: v for part in dist.all_gather_object(found) for k, v in part.items()}


def _name(place: int) -> str:
    return f"video-{place:05d}"


def _pngs(piece: Piece) -> list[bytes]:
    ends = piece["offsets"].tolist()
    data = piece["png"].tobytes()
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def outcome_of(
    data: TaskData, videos: Sequence[Video], found: Mapping[int, tuple[Piece, Scores]]
) -> tuple[Outcome, list[str]]:
    """Rows of all objects, what must be told, and as extras all frames' scores and masks.

    `frame_object` is the row of each (object, frame) that counts, `frame` the frame's name,
    `frame_j` and `frame_f` its scores. `mask_png` are the files of all `mask_id`
    (`<video>/<frame>`) one behind the other, `mask_offsets` where each begins and the last ends.
    """
    warnings = [str(text) for place in range(len(videos)) for text in found[place][0]["warnings"]]
    warnings += [
        f"{video.name} has {len(video.rows)} of the 3 frames that a score takes (the first and "
        "the last do not count): its objects are not scored"
        for video in videos
        if len(video.rows) < 3
    ]
    scored = _frames(videos, found)
    ids = np.asarray(data.open("objects").ids, dtype=np.str_)
    if not len(scored["frame"]):
        raise DataError(f"{data.open('val').name}: no object is left to score: {warnings[0]}")
    columns = {"id": ids, **_statistics(len(ids), scored)}
    return Outcome(columns, scored | _masks(videos, found)), warnings


def _frames(videos: Sequence[Video], found: Mapping[int, tuple[Piece, Scores]]) -> dict[str, Array]:
    """Scores of all objects in all frames that count."""
    objects, names, j, f = [], [], [], []
    for place, video in enumerate(videos):
        table = np.array(found[place][1])  # (2, objects, frames)
        j.append(table[0].ravel())
        f.append(table[1].ravel())
        objects.append(video.objects.repeat(table.shape[2]))
        names += [*video.frames[1:-1]] * len(video.objects) if table.size else []
    return {
        "frame_object": np.concatenate(objects),
        "frame": np.array(names, dtype=np.str_),
        "frame_j": np.concatenate(j),
        "frame_f": np.concatenate(f),
    }


def _statistics(count: int, frames: Mapping[str, Array]) -> dict[str, Array]:
    """Columns of `count` objects from the scores of their frames; NaN where there are none."""
    columns = {name: np.full(count, np.nan) for name in ("value", *NAMES)}
    for row in np.unique(frames["frame_object"]):
        mine = frames["frame_object"] == row
        for kind in "jf":
            found = statistics(frames[f"frame_{kind}"][mine])
            columns[kind][row] = found.mean
            columns[f"{kind}_recall"][row] = found.recall
            columns[f"{kind}_decay"][row] = found.decay
    columns["value"] = (columns["j"] + columns["f"]) / 2
    return columns


def _masks(videos: Sequence[Video], found: Mapping[int, tuple[Piece, Scores]]) -> dict[str, Array]:
    pieces = [found[place][0] for place in range(len(videos))]
    sizes = np.concatenate([np.diff(piece["offsets"]) for piece in pieces])
    ids = [
        f"{video.name}/{frame}"
        for video, piece in zip(videos, pieces, strict=True)
        for frame in video.frames[: len(piece["offsets"]) - 1]
    ]
    return {
        "mask_id": np.array(ids, dtype=np.str_),
        "mask_offsets": np.cumsum([0, *sizes.tolist()]),
        "mask_png": np.concatenate([piece["png"] for piece in pieces]),
    }

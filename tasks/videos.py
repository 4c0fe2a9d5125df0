"""Videos of a data set whose samples are frames: `<video>/<frame>`, objects `<video>/<number>`."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.annotations import LabelMap, annotations_of, objects_of
from bench.errors import DataError, SpecError

if TYPE_CHECKING:
    from bench.split import Split
    from bench.task import TaskData

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Video:
    """One video and the objects to follow.

    Attributes:
        name: of the sequence.
        rows: (t,) its frames in the split `val`, in their order.
        frames: their names.
        numbers: of its objects in the annotations.
        objects: (o,) rows of these in the split `objects`.
    """

    name: str
    rows: Ints
    frames: tuple[str, ...]
    numbers: tuple[int, ...]
    objects: Ints


def videos_of(data: TaskData) -> list[Video]:
    """The videos that have objects, in the order of the split `val`.

    Raises:
        SpecError: the data set does not number objects, or some of its samples were drawn.
        DataError: an id is of another kind, or an object belongs to no video.
    """
    frames, objects = data.open("val"), data.open("objects")
    for split in (frames, objects):
        annotations_of(split, "objects")
        if split.origin is not None:
            raise SpecError(
                f"{split.name} holds a part of the {split.split} samples, and a video needs all of "
                "its frames: leave out val_n; [sequences=NAME:NAME] keeps some of the videos"
            )
    places, of_video = _by_video(frames), _by_video(objects)
    strange = [name for name in of_video if name not in places]
    if strange:
        raise DataError(
            f"{objects.name}: objects of {', '.join(strange[:3])}, of which val has no frames: the "
            "splits are of different releases"
        )
    return [
        Video(
            name,
            np.array([row for row, _ in places[name]], dtype=np.int64),
            tuple(frame for _, frame in places[name]),
            tuple(_number(objects, number) for _, number in of_video[name]),
            np.array([row for row, _ in of_video[name]], dtype=np.int64),
        )
        for name in places
        if name in of_video
    ]


def _by_video(split: Split) -> dict[str, list[tuple[int, str]]]:
    """(row, last part of the id) of the samples of each video."""
    found: dict[str, list[tuple[int, str]]] = {}
    for row, id_ in enumerate(split.ids):
        name, slash, last = id_.rpartition("/")
        if not slash:
            raise DataError(
                f"{split.name} {split.split}: {id_!r} names no video, expected ids such as "
                "blackswan/00000: this data set has no videos"
            )
        found.setdefault(name, []).append((row, last))
    return found


def _number(objects: Split, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 255:
        raise DataError(f"{objects.name}: object {text!r} is no number from 1 to 254")
    return int(text)


def annotation(frames: Split, video: Video, place: int, size: tuple[int, ...] = ()) -> LabelMap:
    """(h, w) objects of one frame; DataError where it has not the size of the first one, `size`."""
    labels = objects_of(frames, int(video.rows[place]))
    if size and labels.shape != size:
        raise unequal(video, place, labels.shape, size)
    return labels


def check_annotations(frames: Split, videos: Iterable[Video]) -> None:
    """Reads all annotations that will be compared: a broken one stops the work before it begins."""

    def check(video: Video) -> None:
        size = annotation(frames, video, 0).shape
        for place in range(1, len(video.rows) - 1):
            annotation(frames, video, place, size)

    with ThreadPoolExecutor(8) as pool:  # decoding leaves the interpreter free
        list(pool.map(check, videos))


def unequal(video: Video, place: int, found: tuple[Any, ...], size: tuple[Any, ...]) -> DataError:
    """The error of a frame whose (height, width) is not that of the first one."""
    return DataError(
        f"frame {video.name}/{video.frames[place]} has {found[1]} x {found[0]} pixels, the first "
        f"of its sequence {size[1]} x {size[0]}: restore the sequence from the official release"
    )

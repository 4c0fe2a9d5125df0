"""Videos with masks for the figure `davis`: what is drawn of each, and its scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench import registry
from bench.annotations import LabelMap, objects_of
from bench.errors import SpecError
from bench.figure import Photos
from bench.split import Split

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Clip:
    """One video with its masks.

    Attributes:
        name: of the sequence.
        frames: names of its frames.
        split: the split that they lie in.
        rows: their places in it.
        masks: (h, w) objects of each frame; the first is the annotation.
        numbers: of the objects in it.
        scores: (2, objects, frames) J and F; NaN in the first and the last frame, which do not
            count.
    """

    name: str
    frames: tuple[str, ...]
    split: Split
    rows: tuple[int, ...]
    masks: list[LabelMap]
    numbers: tuple[int, ...]
    scores: npt.NDArray[np.float64]

    def image(self, frame: int) -> Image.Image:
        """A frame as it was filmed."""
        return self.split.image(self.rows[frame])

    def truth(self, frame: int) -> LabelMap:
        """(h, w) annotated objects of a frame."""
        return objects_of(self.split, self.rows[frame])

    @cached_property
    def means(self) -> npt.NDArray[np.float64]:
        """(2, objects) means of J and F over the frames that count; NaN where none does."""
        return self.scores[:, :, 1:-1].mean(2) if len(self.frames) > 2 else self.scores[:, :, 0]


def videos_among(photos: Photos) -> list[Split]:
    """The frames of every data set of videos among the images, whole.

    SpecError: an image belongs to none.
    """
    found: dict[int, Split] = {}
    for photo in photos.items:
        datasets = photo.sample[0].datasets if photo.sample else ()
        if len(datasets) != 1 or "objects" not in getattr(datasets[0], "splits", ()):
            raise SpecError(
                f"davis draws data sets of videos, and {photo.name} is of none: name davis2017, "
                "davis2016 or mini_davis"
            )
        assert photo.sample is not None
        split, index = photo.sample
        if (own := split.source(index)[1]) == "train":
            raise SpecError(
                f"davis follows the objects of val, found the {own} videos of {split.name}: leave "
                f"out split={own}"
            )
        if id(datasets[0]) not in found:
            found[id(datasets[0])] = Split.open(datasets[0], "val", split.name)
    return list(found.values())


def scored(clip: Clip) -> npt.NDArray[np.float64]:
    """(2, objects, frames) J and F of a clip, NaN in the first and the last frame."""
    frame_scores = registry.attribute("tasks.video_metric:frame_scores")
    scores = np.full((2, len(clip.numbers), len(clip.frames)), np.nan)
    for frame in range(1, len(clip.frames) - 1):
        scores[:, :, frame] = frame_scores(clip.masks[frame], clip.truth(frame), clip.numbers)
    return scores


def described(clip: Clip) -> dict[str, Any]:
    """The numbers of one video."""

    def listed(values: npt.NDArray[np.float64]) -> list[float | None]:
        return [None if np.isnan(value) else value for value in values.tolist()]

    objects = [
        {
            "object": number,
            "j": listed(clip.means[:1, place])[0],
            "f": listed(clip.means[1:, place])[0],
            "frame_j": listed(clip.scores[0, place]),
            "frame_f": listed(clip.scores[1, place]),
        }
        for place, number in enumerate(clip.numbers)
    ]
    return {"sequence": clip.name, "frames": list(clip.frames), "objects": objects}

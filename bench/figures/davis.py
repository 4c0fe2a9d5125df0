"""Objects followed through videos: the masks that a model carries on, frame by frame."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bench import registry
from bench.annotations import VOID, objects_of
from bench.errors import DataError, SpecError, nearest
from bench.figure import Figure, Photos
from bench.figures._clips import Clip, described, scored, videos_among
from bench.progress import track
from bench.records import ModelRecord

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split


@dataclass(frozen=True, eq=False)
class Found:
    """The videos of one model.

    Attributes:
        model: what carried the masks on.
        tasks: the rules by which, for each data set.
        sizes: the short side at which frames were seen, for each data set.
        clips: the videos.
        videos: how many there are to choose from.
    """

    model: ModelRecord
    tasks: dict[str, Any]
    sizes: dict[str, int]
    clips: tuple[Clip, ...]
    videos: int

    @property
    def mean(self) -> float | None:
        """J&F of all objects, as far as they are scored."""
        values = np.concatenate([clip.means.mean(0) for clip in self.clips])
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else None


@dataclass(frozen=True, kw_only=True)
class Davis(Figure):
    """Strips of frames under the masks of the task `davis`, and below under the true ones.

    Masks have the colours of DAVIS. The picture holds some frames of each video, the animation all
    of them, at most 40, at 10 a second, with the true borders in white. J and F of each object are
    those of the task.

    Attributes:
        images: frames of each video in the picture, evenly spaced.
        size_px: short side at which the model sees frames. 0 is the task's 480; frames that are
            smaller are not enlarged.
        sequences: how many videos of each data set, the first ones, or their names joined by `:`.
    """

    endings: ClassVar[tuple[str, ...]] = (".png", ".gif", ".json")
    mini: ClassVar[str] = "mini_davis"
    any_image: ClassVar[bool] = False

    images: int = 6
    sequences: str = "2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sequences.strip(":") or self.sequences.strip("0") == "":
            raise SpecError(
                f"sequences={self.sequences}: expected a number from 1, or names joined by ':'"
            )

    def draw(self, models: Sequence[str], photos: Photos, device: str) -> dict[str, bytes]:
        """The strips of one model, the animation, and the numbers of all frames."""
        from bench.checkpoint import load_model
        from bench.figures._davis_gif import animation
        from bench.figures._davis_page import davis_page
        from bench.page import png, style

        if len(models) > 1:
            raise SpecError(
                f"davis draws one model, found {', '.join(models)}: leave out the others, and "
                "correct the names of what should be data sets"
            )
        found = self.look(load_model(models[0]), photos, device)
        with style():
            page = png(davis_page(found, self.images))
        return {".png": page, ".gif": animation(found), ".json": self.numbers(found).encode()}

    def look(self, model: LoadedModel, photos: Photos, device: str) -> Found:
        """The masks of the chosen videos of every data set, and their scores.

        Raises:
            SpecError: an image belongs to no data set of videos, or there is no such video.
            DataError: no video is readable.
        """
        if self.size_px:
            self.transform(model.backbone)  # refuses sides that the patch does not divide
        clips: list[Clip] = []
        tasks, sizes, videos = {}, {}, 0
        for frames in videos_among(photos):
            names = list(dict.fromkeys(id_.rpartition("/")[0] for id_ in frames.ids))
            videos += len(names)
            task = self.task(model, frames)
            tasks[frames.name], sizes[frames.name] = task, task.rules().size_px
            clips += self.clips(model, task, frames, self.chosen(names), photos.skip_bad, device)
        if not clips:
            raise DataError(f"sequences={self.sequences}: none of them is readable")
        return Found(model.record, tasks, sizes, tuple(clips), videos)

    def chosen(self, names: Sequence[str]) -> list[str]:
        """The videos that are asked for."""
        if self.sequences.isdecimal():
            return list(names[: int(self.sequences)])
        asked = list(dict.fromkeys(self.sequences.split(":")))
        for name in asked:
            if name not in names:
                raise SpecError(f"there is no sequence {name!r}; {nearest(name, names)}")
        return asked

    def task(self, model: LoadedModel, frames: Split) -> Any:
        """The task with the asked size; frames that are smaller than its own are not enlarged."""
        davis = registry.load("task", "davis")
        own, short = davis().rules(), min(objects_of(frames, 0).shape)
        if short >= own.size_px:
            return davis(size_px=self.size_px or None)
        patch = model.backbone.patch_size
        size = self.size_px or max(1, short // patch) * patch
        return davis(size_px=size, multiple=min(own.multiple, patch))

    def clips(
        self,
        model: LoadedModel,
        task: Any,
        frames: Split,
        names: Sequence[str],
        skip_bad: int,
        device: str,
    ) -> Iterator[Clip]:
        """The named videos of one data set, in that order."""
        from bench.features import FeatureCache
        from bench.spec import parse_dataset
        from bench.split import Split
        from bench.task_data import TaskData

        dataset = frames.source(0)[0]
        splits = {"val": frames, "objects": Split.open(dataset, "objects", frames.name)}
        with tempfile.TemporaryDirectory() as folder:
            data = TaskData(
                parse_dataset(frames.name),
                None,
                FeatureCache(Path(folder)),
                device=device,
                skip_bad=skip_bad,
                splits=splits,
            )
            found = {
                name: (stems, masks) for name, stems, masks in task.predictions(model, data, names)
            }
        place = {id_: row for row, id_ in enumerate(frames.ids)}
        for name in track([name for name in names if name in found], label="J&F"):
            stems, masks = found[name]
            rows = tuple(place[f"{name}/{stem}"] for stem in stems)
            numbers = tuple(v for v in np.unique(masks[0]).tolist() if v not in (0, VOID))
            clip = Clip(name, tuple(stems), frames, rows, masks, numbers, np.empty(0))
            yield replace(clip, scores=scored(clip))

    def numbers(self, found: Found) -> str:
        """What the picture shows, and the scores of all frames, as JSON."""
        values: dict[str, Any] = {
            "figure": "davis",
            "options": asdict(self),
            "model": found.model.to_dict(),
            "tasks": {name: asdict(task) for name, task in found.tasks.items()},
            "jf_mean": found.mean,
            "sequences": [described(clip) for clip in found.clips],
        }
        return json.dumps(values) + "\n"

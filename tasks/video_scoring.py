"""J and F of predicted masks against a data set's annotations, videos shared out to processes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bench.errors import DataError
from bench.split import Split
from tasks.video_metric import frame_scores
from tasks.videos import Video, annotation

Floats = npt.NDArray[np.float64]
Scores = tuple[Floats, Floats]  # J and F, each (objects, frames that count)


@dataclass
class Scoring(Dataset[Scores | DataError]):
    """Scores of one video after the other; first and last frames do not count.

    Attributes:
        frames: the split that has the annotations.
        videos: which videos.
        masks: for each video one PNG a frame.
    """

    frames: Split
    videos: Sequence[Video]
    masks: Sequence[Sequence[bytes]]

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Scores | DataError:
        try:
            return self.scores(self.videos[index], self.masks[index])
        except DataError as error:
            return error  # raised in a worker it would come with a trace of the loader

    def scores(self, video: Video, masks: Sequence[bytes]) -> Scores:
        """J and F of a video."""
        found = []
        for place in range(1, len(masks) - 1):
            with Image.open(io.BytesIO(masks[place])) as picture:
                prediction = np.array(picture)
            truth = annotation(self.frames, video, place, prediction.shape)
            found.append(frame_scores(prediction, truth, video.numbers))
        table = np.array(found, dtype=np.float64).reshape(-1, 2, len(video.numbers))
        return table[:, 0].T, table[:, 1].T

    def run(self, workers: int) -> Iterator[Scores]:
        """Of all videos in their order, whatever the number of worker processes."""
        loader = DataLoader(
            self,
            batch_size=None,
            num_workers=min(workers, len(self)),
            collate_fn=_as_is,
            generator=torch.Generator(),  # else the loader draws from the global one
        )
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads; these workers compute and do no more.
            warnings.filterwarnings(
                "ignore", "This process .* is multi-threaded", DeprecationWarning
            )
            results = iter(loader)
        try:
            for result in results:
                if isinstance(result, DataError):
                    raise result
                yield result
        finally:
            del results  # else an error's traceback keeps the workers, which then end late


def _as_is(scores: Any) -> Any:
    return scores

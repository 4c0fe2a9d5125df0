"""Masks of all frames of a video, from its first one and frozen patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.annotations import LabelMap
from bench.errors import DataError
from bench.maps import Normalise, map_batches, placed
from bench.progress import Progress
from bench.transforms import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from tasks.video_frames import FrameTransform, frame_size, read_out, seed_labels
from tasks.video_propagation import Propagator
from tasks.video_protocols import VideoProtocol
from tasks.videos import Video, annotation, unequal

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.task import TaskData

#: Tokens in one forward: 16 frames of 480 x 832 pixels at patch 16, whose maps wait on the device.
TOKENS = 25_600
_STD = (0.228, *IMAGENET_STD[1:])  # sic: of the official code


@dataclass(frozen=True)
class Followed:
    """Masks (h, w) of all frames, none where a frame could not be read, and what must be told."""

    masks: list[LabelMap]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class Follower:
    """One model that follows the objects of one video after the other.

    Attributes:
        model: its positions as the protocol wants them (`Follower.of`).
        data: how to run.
        frames: the split of all videos.
        protocol: sizes and rule.
        bad: unreadable frames of all videos so far, row -> reason.
    """

    model: LoadedModel
    data: TaskData
    frames: Split
    protocol: VideoProtocol
    bad: dict[int, str] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, model: LoadedModel, data: TaskData, protocol: VideoProtocol) -> Follower:
        """The follower on the split `val` of the data."""
        return cls(placed(model, protocol.positions), data, data.open("val"), protocol)

    @torch.inference_mode()
    def follow(self, video: Video, progress: Progress) -> Followed:
        """The first frame's mask as it is annotated, and the predicted ones of all others."""
        masks = [annotation(self.frames, video, 0)]
        patch, native = self.model.backbone.patch_size, masks[0].shape
        propagator: Propagator | None = None
        warnings: list[str] = []
        read = 0
        for features in self._features(video, native):  # (h, w, d)
            read += 1
            progress.advance()
            if propagator is None:
                seeds = seed_labels(masks[0], (features.shape[0], features.shape[1]))
                warnings = lost(video, seeds)
                labels = F.one_hot(torch.from_numpy(seeds).long()).float().to(features.device)
                propagator = Propagator(self.protocol.propagation, features, labels)
            else:
                masks.append(read_out(propagator.step(features), patch, native))
        if read == len(video.rows):
            return Followed(masks, warnings)
        self._compare_sizes(video, native)
        progress.advance(len(video.rows) - read)
        missing = f"{len(video.rows) - read} of its {len(video.rows)} frames are unreadable"
        return Followed([], [f"{video.name} is left out: {missing}"])

    def _features(self, video: Video, native: tuple[int, int]) -> Iterator[Tensor]:
        """(h, w, d) of each readable frame, in their order."""
        transform = FrameTransform(native, self._size(video, native))
        patch = self.model.backbone.patch_size
        tokens = transform.size[0] // patch * (transform.size[1] // patch)
        batches = map_batches(
            self.data,
            self.model,
            self.frames,
            transform,
            "patch",
            video.rows,
            normalise=self._normalise(),
            batch_size=max(1, min(self.data.batch_size, TOKENS // tokens)),
            bad=self.bad,
        )
        try:
            for batch in batches:
                yield from batch.maps
        except DataError:
            self._compare_sizes(video, native)
            raise

    def _size(self, video: Video, native: tuple[int, int]) -> tuple[int, int]:
        rule, patch = self.protocol, self.model.backbone.patch_size
        size = frame_size(native, rule.size_px, rule.multiple, patch)
        if not min(size):
            raise DataError(
                f"frame {video.name}/{video.frames[0]} of {native[1]} x {native[0]} pixels becomes "
                f"smaller than a patch ({patch} px) at size_px={rule.size_px} and "
                f"multiple={rule.multiple}: take a larger size_px, or a multiple that fits into it"
            )
        return size

    def _normalise(self) -> Normalise | None:
        own = self.model.backbone.input
        slip = self.protocol.normalise == "davis"
        if slip and (own.mean, own.std) == (IMAGENET_MEAN, IMAGENET_STD):
            return InputSpec(mean=IMAGENET_MEAN, std=_STD).normalise
        return None

    def _compare_sizes(self, video: Video, native: tuple[int, int]) -> None:
        """DataError that names the first frame of another size, which the loader cannot name."""
        for place, row in enumerate(video.rows.tolist()):
            try:
                image = self.frames.image(row)
            except DataError:
                continue
            if (image.height, image.width) != native:
                raise unequal(video, place, (image.height, image.width), native)


def lost(video: Video, seeds: LabelMap) -> list[str]:
    """A warning for each object without a patch in the seeds (h, w)."""
    gone = np.setdiff1d(video.numbers, seeds)
    h, w = seeds.shape
    return [
        f"{video.name}/{number} has no patch of its own in the first frame ({h} x {w} patches): it "
        "is never predicted"
        for number in gone.tolist()
    ]

"""Video object segmentation by label propagation with frozen patches: DAVIS, J&F."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from bench.errors import DataError, SpecError
from bench.records import Metric, Outcome
from bench.stats import bootstrap_metric
from bench.task import Task, TaskData, with_warnings
from tasks.frozen import Positions
from tasks.video_protocols import PROTOCOLS, Normalise, VideoProtocol
from tasks.videos import videos_of

if TYPE_CHECKING:
    from bench.annotations import LabelMap
    from bench.checkpoint import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Davis(Task):
    """J&F of masks carried from the first frame on, as in DINO, iBOT and SOVE (its Table 4).

    The patches of the last block, after the final norm, say which patches of earlier frames look
    alike; `tasks/video_propagation.py` has the rule, `tasks/video_frames.py` what goes in and comes
    out, `tasks/video_metric.py` J and F. First and last frames do not count. Metrics are means over
    objects with a bootstrap over them: `jf_mean`, and of J and F each the mean over frames, the
    recall (share of frames above 0.5) and the decay (loss over time, which may be negative).
    `value` is an object's share of `jf_mean`, NaN in videos of one or two frames: none counts.

    What surprises: objects are those of the first frame. One that is smaller than a patch may have
    no seed; it is then never predicted, and a warning names it. Where a first frame skips a number,
    there is no such object (the official evaluator gives it 1 as long as it stays away). Candidates
    exactly as near as the last of the top k all count. Intervals are a little narrow, as objects of
    one video move together. Published numbers moved by up to 0.3 points with the version of torch.

    Attributes:
        protocol: gives the value of each option that is `none`.
        size_px: short side at which a frame is looked at (480).
        multiple: the other side is rounded down to a multiple of it (64), which squeezes frames a
            little; then both sides to multiples of the patch.
        context: how many frames before the one that is asked for are searched, beside the first
            frame (7).
        radius: how many patches away in a row or a column a candidate may be (12); 0 for any.
        topk: nearest candidates of all those frames together that count (5).
        temperature: their weights are exp(cosine / temperature) (0.1).
        positions: how position embeddings meet another grid: as in `dino`, by `size`, or as the
            `model` says (`dino`).
        normalise: `davis` divides red by .228 instead of .229 for checkpoints with ImageNet's mean
            and std, a slip of the official code that published numbers contain; others keep their
            own, as all do under `model` (`davis`).
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "jf_mean"
    needs: ClassVar[tuple[str, ...]] = ("val", "objects")
    mini: ClassVar[str] = "mini_davis"
    mini_options: ClassVar[str] = "size_px=48&multiple=4"

    protocol: Literal["davis_dino"] = "davis_dino"
    size_px: int | None = None
    multiple: int | None = None
    context: int | None = None
    radius: int | None = None
    topk: int | None = None
    temperature: float | None = None
    positions: Positions | None = None
    normalise: Normalise | None = None

    def __post_init__(self) -> None:
        try:
            self.rules()
        except SpecError as error:
            raise SpecError(f"davis: {error}") from None

    def rules(self) -> VideoProtocol:
        """The protocol with the options that were given."""
        published = PROTOCOLS[self.protocol]
        given = {
            name: value
            for name in ("size_px", "multiple", "positions", "normalise")
            if (value := getattr(self, name)) is not None
        }
        carried = {
            name: value
            for name in ("context", "radius", "topk", "temperature")
            if (value := getattr(self, name)) is not None
        }
        return replace(published, propagation=replace(published.propagation, **carried), **given)

    def predictions(
        self, model: LoadedModel, data: TaskData, names: Collection[str] = ()
    ) -> Iterator[tuple[str, Sequence[str], list[LabelMap]]]:
        """Name of each video (of `names` alone, where given), names of its frames, masks (h, w).

        The first mask is the annotation. A video of which a frame cannot be read is left out.
        """
        from bench.progress import Progress
        from tasks.video_following import Follower

        follower = Follower.of(model, data, self.rules())
        videos = [video for video in videos_of(data) if not names or video.name in names]
        label = f"davis {data.open('val').name}"
        with Progress(label, sum(len(video.rows) for video in videos)) as progress:
            for video in videos:
                if masks := follower.follow(video, progress).masks:
                    yield video.name, video.frames, masks

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """J and F of every object in every frame that counts, and the masks that were predicted."""
        from tasks.video_outcome import found_masks, outcome_of

        videos = videos_of(data)
        if all(len(video.rows) < 3 for video in videos):
            raise DataError(
                f"{data.open('val').name}: no video has 3 frames, and first and last ones do not "
                "count: nothing is left to score"
            )
        found = found_masks(model, data, videos, self.rules())
        outcome, warnings = outcome_of(data, videos, found)
        return with_warnings(outcome, warnings)

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`jf_mean`, and of J and F the mean, the recall and the decay, over objects."""
        names = {"jf_mean": "value"}
        for kind in ("j", "f"):
            names |= {f"{kind}_mean": kind, f"{kind}_recall": f"{kind}_recall"}
            names |= {f"{kind}_decay": f"{kind}_decay"}
        columns = {metric: outcome.columns[name] for metric, name in names.items()}
        return {
            metric: bootstrap_metric(column[~np.isnan(column)], np.mean, seed=0)
            for metric, column in columns.items()
        }

"""Few-shot classification of frozen features by closed-form ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bench.errors import SpecError
from bench.records import Metric, Outcome
from bench.stats import accuracy_metric, bootstrap_metric
from bench.subsets import uniform
from bench.task import FrozenPass, Task, TaskData, with_warnings
from tasks.frozen import Token, pair_features, pair_passes, token_of
from tasks.ridge import Ridge

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.features import FeatureTable

Ints = npt.NDArray[np.int64]

#: What big_vision's configurations take where nothing can choose.
DEFAULT_L2 = 2.0**10
DRAW_STEP = 2**32  # seeds of further draws: beyond those that anyone gives


@dataclass(frozen=True, kw_only=True)
class Fewshot(Task):
    """Top-1 of a ridge regression on `shots` images of each class (big_vision `fewshot_lsr`).

    10 shots of ImageNet are LOCA's Table 2b. Features are not L2-normalised: they are standardised
    by the shots (`tasks/ridge.py`). The shots are rows of the cached pass over all of train, so
    that nothing is forwarded that k-NN has not forwarded already.

    `selection=loo` (default): the strength with the best exact leave-one-out accuracy on the shots,
    of equals the smallest squared error; test images have no part in it. `selection=test` reports
    the best on val as the paper does, and says so. A shot that is the only one of its class cannot
    be predicted from the others and is not judged; where no class has two (`shots=1`), big_vision's
    own 2^10 is taken, with a warning.

    With more than one draw, `value` is the share of draws that got an image right and `top1` its
    mean, with a bootstrap over images; the spread over draws is `draw_std`. Metrics:

    - `top1`: with the chosen strength, which every draw chooses for itself;
    - `best_top1`: the best strength of each draw on val, always test-selected.

    Thousands of classes take minutes: every strength is tried on every shot, in float64.

    What surprises: a draw depends on the ids and the seed, not on the order of the images, and
    draws of one seed are nested (5 shots lie within 10). Classes with fewer images than `shots`
    give all they have, with a warning.

    Attributes:
        shots: training images of each class.
        l2s: strengths of the regularisation that are tried, above 0; by default 2^-10 to 2^20.
        selection: what chooses the strength: leave-one-out on the shots (`loo`), or val (`test`).
        draws: sets of shots drawn from one seed; 1 by default, since `--seeds` draws too.
        token: `cls`, or the patches averaged after the final norm (`avg`) or before it
            (`avg_fcnorm`); `auto` is `cls` where the checkpoint has a CLS token, else `avg`.
        size_px: side of the input in pixels; `none` is the checkpoint's own.
        crop_pct: centre crop over short side, in (0, 1]; `none` is the checkpoint's own.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "top1"

    shots: int = 10
    l2s: tuple[float, ...] = tuple(2.0**power for power in range(-10, 21))
    selection: Literal["loo", "test"] = "loo"
    draws: int = 1
    token: Token = "auto"
    size_px: int | None = None
    crop_pct: float | None = None

    def __post_init__(self) -> None:
        wrong = [
            (self.shots < 1, f"shots={self.shots} must be at least 1, such as 10"),
            (self.draws < 1, f"draws={self.draws} must be at least 1"),
            (not self.l2s or min(self.l2s) <= 0, f"l2s={self.l2s} must all be above 0"),
        ]
        for is_wrong, why in wrong:
            if is_wrong:
                raise SpecError(f"fewshot: {why}")

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        """All of train, as k-NN reads it, and val."""
        return pair_passes(model, data, self.size_px, self.crop_pct)

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """The ridge of every draw on every labelled val image."""
        token = token_of(self.token, model.backbone)
        train, test = pair_features(model, data, self.size_px, self.crop_pct)
        target = np.asarray(test.targets, dtype=np.int64)
        notes: dict[str, None] = {}
        seeds = [data.seed + DRAW_STEP * draw for draw in range(self.draws)]
        fits = [self._draw(train, test, token, seed, notes) for seed in seeds]
        accuracy = np.stack([(found == target).mean(axis=1) for found, _ in fits])  # (draws, l2s)
        best = accuracy.argmax(axis=1)  # numpy: the first of equals
        chosen = best if self.selection == "test" else np.array([index for _, index in fits])
        if self.selection == "test":
            notes["selection=test: the strength was chosen on the evaluation split"] = None
        reported = [found[index] for (found, _), index in zip(fits, chosen, strict=True)]
        outcome = Outcome(
            columns={
                "id": np.asarray(test.ids, dtype=np.str_),
                "target": target,
                "prediction": reported[0],
                "value": np.mean([row == target for row in reported], axis=0),
                "best_value": np.mean(
                    [fits[i][0][best[i]] == target for i in range(self.draws)], axis=0
                ),
            },
            extras={
                "token": np.array(token),
                "l2": np.array(self.l2s),
                "reported_l2": np.array(self.l2s)[chosen],
                "test_accuracy": accuracy,
                "draw_top1": accuracy[np.arange(self.draws), chosen],
            },
        )
        return with_warnings(outcome, notes)

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`top1`, the test-selected `best_top1`, and `draw_std` of several draws."""
        metrics = {
            "top1": _share(outcome.columns["value"]),
            "best_top1": _share(outcome.columns["best_value"]),
        }
        draws = outcome.extras["draw_top1"]
        if len(draws) > 1:
            metrics["draw_std"] = Metric(float(draws.std(ddof=1)), n=len(draws))
        return metrics

    def _draw(
        self,
        train: FeatureTable,
        test: FeatureTable,
        token: str,
        seed: int,
        notes: dict[str, None],
    ) -> tuple[Ints, int]:
        """(predictions (l2s, n), index of the strength that the shots choose) of one draw."""
        classes = len(train.classes)
        rows = shots_of(train.ids, train.targets, classes, self.shots, seed)
        labels = np.asarray(train.targets, dtype=np.int64)[rows]
        counts = np.bincount(labels, minlength=classes)
        if short := int((counts < self.shots).sum()):
            text = f"{short} of {classes} classes have fewer than {self.shots} training images"
            notes[f"{text} (the least {counts.min()}); all of theirs were taken"] = None
        ridge = Ridge.fit(train.get(token)[rows], labels, classes)
        chosen = 0 if self.selection == "test" else self._chosen(ridge, labels, counts, notes)
        return ridge.predict(test.get(token), self.l2s), chosen

    def _chosen(self, ridge: Ridge, labels: Ints, counts: Ints, notes: dict[str, None]) -> int:
        """Index of the strength with the best leave-one-out accuracy on the shots."""
        judged = counts[labels] > 1  # (n,)
        if not judged.any():
            nearest = int(np.abs(np.log2(self.l2s) - np.log2(DEFAULT_L2)).argmin())
            notes[
                "no class has two shots, so leaving one out says nothing; took the strength "
                f"{self.l2s[nearest]:g} (big_vision's is {DEFAULT_L2:g})"
            ] = None
            return nearest
        ranked = []
        for index, l2 in enumerate(self.l2s):
            hits, error = ridge.judged(l2, judged)
            ranked.append((-hits, error, index))
        return min(ranked)[-1]


def shots_of(ids: Sequence[str], targets: Ints, classes: int, shots: int, seed: int) -> Ints:
    """Rows of up to `shots` images of each class, rising; the draw depends on ids and seed only."""
    by_class = np.argsort(targets, kind="stable")
    ends = np.cumsum(np.bincount(targets, minlength=classes))
    chosen = []
    for rows in np.split(by_class, ends[:-1]):
        if len(rows):
            drawn = uniform([ids[row] for row in rows], min(shots, len(rows)), seed)
            chosen.append(rows[drawn])
    return np.sort(np.concatenate(chosen))


def _share(values: npt.NDArray[np.float64]) -> Metric:
    """The mean: with Wilson's interval where every value is right or wrong, else a bootstrap."""
    if np.isin(values, (0.0, 1.0)).all():
        return accuracy_metric(values == 1)
    return bootstrap_metric(values, np.mean, seed=0)

"""Multinomial logistic regression on frozen features: few-label lists or whole sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bench.errors import SpecError
from bench.records import Metric, Outcome
from bench.task import FrozenPass, Task, TaskData, with_warnings
from tasks.accuracy import accuracies, columns_of, in_top5
from tasks.frozen import Token, pair_features, pair_passes, token_of

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.features import FeatureTable
    from tasks.logistic import Fit

Ints = npt.NDArray[np.int64]

FOLDS = 5  # of the cross-validation that stands in for a held-out slice
DEFAULT_L2 = 0.1  # iBOT's script: "0.1 is usually working the best"


@dataclass(frozen=True, kw_only=True)
class SemiLogreg(Task):
    """Top-1 of L2-regularised logistic regression, without intercept, on features of length 1.

    iBOT's variant for few labels, better at 1 % than its fine-tuning: on
    `imagenet1k[list=1percent.txt]` it is that protocol, on a whole set a plain logistic probe.
    The objective is cyanure's, the mean cross-entropy plus `l2 / 2 |W|^2`; iBOT tries 0.01, 0.1
    and 1, the default grid of `l2s` goes on to 1e-6. What the solver is does not matter
    (`tasks/logistic.py`).

    `selection=holdout` (default): the strength with the best accuracy on held-out training images;
    of equals the strongest. The regression is then fitted again on all of train. A held-out slice
    of fewer images than classes says little, so there the accuracy is that of stratified 5-fold
    cross-validation; where no class has two images none of this can choose, and iBOT's 0.1 is
    taken, with a warning. `selection=test` is what iBOT's script does: the best on val, marked by a
    warning.

    What surprises: classes of the label set without training images are never predicted; a set of
    one class is predicted without fitting; `top5` exists with more than five classes only.

    Attributes:
        l2s: strengths of the regularisation that are tried, above 0.
        selection: what chooses the strength: held-out training images, or val (`test`).
        holdout: share of train that is held out, stratified and drawn with the seed, in (0, 0.5].
        token: `cls`, or the patches averaged after the final norm (`avg`) or before it
            (`avg_fcnorm`); `auto` is `cls` where the checkpoint has a CLS token, else `avg`.
        size_px: side of the input in pixels; `none` is the checkpoint's own.
        crop_pct: centre crop over short side, in (0, 1]; `none` is the checkpoint's own.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "top1"

    l2s: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)
    selection: Literal["holdout", "test"] = "holdout"
    holdout: float = 0.1
    token: Token = "auto"
    size_px: int | None = None
    crop_pct: float | None = None

    def __post_init__(self) -> None:
        if not self.l2s or min(self.l2s) <= 0:
            raise SpecError(f"semi_logreg: l2s={self.l2s} must all be above 0")
        if not 0 < self.holdout <= 0.5:
            raise SpecError(f"semi_logreg: holdout={self.holdout} must be in (0, 0.5]")

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        """Train and val, as k-NN reads them."""
        return pair_passes(model, data, self.size_px, self.crop_pct)

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Chooses the strength, fits on all of train, and predicts every labelled val image."""
        token = token_of(self.token, model.backbone)
        train, test = pair_features(model, data, self.size_px, self.crop_pct)
        target = np.asarray(test.targets, dtype=np.int64)
        found = self._fitted(train, test, token, data)
        prediction = found.scores.argmax(axis=1)  # numpy: of equals the lower class
        top5, classes = in_top5(target, found.scores), len(train.classes)
        columns = columns_of(test.ids, target, prediction, classes, top5)
        extras = {
            "token": np.array(token),
            "l2": np.array(self.l2s),
            "reported_l2": np.array(found.fit.l2),
            "judged_accuracy": found.judged,
            "weight": found.fit.weight.cpu().numpy(),
            "weight_classes": found.fit.present,
        }
        return with_warnings(Outcome(columns=columns, extras=extras), found.notes)

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`top1`, and `top5` with more than five classes."""
        return accuracies(outcome)

    def _fitted(
        self, train: FeatureTable, test: FeatureTable, token: str, data: TaskData
    ) -> _Fitted:
        """The reported regression and its scores of the test images."""
        from tasks.logistic import UnitRows, fit_path

        labels, target = (np.asarray(table.targets, dtype=np.int64) for table in (train, test))
        known, asked = (UnitRows(table.get(token), device=data.device) for table in (train, test))
        classes = len(train.classes)
        if self.selection == "test":
            notes = ["selection=test: the strength was chosen on the evaluation split"]
            fits = fit_path(known, labels, self.l2s)
            # Scores of one strength at a time: those of ImageNet's val are 400 MB.
            judged = np.array(
                [(fit.scores(asked, classes).argmax(axis=1) == target).mean() for fit in fits]
            )
            fit = fits[self._best(judged)]
            found = fit.scores(asked, classes)
        else:
            notes = []
            judged = self._judged(train.get(token), labels, classes, data, notes)
            best = self._best(judged)
            # From the strongest down to the chosen one: each starts where the last ended.
            path = [l2 for l2 in self.l2s if l2 >= self.l2s[best]]
            fit = fit_path(known, labels, path)[path.index(self.l2s[best])]
            found = fit.scores(asked, classes)
        if not fit.converged:
            notes.append(f"the fit with l2={fit.l2:g} did not converge, but it is near its end")
        if fit.l2 in (min(self.l2s), max(self.l2s)) and len(set(judged)) > 1:
            end = "smallest" if fit.l2 == min(self.l2s) else "largest"
            notes.append(f"the chosen l2={fit.l2:g} is the {end} of the grid: widen l2s")
        return _Fitted(fit, found, judged, notes)

    def _judged(
        self,
        values: npt.NDArray[np.floating],
        labels: Ints,
        classes: int,
        data: TaskData,
        notes: list[str],
    ) -> npt.NDArray[np.float64]:
        """Accuracy of every strength on training images that it was not fitted on."""
        from tasks.logistic import UnitRows, fit_path

        if len(self.l2s) == 1:
            return np.empty(0)
        slices = judging_slices(labels, self.holdout, data.seed)
        if not slices:
            notes.append(
                "no class has two training images, so none can be held out; took the strength "
                f"l2={self.l2s[self._usual()]:g} (iBOT's is {DEFAULT_L2:g})"
            )
            return np.empty(0)
        hits = np.zeros(len(self.l2s))
        for rows, held in slices:
            fits = fit_path(UnitRows(values, rows, data.device), labels[rows], self.l2s)
            asked = UnitRows(values, held, data.device)
            for index, fit in enumerate(fits):
                hits[index] += (fit.scores(asked, classes).argmax(axis=1) == labels[held]).sum()
        return hits / sum(len(held) for _, held in slices)

    def _best(self, judged: npt.NDArray[np.float64]) -> int:
        """Index of the most accurate strength, of equals the strongest; the usual if unjudged."""
        if not len(judged):
            return self._usual()
        return max(range(len(self.l2s)), key=lambda index: (judged[index], self.l2s[index]))

    def _usual(self) -> int:
        """Index of the strength nearest to iBOT's."""
        return int(np.abs(np.log(self.l2s) - np.log(DEFAULT_L2)).argmin())


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The regression to report, its test scores (n, classes), and how it was chosen."""

    fit: Fit
    scores: npt.NDArray[np.float64]
    judged: npt.NDArray[np.float64]  # (l2s,) accuracy by which it was chosen; empty if none
    notes: list[str]


def judging_slices(labels: Ints, share: float, seed: int) -> list[tuple[Ints, Ints]]:
    """Pairs of (rows to fit on, rows to judge on), no row judged twice; none if none can be.

    One held-out slice where it has at least as many images as there are classes, else the slices
    of stratified 5-fold cross-validation. A class's only image is never judged.
    """
    from tasks.feature_batches import held_out_slice

    sizes = np.bincount(labels)
    if sizes.max() < 2:
        return []
    if len(labels) * share >= (sizes > 0).sum():
        return [held_out_slice(labels, share, seed)]
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[by_class] = np.arange(len(labels)) % FOLDS  # a class's images lie in different folds
    slices = [
        (np.flatnonzero(fold != number), np.flatnonzero((fold == number) & (sizes[labels] > 1)))
        for number in range(FOLDS)
    ]
    return [(rows, held) for rows, held in slices if len(held)]

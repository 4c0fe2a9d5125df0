"""Weighted k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench.errors import SpecError
from bench.records import Metric, Outcome
from bench.stats import accuracy_metric
from bench.task import FrozenPass, Task, TaskData, with_warnings
from tasks.accuracy import TOP, in_top5
from tasks.frozen import Token, pair_features, pair_passes, token_of

if TYPE_CHECKING:
    from torch import Tensor

    from bench.checkpoint import LoadedModel
    from bench.features import FeatureTable


@dataclass(frozen=True, kw_only=True)
class Knn(Task):
    """Top-1 of the temperature-weighted vote of the k nearest training images.

    Features are L2-normalised. The class score of a test image is the sum of
    exp(cosine / temperature) over its k nearest training images of that class (DINO). SlotMIM's own
    script uses the token `avg_fcnorm`, DINO, iBOT and SOVE use `cls`: name it when comparing.

    What surprises: equal cosines are ordered by the lower train index and equal class scores by
    the lower class index; classes without any vote score 0 and follow the same rule, so they can
    fill a top five. A k beyond the number of training images is clipped, with a warning.

    `best_top1` is the best k on val, always test-selected: what DINO, iBOT and SOVE report.

    Attributes:
        k: neighbours whose vote is the headline.
        ks: numbers of neighbours that vote in the same pass too, reported as `knn_k10`,
            `knn_k10_top5`, ...
        temperature: of the weight of a vote, exp(cosine / temperature); above 0.
        token: `cls`, or the patches averaged after the final norm (`avg`) or before it
            (`avg_fcnorm`); `auto` is `cls` where the checkpoint has a CLS token, else `avg`.
        size_px: side of the input in pixels; `none` is the checkpoint's own.
        crop_pct: centre crop over short side, in (0, 1]; `none` is the checkpoint's own.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "top1"

    k: int = 20
    ks: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07
    token: Token = "auto"
    size_px: int | None = None
    crop_pct: float | None = None

    def __post_init__(self) -> None:
        if min(self.k, *self.ks) < 1:
            raise SpecError(f"knn: k={self.k}, ks={self.ks}: every k must be at least 1")
        if not self.temperature > 0:
            raise SpecError(f"knn: temperature={self.temperature} must be above 0, such as 0.07")

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        """Both splits."""
        return pair_passes(model, data, self.size_px, self.crop_pct)

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Votes of every k for every labelled val image."""
        token = token_of(self.token, model.backbone)
        train, test = pair_features(model, data, self.size_px, self.crop_pct)
        columns, notes = self._columns(train, test, token, data.device)
        outcome = Outcome(
            columns={"id": np.asarray(test.ids, dtype=np.str_), **columns},
            extras={"k": np.array(self.k), "token": np.array(token)},
        )
        return with_warnings(outcome, notes)

    def _columns(
        self, train: FeatureTable, test: FeatureTable, token: str, device: str
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        """The outcome's columns (but for ids) and warnings."""
        from tasks.neighbours import nearest

        keys, queries = train.get(token), test.get(token)  # (m, d), (n, d)
        labels, target = (np.asarray(table.targets, dtype=np.int64) for table in (train, test))
        classes = len(train.classes)
        asked = sorted({self.k, *self.ks})
        used = {k: min(k, len(keys)) for k in asked}
        clipped = ", ".join(str(k) for k, n in used.items() if n < k)
        notes = [f"k={clipped}: there are only {len(keys)} training images; used {len(keys)}"]
        notes *= bool(clipped)
        prediction = {k: np.empty(len(queries), dtype=np.int64) for k in asked}
        top5 = {k: np.empty(len(queries), dtype=bool) for k in asked if k >= TOP}
        for rows, cosine, index in nearest(queries, keys, max(used.values()), device):
            found = vote(cosine, labels[index.numpy()], classes, used.values(), self.temperature)
            for k in asked:
                scores = found[used[k]]  # (b, classes)
                prediction[k][rows] = scores.argmax(axis=1)  # numpy: the first, so the lower class
                if k in top5:
                    top5[k][rows] = in_top5(target[rows], scores)
        columns = {
            "target": target,
            "prediction": prediction[self.k],
            "value": (prediction[self.k] == target).astype(np.float64),
            **{f"prediction_k{k}": column for k, column in prediction.items()},
            **{f"top5_k{k}": column for k, column in top5.items()},
        }
        return columns, notes

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`top1` (and `top5`) of the headline k, `best_top1`, `knn_k*` and `knn_k*_top5` (k>4)."""
        columns, target = outcome.columns, outcome.columns["target"]
        metrics = {"top1": accuracy_metric(columns["prediction"] == target)}
        headline_top5 = f"top5_k{int(outcome.extras['k'])}"
        if headline_top5 in columns:
            metrics["top5"] = accuracy_metric(columns[headline_top5])
        for name, column in columns.items():
            if name.startswith("prediction_k"):
                metrics[name.replace("prediction", "knn")] = accuracy_metric(column == target)
            elif name.startswith("top5_k"):
                metrics[name.replace("top5", "knn") + "_top5"] = accuracy_metric(column)
        votes = [metrics[name] for name in metrics if re.fullmatch(r"knn_k\d+", name)]
        return metrics | {"best_top1": max(votes, key=lambda metric: metric.value)}


def vote(
    cosine: Tensor, labels: np.ndarray, classes: int, ks: Iterable[int], temperature: float
) -> dict[int, np.ndarray]:
    """Class scores (n, classes) for every k, from neighbours (n, max k) sorted nearest first.

    One running scatter: the sum for a larger k continues that of the next smaller. The exponent is
    float32 and relative to the nearest neighbour, so that no temperature overflows or sinks all
    votes to zero; the sums are float64, on the host, where their order is fixed.
    """
    import torch

    weight = ((cosine - cosine[:, :1]) / temperature).exp().double()  # (n, max k)
    label = torch.from_numpy(np.ascontiguousarray(labels))
    scores = torch.zeros((len(weight), classes), dtype=torch.float64)
    found, start = {}, 0
    for k in sorted(set(ks)):
        scores.scatter_add_(1, label[:, start:k], weight[:, start:k])
        found[k], start = scores.numpy().copy(), k
    return found

"""Accuracy of classifiers: the columns of their outcomes, and the metrics made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bench.records import Array, Metric, Outcome
from bench.stats import accuracy_metric

TOP = 5
Predictions = npt.NDArray[np.int64]
Hits = npt.NDArray[np.bool_]


def in_top5(target: Predictions, scores: npt.NDArray[np.floating]) -> Hits:
    """Whether each target (n,) is among the five best of its scores (n, classes).

    Equal scores are ordered by the lower class index, so the answer never depends on a sort. A
    target whose score is no number is not among them.
    """
    own = np.take_along_axis(scores, target[:, None], axis=1)  # (n, 1)
    lower = np.arange(scores.shape[1]) < target[:, None]  # (n, classes)
    better = ((scores > own) | ((scores == own) & lower)).sum(axis=1)
    return (better < TOP) & ~np.isnan(own[:, 0])


def columns_of(
    ids: Sequence[str],
    target: Predictions,
    prediction: Predictions,
    classes: int,
    top5: Hits | None = None,
    **others: Predictions,
) -> dict[str, Array]:
    """The columns of a classifier's outcome; `top5` is kept where there are more than five classes.

    `others` are predictions of other choices, as `prediction_final`.
    """
    columns: dict[str, Array] = {
        "id": np.asarray(ids, dtype=np.str_),
        "target": target,
        "prediction": prediction,
        "value": (prediction == target).astype(np.float64),
        **{f"prediction_{name}": column for name, column in others.items()},
    }
    return columns | ({"top5": top5} if top5 is not None and classes > TOP else {})


def accuracies(outcome: Outcome) -> dict[str, Metric]:
    """`top1`, `top5` where it is kept, and `NAME_top1` of every column `prediction_NAME`."""
    columns: Mapping[str, Array] = outcome.columns
    metrics = {"top1": accuracy_metric(columns["prediction"] == columns["target"])}
    if "top5" in columns:
        metrics["top5"] = accuracy_metric(columns["top5"])
    for name, column in columns.items():
        if name.startswith("prediction_"):
            hits = column == columns["target"]
            metrics[f"{name.removeprefix('prediction_')}_top1"] = accuracy_metric(hits)
    return metrics

"""What one stored result says about its cell, and the tidy frame of all of them.

Reads `bench.records` and `bench.store` only; numpy and pandas are the heaviest imports, so
leaderboards rebuild on a laptop in a second.
"""

import json
import re
from typing import Any

import pandas as pd

from bench import spec
from bench.records import CELLS, Metric, Result
from bench.store import Store

MINI_NOTE = (
    "The mini benchmark is a benchmark of the harness, not of the methods: its scores show that "
    "everything runs and ranks, never how good a method is."
)

# The words of a metric in a heading or on an axis; an unknown name is shown as it is.
METRIC_WORDS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "accuracy": "accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "miou": "mIoU",
    "map": "mAP",
    "ap": "AP",
    "ap_box": "box AP",
    "ap_mask": "mask AP",
    "corloc": "CorLoc",
    "jf_mean": "J&F",
    "j_mean": "J",
    "f_mean": "F",
    "jaccard": "Jaccard",
    "success": "success rate",
    "success_rate": "success rate",
    "abs_rel": "absolute relative error",
    "rmse": "RMSE",
    "mae": "mean absolute error",
}

# Words in a metric's name that mean "smaller is better"; every other metric grows with quality.
ERROR_WORDS = frozenset(
    {
        "error",
        "err",
        "loss",
        "rmse",
        "mse",
        "mae",
        "rel",
        "absrel",
        "silog",
        "distance",
        "perplexity",
    }
)

_CHOSEN_ON_TEST = re.compile(r"(select|chosen|best).{0,40}\btest\b|\btest\b.{0,20}select", re.I)

FRAME_COLUMNS = (
    "model",
    "method",
    "arch",
    "family",
    "baseline",
    "pretrain_dataset",
    "pretrain_images",
    "epochs",
    "effective_epochs",
    "views_seen",
    "pretrain_seed",
    "task",
    "task_version",
    "task_spec",
    "protocol",
    "dataset",
    "manifest",
    "metric",
    "headline",
    "value",
    "low",
    "high",
    "n",
    "interval",
    "seed",
    "selected_on_test",
    "seconds",
    "weights",
    "identity",
)


def metric_words(name: str) -> str:
    """The metric's name as a person would say it."""
    return METRIC_WORDS.get(name.lower(), name.replace("_", " "))


def lower_is_better(metric: str) -> bool:
    """True for errors and distances.

    A stored metric carries no direction, so it is read from the name: any word of `ERROR_WORDS`.
    """
    return not ERROR_WORDS.isdisjoint(metric.lower().split("_"))


def dataset_of(result: Result) -> str:
    """The data set a result was measured on, in canonical spec text (`"imagenet1k[n=100]"`)."""
    return spec.parse(result.task_spec).dataset_text


def is_mini(result: Result) -> bool:
    """True when the result was measured on a part of the built-in mini benchmark."""
    return any(part.name.startswith("mini") for part in spec.parse(result.task_spec).dataset)


def selected_on_test(result: Result) -> bool:
    """True when something was chosen by looking at the split that is reported.

    Three places can say so, and one is enough: a protocol field `selection` (or `select`,
    `selected_on`) that is `test` or `best`; a headline metric named `best_*` or `*_test_selected`;
    a warning that speaks of selecting on the test split.
    """
    fields = result.identity.fields
    for key in ("selection", "select", "selected_on", "report"):
        if str(fields.get(key, "")).lower() in {"test", "best", "test_best"}:
            return True
    headline = result.headline.lower()
    if headline.startswith("best_") or headline.endswith(("_best", "test_selected")):
        return True
    return any(_CHOSEN_ON_TEST.search(text) for text in result.warnings)


def pretraining(result: Result) -> dict[str, Any]:
    """The pre-training record, or an empty dict for a model without one."""
    return result.model.get("pretrain") or {}


def protocol_text(result: Result) -> str:
    """The non-default protocol fields as canonical JSON: equal text, equal protocol."""
    fields = {key: value for key, value in result.identity.fields.items() if key != CELLS}
    return json.dumps(fields, sort_keys=True, default=str)


def frame(store: Store) -> pd.DataFrame:
    """One row for each result and metric, with the columns of `FRAME_COLUMNS`.

    Values are unrounded and unscaled (an accuracy is in [0, 1]). `headline` marks the one metric of
    each result that the leaderboard shows; `baseline` marks models without a pre-training record.
    """
    rows = [
        _tidy(result, name, metric)
        for result in store.results()
        for name, metric in result.metrics.items()
    ]
    return pd.DataFrame(rows, columns=list(FRAME_COLUMNS))


def _tidy(result: Result, name: str, metric: Metric) -> dict[str, Any]:
    model, identity, trained = result.model, result.identity, pretraining(result)
    return {
        "model": model["name"],
        "method": model.get("method"),
        "arch": model.get("arch"),
        "family": model.get("family"),
        "baseline": not trained,
        "pretrain_dataset": trained.get("dataset"),
        "pretrain_images": trained.get("images"),
        "epochs": trained.get("epochs"),
        "effective_epochs": trained.get("effective_epochs"),
        "views_seen": trained.get("views_seen"),
        "pretrain_seed": trained.get("seed"),
        "task": identity.task,
        "task_version": identity.task_version,
        "task_spec": result.task_spec,
        "protocol": protocol_text(result),
        "dataset": dataset_of(result),
        "manifest": identity.dataset,
        "metric": name,
        "headline": name == result.headline,
        "value": metric.value,
        "low": metric.low,
        "high": metric.high,
        "n": metric.n,
        "interval": metric.interval,
        "seed": identity.seed,
        "selected_on_test": selected_on_test(result),
        "seconds": result.cost.get("seconds"),
        "weights": identity.weights,
        "identity": identity.digest,
    }

"""What one stored result says about its cell.

Reads `bench` only; numpy is the heaviest import, so leaderboards rebuild on a laptop in a second.
"""

import re
from functools import lru_cache
from typing import Any

from bench import spec
from bench.summary import Scored, Setting, setting_of

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


def metric_words(name: str) -> str:
    """The metric's name as a person would say it."""
    return METRIC_WORDS.get(name.lower(), name.replace("_", " "))


def lower_is_better(metric: str) -> bool:
    """True for errors and distances.

    A stored metric carries no direction, so it is read from the name: any word of `ERROR_WORDS`.
    """
    return not ERROR_WORDS.isdisjoint(metric.lower().split("_"))


def dataset_of(result: Scored) -> str:
    """The data set a result was measured on, in canonical spec text (`"imagenet1k[n=100]"`)."""
    return spec.parse(result.task_spec).dataset_text


def is_mini(result: Scored) -> bool:
    """True when the result was measured on a part of the built-in mini benchmark."""
    return any(part.name.startswith("mini") for part in spec.parse(result.task_spec).dataset)


def selected_on_test(result: Scored) -> bool:
    """True when something was chosen by looking at the split that is reported.

    Three places can say so, and one is enough: a protocol field `selection` (or `select`,
    `selected_on`) that is `test` or `best`; a headline metric named `best_*` or `*_test_selected`;
    a warning that speaks of selecting on the test split.
    """
    return chosen_on_test(setting_of(result))


@lru_cache(maxsize=10_000)  # a board asks for each of its cells, and few settings make many
def chosen_on_test(setting: Setting) -> bool:
    """As `selected_on_test`, for all results of one setting."""
    for key in ("selection", "select", "selected_on", "report"):
        if str(setting.fields.get(key, "")).lower() in {"test", "best", "test_best"}:
            return True
    headline = setting.measurement.headline.lower()
    if headline.startswith("best_") or headline.endswith(("_best", "test_selected")):
        return True
    return any(_CHOSEN_ON_TEST.search(text) for text in setting.warnings)


def pretraining(result: Scored) -> dict[str, Any]:
    """The pre-training record, or an empty dict for a model without one."""
    return result.model.get("pretrain") or {}


def protocol_text(result: Scored) -> str:
    """The non-default protocol fields as canonical JSON: equal text, equal protocol."""
    return setting_of(result).measurement.protocol

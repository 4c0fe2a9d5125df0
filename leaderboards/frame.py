"""The tidy frame of a store: one row for each result and metric."""

from typing import TYPE_CHECKING, Any, Unpack

from bench.index import summaries
from bench.records import Metric
from bench.store import Store
from bench.summary import Summary
from leaderboards.cells import dataset_of, pretraining, protocol_text, selected_on_test
from leaderboards.selection import Filters, keep

if TYPE_CHECKING:
    import pandas as pd

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


def frame(store: Store, **filters: Unpack[Filters]) -> "pd.DataFrame":
    """One row for each result and metric, with the columns of `FRAME_COLUMNS`.

    Values are unrounded and unscaled (an accuracy is in [0, 1]). `headline` marks the one metric of
    each result that the leaderboard shows; `baseline` marks models without a pre-training record.
    """
    import pandas as pd

    rows = [
        _tidy(result, name, metric)
        for result in keep(summaries(store), **filters)
        for name, metric in result.metrics.items()
    ]
    return pd.DataFrame(rows, columns=list(FRAME_COLUMNS))


def _tidy(result: Summary, name: str, metric: Metric) -> dict[str, Any]:
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
        "seconds": result.seconds,
        "weights": identity.weights,
        "identity": identity.digest,
    }

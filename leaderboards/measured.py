"""The numbers of a table's cells, from the results of its rows: scores, means, ratios, gains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.records import Metric
from bench.spec import parse
from bench.summary import Scored
from leaderboards.cells import lower_is_better, pretraining
from leaderboards.paper import Column, FlopsRatio, Gain, Parameters, Scale, Score, Table


@dataclass(frozen=True)
class Value:
    """A number of ours in printed units, with its 95 % interval and the range of its seeds."""

    value: float
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, float] | None = None
    results: tuple[Scored, ...] = ()


def specs_of(column: Column, scale: Scale) -> list[str]:
    """Task specs that a column reads at a scale, in canonical text."""
    scores = column.measure if isinstance(column.measure, tuple) else (column.measure,)
    texts = [
        score.spec if scale == "paper" else score.mini
        for score in scores
        if isinstance(score, Score)
    ]
    return [str(parse(text)) for text in texts if text]


def values_of(table: Table, scale: Scale, own: Sequence[Scored]) -> dict[int, Value]:
    """Position of the column -> number, of the columns that read scores."""
    found = {}
    for position, column in enumerate(table.columns):
        scores = column.measure if isinstance(column.measure, tuple) else (column.measure,)
        parts = [_score(s, column, scale, own) for s in scores if isinstance(s, Score)]
        whole = [part for part in parts if part is not None]
        if whole and len(whole) == len(scores):
            found[position] = whole[0] if len(whole) == 1 else _mean(whole)
    return found


def _score(score: Score, column: Column, scale: Scale, own: Sequence[Scored]) -> Value | None:
    """The mean over the seeds of one metric of one task."""
    text = score.spec if scale == "paper" else score.mini
    if not text:
        return None
    spec = str(parse(text))
    fitting = [r for r in own if r.task_spec == spec and score.metric in r.metrics]
    if not fitting:
        return None
    # Older versions of the task, or parts of the data, do not count where newer and larger are.
    newest = max((r.identity.task_version, r.metrics[score.metric].n or 0) for r in fitting)
    chosen = [
        r for r in fitting if (r.identity.task_version, r.metrics[score.metric].n or 0) == newest
    ]
    metrics = [r.metrics[score.metric] for r in chosen]
    factor = column.scale if column.scale is not None else _factor(score.metric, metrics)
    values = [metric.value * factor for metric in metrics]
    lows = [m.low * factor for m in metrics if m.low is not None]
    highs = [m.high * factor for m in metrics if m.high is not None]
    whole = len(lows) == len(highs) == len(values)
    return Value(
        float(np.mean(values)),
        float(np.mean(lows)) if whole else None,
        float(np.mean(highs)) if whole else None,
        (min(values), max(values)) if len(values) > 1 else None,
        tuple(chosen),
    )


def _factor(name: str, metrics: Sequence[Metric]) -> float:
    rate = not lower_is_better(name) and all(-1 <= metric.value <= 1 for metric in metrics)
    return 100.0 if rate else 1.0


def _mean(parts: Sequence[Value]) -> Value:
    """The mean of independent measurements; half-widths add in squares."""
    value = float(np.mean([part.value for part in parts]))
    results = tuple(result for part in parts for result in part.results)
    ends = [(p.low, p.high) for p in parts if p.low is not None and p.high is not None]
    if len(ends) < len(parts):
        return Value(value, results=results)
    half = math.sqrt(sum(((high - low) / 2) ** 2 for low, high in ends)) / len(parts)
    return Value(value, value - half, value + half, results=results)


def derived(
    table: Table,
    column: Column,
    own: Sequence[Scored],
    values: Mapping[int, Value],
    others: Sequence[Scored],
    base: Mapping[int, Value],
) -> Value | None:
    """What is computed from records and other columns.

    Args:
        table: whose columns a gain names.
        column: what is asked for.
        own: results of the row's model.
        values: its numbers, by position of the column.
        others: results of the row that the column is relative to.
        base: its numbers.
    """
    measure = column.measure
    if isinstance(measure, Parameters):
        count = own[0].model.get("parameters")
        return Value(count / 1e6) if isinstance(count, int) else None
    if isinstance(measure, FlopsRatio):
        mine, theirs = (_flops(results, measure.per) for results in (own, others))
        if not mine or not theirs:
            return None
        return Value(theirs / mine if measure.inverse else mine / theirs)
    if isinstance(measure, Gain):
        names = [c.name for c in table.columns]
        places = [names.index(name) for name in measure.columns]
        pairs = [(values.get(place), base.get(place)) for place in places]
        whole = [(a.value, b.value) for a, b in pairs if a and b and b.value]
        if len(whole) < len(places):
            return None
        return Value(float(np.mean([100 * (a / b - 1) for a, b in whole])))
    return None


def _flops(results: Sequence[Scored], per: str) -> float | None:
    """Pre-training FLOPs of the first result's model, whole or of one image."""
    if not results:
        return None
    trained = pretraining(results[0])
    flops, images, epochs = (trained.get(key) for key in ("flops", "images", "epochs"))
    if per == "run" or not flops:
        return flops or None
    return float(flops) / (images * epochs) if images and epochs else None

"""The numbers of a table's cells, from the results of its rows: scores, means, ratios, gains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.spec import parse
from bench.summary import Scored, Summary, as_summary, number
from leaderboards.aggregation import Cell, aggregate
from leaderboards.budget import recorded
from leaderboards.cells import lower_is_better
from leaderboards.paper import Column, FlopsRatio, Gain, Parameters, Scale, Score, Table


@dataclass(frozen=True)
class Value:
    """A number of ours, in printed units.

    Attributes:
        value: of several seeds, the mean over pre-trainings of the means over evaluation seeds.
        low: lower end of the 95 % interval over the test samples; None where there is none.
        high: upper end.
        seeds: smallest and largest of several results; None for a single one.
        selected_on_test: something was chosen by looking at the split that is reported.
        results: what was read, all seeds; each has the metric as its headline.
    """

    value: float
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, float] | None = None
    selected_on_test: bool = False
    results: tuple[Summary, ...] = ()


def scores_of(column: Column) -> tuple[Score, ...]:
    """The scores that a column reads: one, several whose mean it is, or none."""
    if isinstance(column.measure, tuple):
        return column.measure
    return (column.measure,) if isinstance(column.measure, Score) else ()


def specs_of(column: Column, scale: Scale) -> list[str]:
    """Task specs that a column reads at a scale, in canonical text."""
    return [str(parse(text)) for score in scores_of(column) if (text := _text(score, scale))]


def values_of(table: Table, scale: Scale, own: Sequence[Scored]) -> dict[int, Value]:
    """Position of the column -> number, of the columns that read scores."""
    found = {}
    for position, column in enumerate(table.columns) if own else ():
        scores = scores_of(column)
        parts = [_value(score, column, scale, own) for score in scores]
        whole = [part for part in parts if part is not None]
        if whole and len(whole) == len(scores):  # half a mean is none
            found[position] = whole[0] if len(whole) == 1 else _mean(whole)
    return found


def _text(score: Score, scale: Scale) -> str:
    return score.spec if scale == "paper" else score.mini


def _value(score: Score, column: Column, scale: Scale, own: Sequence[Scored]) -> Value | None:
    """One metric of one task, over all seeds."""
    if not (text := _text(score, scale)):
        return None
    spec = str(parse(text))
    fitting = [as_summary(result) for result in own if result.task_spec == spec]
    known = _alike([one for r in fitting if (one := r.headed(score.metric)) is not None])
    if not known:
        return None
    cell = aggregate(known)
    factor = column.scale if column.scale is not None else _factor(score.metric, cell)
    return Value(
        cell.value * factor,
        None if cell.low is None else cell.low * factor,
        None if cell.high is None else cell.high * factor,
        (cell.seed_low * factor, cell.seed_high * factor) if cell.seeds > 1 else None,
        cell.selected_on_test,
        cell.results,
    )


def _alike(results: Sequence[Summary]) -> list[Summary]:
    """Those that measured the same: the newest version, on most samples, as plainly as possible.

    Full precision is plainer than half, and all images plainer than all but the unreadable ones.
    """

    def rank(result: Summary) -> tuple[int, int, int, str]:
        of = result.setting.measurement
        return of.version, result.n or 0, -len(of.protocol), of.manifest

    best = max(map(rank, results), default=None)
    return [result for result in results if rank(result) == best]


def _factor(metric: str, cell: Cell) -> float:
    """100 for rates, which papers print in percent."""
    rate = not lower_is_better(metric) and -1 <= cell.seed_low <= cell.seed_high <= 1
    return 100.0 if rate else 1.0


def _mean(parts: Sequence[Value]) -> Value:
    """The mean of independent measurements; half-widths add in squares."""
    value = float(np.mean([part.value for part in parts]))
    selected = any(part.selected_on_test for part in parts)
    results = tuple(result for part in parts for result in part.results)
    whole = Value(value, selected_on_test=selected, results=results)
    ends = [(p.low, p.high) for p in parts if p.low is not None and p.high is not None]
    if len(ends) < len(parts):
        return whole
    half = math.sqrt(sum(((high - low) / 2) ** 2 for low, high in ends)) / len(parts)
    return replace(whole, low=value - half, high=value + half)


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
    if not own:
        return None
    if isinstance(measure, Parameters):
        count = number(own[0].model.get("parameters"))
        return None if count is None else Value(count / 1e6)
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
    flops, images, epochs = (recorded(results[0], key) for key in ("flops", "images", "epochs"))
    if per == "run" or not flops:
        return flops
    return flops / (images * epochs) if images and epochs else None

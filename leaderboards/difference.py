"""How far apart two cells are on the same samples, from what their outcomes keep of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.paired_stats import (
    ALPHA,
    detectable_mean,
    detectable_rate,
    mcnemar_exact,
    mcnemar_mid,
    tango,
    unpaired,
)
from bench.records import Metric, Outcome, Result
from bench.resampling import Estimate, Floats, Ratio, studentised
from leaderboards.pixel_sums import Contrast, MeanIoU, pixel_rows

SAME = 1e-6  # what is made of an outcome is the stored headline up to this
GROUPS = ("video", "group")  # columns whose equal values make samples no independent draws

#: Tasks whose ids tell the group.
GROUP_OF_ID: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"davis": lambda id_: id_.rpartition("/")[0]}
)


class Cell(NamedTuple):
    """A result with its samples."""

    result: Result
    outcome: Outcome

    @property
    def metric(self) -> Metric:
        """The headline."""
        return self.result.metrics[self.result.headline]


class Misfit(Exception):
    """Why two cells cannot be compared, in words."""


@dataclass(frozen=True)
class Difference:
    """First minus second, of one pair of cells or the mean over several.

    Attributes:
        value: of the headline.
        method: `mcnemar`; `bootstrap-t` or `t` over samples or groups of them; `unpaired` where the
            outcomes do not tell the samples' shares; empty without a test.
        n: samples that count.
        groups: of samples that are drawn together; 0 where each is drawn alone.
        low: end of the 95 % interval; None without a test.
        high: the other end.
        p: two-sided, not corrected.
        exact_p: of McNemar's exact test.
        discordant: samples that the first alone has right, and that the second alone has.
        error: standard error, where the method has one.
    """

    value: float
    method: str = ""
    n: int = 0
    groups: int = 0
    low: float | None = None
    high: float | None = None
    p: float | None = None
    exact_p: float | None = None
    discordant: tuple[int, int] | None = None
    error: float = 0.0

    @property
    def turned(self) -> Difference:
        """Second minus first."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        discordant = self.discordant and (self.discordant[1], self.discordant[0])
        return replace(self, value=-self.value, low=low, high=high, discordant=discordant)

    def detectable(self, alpha: float = ALPHA) -> float | None:
        """The difference that the test would see in four of five cases, at this level."""
        if self.discordant is not None:
            return detectable_rate(sum(self.discordant), self.n, alpha)
        return detectable_mean(self.error, self.groups or self.n, alpha) if self.error else None


def aligned(first: Cell, second: Cell) -> tuple[Cell, Cell]:
    """Both with their samples in the order of the ids; `Misfit` where these are not the same."""
    one, other = (Cell(cell.result, _sorted(cell.outcome)) for cell in (first, second))
    ids, theirs = one.outcome.columns["id"], other.outcome.columns["id"]
    if not np.array_equal(ids, theirs):
        raise Misfit(
            f"not the same samples: A has {len(ids):,} and B {len(theirs):,}, of which "
            f"{len(np.intersect1d(ids, theirs)):,} are the same"
        )
    mine, theirs = (cell.outcome.columns.get("target", ids) for cell in (one, other))
    if not np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == theirs.dtype.kind == "f"):
        raise Misfit("not the same targets: the labels were changed between the two")
    return one, other


def difference(pairs: Sequence[tuple[Cell, Cell]]) -> Difference:
    """The mean over pairs of aligned cells of first minus second, with the test that fits.

    Statistics of the outcomes are used only where they give the headlines that are stored. All
    pairs have the same samples: these are what is drawn, however many pairs there are.

    Raises:
        Misfit: on one side other samples count than on the other.
    """
    cells = [cell for pair in pairs for cell in pair]
    groups = _groups(cells[0])
    if (values := _values(cells)) is not None:
        counts = ~np.isnan(values[0])
        return _of_values(values[:, counts], None if groups is None else groups[counts])
    if (rows := _pixels(cells)) is not None:
        table = np.concatenate(rows, axis=1)
        counts = table.any(axis=1)
        statistic = Contrast([MeanIoU.of(part) for part in rows])
        return _of_sums(table[counts], statistic, None if groups is None else groups[counts])
    return _of_intervals(pairs)


def _values(cells: Sequence[Cell]) -> Floats | None:
    """(cells, n) values of the samples, if their means are the headlines; NaN does not count."""
    found = []
    for cell in cells:
        column = cell.outcome.columns.get("value")
        if column is None or column.ndim != 1 or column.dtype.kind not in "fbiu":
            return None
        values = column.astype(np.float64)
        if np.isnan(values).all() or not _gives(cell, float(np.nanmean(values))):
            return None
        found.append(values)
    table = np.stack(found)
    counts = ~np.isnan(table)
    if (counts != counts[0]).any():
        ends = counts.sum(axis=1)
        raise Misfit(f"not the same samples count: {ends.min():,} in one and {ends.max():,}")
    return table


def _pixels(cells: Sequence[Cell]) -> list[Floats] | None:
    """(n, 3 * classes) pixels of each cell, if their mIoU is the headline."""
    found = []
    for cell in cells:
        rows = pixel_rows(cell.outcome)
        if rows is None or not _gives(cell, float(MeanIoU.of(rows).value(rows.sum(axis=0)))):
            return None
        found.append(rows)
    return found if len({rows.shape for rows in found}) == 1 else None


def _gives(cell: Cell, value: float) -> bool:
    return abs(value - cell.metric.value) <= SAME * max(1.0, abs(value))


def _of_values(values: Floats, groups: npt.NDArray[np.int64] | None) -> Difference:
    """From values (2 * pairs, n), the first and the second of each pair in turn."""
    if len(values) == 2 and groups is None and np.isin(values, (0.0, 1.0)).all():
        only = int((values[0] > values[1]).sum()), int((values[0] < values[1]).sum())
        n = values.shape[1]
        value, (low, high) = (only[0] - only[1]) / n, tango(*only, n)
        p = mcnemar_mid(*only), mcnemar_exact(*only)
        return Difference(value, "mcnemar", n, 0, low, high, *p, discordant=only)
    shift = (values[::2] - values[1::2]).mean(axis=0)  # (n,)
    return _of_sums(np.stack([shift, np.ones_like(shift)], axis=1), Ratio(), groups)


def _of_sums(
    rows: Floats, statistic: Ratio | Contrast, groups: npt.NDArray[np.int64] | None
) -> Difference:
    n = len(rows)
    if groups is not None:
        names, places = np.unique(groups, return_inverse=True)
        samples, rows = rows, np.zeros((len(names), rows.shape[1]))
        np.add.at(rows, places, samples)
    found: Estimate = studentised(rows, statistic)
    drawn = 0 if groups is None else len(rows)
    return Difference(
        *(found.value, found.method, n, drawn, found.low, found.high, found.p), error=found.error
    )


def _of_intervals(pairs: Sequence[tuple[Cell, Cell]]) -> Difference:
    """As if the samples were not the same; over several pairs the mean of their intervals."""
    n = min(cell.metric.n or 0 for pair in pairs for cell in pair)
    gap = float(np.mean([one.metric.value - other.metric.value for one, other in pairs]))
    sides = [_mean_metric([pair[side].metric for pair in pairs]) for side in (0, 1)]
    found = None if sides[0] is None or sides[1] is None else unpaired(sides[0], sides[1])
    if found is None:
        return Difference(gap, n=n)
    low, high, p = found
    return Difference(gap, "unpaired", n, 0, low, high, p, error=(high - low) / (2 * 1.959964))


def _mean_metric(metrics: Sequence[Metric]) -> Metric | None:
    """Value and interval averaged, for seeds share the samples; None without intervals."""
    ends = [(one.value, one.low, one.high) for one in metrics if None not in (one.low, one.high)]
    if len(ends) < len(metrics):
        return None
    return Metric(*np.mean(np.array(ends, dtype=np.float64), axis=0).tolist())


def _groups(cell: Cell) -> npt.NDArray[np.int64] | None:
    """(n,) number of the group of each sample; None where each is a group of its own."""
    columns = cell.outcome.columns
    names = next((columns[name] for name in GROUPS if name in columns), None)
    if names is None:
        of_id = GROUP_OF_ID.get(cell.result.identity.task)
        if of_id is None:
            return None
        names = np.array([of_id(str(id_)) for id_ in columns["id"]])
    found, places = np.unique(names, return_inverse=True)
    return None if len(found) == len(columns["id"]) else np.asarray(places, dtype=np.int64)


def _sorted(outcome: Outcome) -> Outcome:
    order = np.argsort(outcome.columns["id"], kind="stable")
    columns = {name: column[order] for name, column in outcome.columns.items()}
    return Outcome(columns, outcome.extras)

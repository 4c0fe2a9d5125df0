"""Two models, task by task: how far apart on the same samples, and whether by more than chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.errors import StoreError
from bench.paired_stats import ALPHA, Spread, holm, over_seeds
from bench.records import Result
from bench.store import Store
from leaderboards.cells import selected_on_test
from leaderboards.columns import Column, ColumnKey, columns_of
from leaderboards.difference import Cell, Difference, Misfit, aligned, difference
from leaderboards.pairing import Pair, Side, apart, pair_label, paired, sides
from leaderboards.selection import keep


@dataclass(frozen=True)
class Line:
    """The two models on one task.

    Attributes:
        column: the task and how its numbers are printed.
        first: A's score, the mean over seeds.
        second: B's.
        gain: by how much A is better: above 0 also where an error of A's is the smaller one.
        seeds: for each pair of seeds its label and its gain.
        notes: what limits the comparison, in words.
        adjusted_p: Holm's, over all tasks; None without a test.
        detectable: the smallest gain that would have been seen in four of five cases, had it been
            on this task alone; None where it is not known.
    """

    column: Column
    first: float
    second: float
    gain: Difference
    seeds: tuple[tuple[str, float], ...]
    notes: tuple[str, ...] = ()
    adjusted_p: float | None = None
    detectable: float | None = None

    @property
    def verdict(self) -> str:
        """`A`, `B`, `none` where no difference is seen, or `unknown` without a test."""
        if self.adjusted_p is None:
            return "unknown"
        if self.adjusted_p > ALPHA:
            return "none"
        return "A" if self.gain.value > 0 else "B"

    @property
    def spread(self) -> Spread | None:
        """Of the gain over pairs of seeds."""
        return over_seeds([gain for _, gain in self.seeds])


@dataclass(frozen=True)
class Comparison:
    """Two models on the tasks that both have.

    Attributes:
        first: name of A.
        second: name of B.
        lines: a line a task.
        refused: tasks of both that cannot be compared, and why.
        alone: tasks that only A has, and that only B has.
        problems: results of the store that could not be read.
    """

    first: str
    second: str
    lines: tuple[Line, ...]
    refused: tuple[tuple[str, str], ...]
    alone: tuple[tuple[str, ...], tuple[str, ...]]
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values, numbers unrounded and unscaled."""
        return {
            "A": self.first,
            "B": self.second,
            "tasks": [_line_json(line) for line in self.lines],
            "not_compared": [{"task": task, "why": why} for task, why in self.refused],
            "only_A": list(self.alone[0]),
            "only_B": list(self.alone[1]),
            "problems": list(self.problems),
        }


def compare(
    store: Store, first: str, second: str, tasks: Sequence[str] | None = None
) -> Comparison:
    """A and B on each task that both have, with paired tests.

    Args:
        store: of the results.
        first: A, as `leaderboards.cell.of_model` finds models.
        second: B.
        tasks: only these, by name, spec or pattern.

    Raises:
        StoreError: no such model or task.
        SpecError: both names are of one model.
    """
    one, other = sides(store, first, second)
    problems = list(store.problems)
    if tasks:
        kept = {id(result) for result in keep([*one.results, *other.results], tasks=tasks)}
        one, other = (
            Side(side.name, [result for result in side.results if id(result) in kept])
            for side in (one, other)
        )
    mine, theirs = one.by_column, other.by_column
    common = {key: [*mine[key], *theirs[key]] for key in mine if key in theirs}
    lines, refused = [], apart(one, other)
    for key, column in columns_of([result for rows in common.values() for result in rows]).items():
        try:
            lines.append(_line(store, column, paired(mine[key], theirs[key])))
        except (Misfit, StoreError) as error:
            refused.append((column.label, str(error)))
            problems += [str(error)] * isinstance(error, StoreError)
    alone = _alone(mine, theirs), _alone(theirs, mine)
    return Comparison(one.name, other.name, _tested(lines), tuple(refused), alone, tuple(problems))


def cells(store: Store, pair: Pair) -> tuple[Cell, Cell]:
    """Both with their samples; `Misfit` where they have not the same ones."""
    one, other = (Cell(result, store.outcome(result)) for result in pair)
    return aligned(one, other)


def _line(store: Store, column: Column, pairs: Sequence[Pair]) -> Line:
    """A line without what depends on the other ones."""
    found = [cells(store, pair) for pair in pairs]
    sign = -1 if column.lower_is_better else 1
    gaps = [sign * (one.metric.value - other.metric.value) for one, other in found]
    gap = difference(found)
    first, second = (float(np.mean([pair[side].metric.value for pair in found])) for side in (0, 1))
    labels = [pair_label(pair) for pair in pairs]
    gain = gap.turned if column.lower_is_better else gap
    line = Line(column, first, second, gain, tuple(zip(labels, gaps, strict=True)))
    return replace(line, notes=tuple(_notes(line, pairs)))


def _notes(line: Line, pairs: Sequence[Pair]) -> list[str]:
    """What limits the comparison."""
    gain, notes = line.gain, []
    if gain.groups:
        notes.append(f"its {gain.n:,} samples come in {gain.groups:,} groups: these are drawn")
    if gain.method == "unpaired":
        notes.append("the outcomes do not tell the share of each sample: not paired, too cautious")
    if not gain.method:
        notes.append("no test: too few samples, or no intervals")
    if gain.method == "t" and gain.p != 1:
        notes.append("few samples, or few that differ: Student's t-test instead of the bootstrap")
    for name, side in zip("AB", zip(*pairs, strict=True), strict=True):
        if any(map(selected_on_test, side)):
            notes.append(f"{name} was chosen on the data that it is scored on")
    return notes


def _tested(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines with what depends on how many tests there are.

    What could have been seen is told at Holm's strictest level, which a difference has to pass that
    is the only one among all tasks.
    """
    tested = [line.gain.p for line in lines if line.gain.p is not None]
    adjusted = iter(holm(tested))
    return tuple(
        line
        if line.gain.p is None
        else replace(
            line,
            adjusted_p=next(adjusted),
            detectable=line.gain.detectable(ALPHA / len(tested)),
        )
        for line in lines
    )


def _alone(
    mine: dict[ColumnKey, list[Result]], theirs: dict[ColumnKey, list[Result]]
) -> tuple[str, ...]:
    specs, others = (
        {result.task_spec for rows in side.values() for result in rows} for side in (mine, theirs)
    )
    return tuple(sorted(specs - others))


def _line_json(line: Line) -> dict[str, Any]:
    gain, spread = line.gain, line.spread
    return {
        "task": line.column.label,
        "metric": line.column.metric,
        "lower_is_better": line.column.lower_is_better,
        "n": gain.n,
        "groups": gain.groups or None,
        "A": line.first,
        "B": line.second,
        "gain": gain.value,
        "low": gain.low,
        "high": gain.high,
        "p": gain.p,
        "exact_p": gain.exact_p,
        "adjusted_p": line.adjusted_p,
        "verdict": line.verdict,
        "detectable": line.detectable,
        "method": gain.method,
        "only_A_right": gain.discordant[0] if gain.discordant else None,
        "only_B_right": gain.discordant[1] if gain.discordant else None,
        "seeds": [{"seeds": label, "gain": value} for label, value in line.seeds],
        "over_seeds": None if spread is None else dataclasses.asdict(spread),
        "notes": list(line.notes),
    }

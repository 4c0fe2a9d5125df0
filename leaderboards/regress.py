"""The verdict of a regression gate: cells now against a recorded baseline, beyond noise or not.

What counts as noise:

- the sampling of the evaluation set, paired where both sides have the value of each sample;
- the spread over pre-training seeds, where the matrix names at least two of them: on another
  processor a training goes another way, as with another seed. A model trained with one seed shows
  nothing of that spread, and its verdict says so.

Differences are judged by a t-test with Welch's degrees of freedom, two-sided, with Holm's
correction over the cells.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from bench.paired_stats import holm
from leaderboards.baseline import Recorded
from leaderboards.cells import lower_is_better

LEVEL = 0.05

Verdict = Literal["same", "better", "worse", "gone", "changed", "new"]


@dataclass(frozen=True)
class Change:
    """What became of one cell, over its seeds.

    Attributes:
        model: see `Recorded`.
        task: likewise.
        metric: likewise, as `headline`.
        verdict: `worse` and `better` are beyond noise; `gone` was not measured now; `changed` is no
            longer the same protocol or data; `new` is not in the baseline.
        before: mean over the seeds, of the baseline.
        now: mean over the seeds.
        low: 95 % interval of the difference; None where there is no noise to compare with.
        high: likewise.
        p: of the difference, corrected over all cells.
        note: what limits the verdict, in words.
    """

    model: str
    task: str
    metric: str
    verdict: Verdict
    before: float | None = None
    now: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    note: str = ""

    @property
    def fails(self) -> bool:
        """Whether the gate closes."""
        return self.verdict in ("worse", "gone", "changed")


def changes(before: Sequence[Recorded], now: Sequence[Recorded]) -> list[Change]:
    """What became of each cell, seeds together; worst first."""
    old, new = _groups(before), _groups(now)
    found = [_change(key, old.get(key, []), new.get(key, [])) for key in {**old, **new}]
    tested = [change for change in found if change.p is not None]
    corrected = holm([change.p for change in tested if change.p is not None])
    adjusted = {id(change): p for change, p in zip(tested, corrected, strict=True)}
    judged = [_judged(change, adjusted.get(id(change))) for change in found]
    order = ("worse", "gone", "changed", "better", "new", "same")
    return sorted(judged, key=lambda one: (order.index(one.verdict), one.model, one.task))


def _groups(cells: Sequence[Recorded]) -> dict[tuple[str, str], list[Recorded]]:
    groups: dict[tuple[str, str], list[Recorded]] = {}
    for cell in cells:
        groups.setdefault(cell.key, []).append(cell)
    return groups


def _change(key: tuple[str, str], old: list[Recorded], new: list[Recorded]) -> Change:
    """The change of one cell before the correction: `same` until it is judged."""
    model, task = key
    change = Change(model, task, (new or old)[0].headline, "same")
    before = {cell.seeds: cell for cell in old}
    now = {cell.seeds: cell for cell in new}
    if not old:
        return replace(change, verdict="new", now=_mean(new))
    if missing := before.keys() - now.keys():
        seeds = ", ".join(str(seed) for seed, _ in sorted(missing, key=str) if seed is not None)
        note = f"not measured now{f': seed {seeds}' if seeds and new else ''}"
        return replace(change, verdict="gone", before=_mean(old), note=note)
    pairs = [(before[seeds], now[seeds]) for seeds in before]
    change = replace(change, before=_mean([a for a, _ in pairs]), now=_mean([b for _, b in pairs]))
    for a, b in pairs:
        if (a.protocol, a.headline) != (b.protocol, b.headline):
            note = f"{a.headline}, {a.protocol} became {b.headline}, {b.protocol}: --update"
            return replace(change, verdict="changed", note=note)
    return _tested(change, pairs)


def _mean(cells: Sequence[Recorded]) -> float:
    return float(np.mean([cell.metric.value for cell in cells]))


def _tested(change: Change, pairs: Sequence[tuple[Recorded, Recorded]]) -> Change:
    """The change with its interval and p (uncorrected)."""
    from scipy import stats  # 0.2 s that reading a baseline need not pay

    assert change.before is not None
    assert change.now is not None
    difference = change.now - change.before
    sampling, freedom, notes = _sampling(pairs)
    trained = "@" in change.model
    spread, seeds = _spread(pairs) if trained else (0.0, 0)
    if trained and seeds < 2:
        notes.append("one seed: the spread of training is not in the noise")
    variance = sampling + spread
    if not variance:
        p = 1.0 if difference == 0 else 0.0
        return replace(change, p=p, note="; ".join(notes))
    parts = [(sampling, freedom), (spread, 2 * (seeds - 1))]
    welch = variance**2 / sum(part**2 / dof for part, dof in parts if part and dof)
    half = float(stats.t.ppf(0.975, welch)) * variance**0.5
    p = float(2 * stats.t.sf(abs(difference) / variance**0.5, welch))
    low, high = difference - half, difference + half
    return replace(change, low=low, high=high, p=p, note="; ".join(notes))


def _sampling(pairs: Sequence[tuple[Recorded, Recorded]]) -> tuple[float, float, list[str]]:
    """Variance of the mean difference due to the samples, its degrees of freedom, and remarks."""
    if all(a.ids and a.ids == b.ids for a, b in pairs):
        # Seeds share the samples: averaged sample by sample first, so that n is counted once.
        shift = np.mean([b.samples() - a.samples() for a, b in pairs], axis=0)  # (n,)
        if len(shift) > 1:
            return float(shift.var(ddof=1)) / len(shift), len(shift) - 1, []
    widths = [
        (cell.metric.high - cell.metric.low) / (2 * 1.959964)
        for pair in pairs
        for cell in pair
        if cell.metric.low is not None and cell.metric.high is not None
    ]
    if len(widths) < 2 * len(pairs):
        return 0.0, 0.0, ["no interval: any difference counts"]
    return 2 * float(np.mean(np.square(widths))), 1e6, ["not paired: from the intervals"]


def _spread(pairs: Sequence[tuple[Recorded, Recorded]]) -> tuple[float, int]:
    """Variance of the mean difference due to pre-training seeds, and their number."""
    sides: tuple[dict[int | None, list[float]], ...] = ({}, {})
    for pair in pairs:
        for side, cell in zip(sides, pair, strict=True):
            side.setdefault(cell.seed, []).append(cell.metric.value)
    seeds = len(sides[0])
    if seeds < 2:
        return 0.0, seeds
    pooled = np.mean([np.var([np.mean(v) for v in side.values()], ddof=1) for side in sides])
    return float(pooled) * 2 / seeds, seeds


def _judged(change: Change, p: float | None) -> Change:
    if p is None:
        return change
    assert change.before is not None
    assert change.now is not None
    rises = change.now > change.before
    verdict: Verdict = "same"
    if p < LEVEL:
        verdict = "worse" if rises == lower_is_better(change.metric) else "better"
    return replace(change, verdict=verdict, p=p)


def text(found: Sequence[Change]) -> str:
    """A line a cell, worst first, and the verdict."""
    heads = ("verdict", "model", "task", "metric", "before", "now", "difference", "p")
    lines = [heads, *(_line(change) for change in found)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    notes = dict.fromkeys(f"{c.model} {c.task}: {c.note}" for c in found if c.note)
    failing = sum(change.fails for change in found)
    end = (
        f"{failing} of {len(found)} cells failed"
        if failing
        else f"nothing beyond noise in {len(found)} cells"
        if all(change.verdict == "same" for change in found)
        else f"no cell is worse; `--update` records what changed among {len(found)}"
    )
    return "\n".join([shown[0], "-" * max(map(len, shown)), *shown[1:], "", *notes, end])


def as_json(found: Sequence[Change]) -> list[dict[str, Any]]:
    """The same for machines."""
    return [{**asdict(change), "fails": change.fails} for change in found]


def _line(change: Change) -> tuple[str, ...]:
    def show(value: float | None, signed: bool = False) -> str:
        return "-" if value is None else f"{value:{'+' if signed else ''}.4f}"

    both = change.before is not None and change.now is not None
    difference = show(change.now - change.before, signed=True) if both else "-"  # type: ignore[operator]
    if change.low is not None:
        difference += f" [{show(change.low, signed=True)}, {show(change.high, signed=True)}]"
    p = "-" if change.p is None else "<0.0001" if change.p < 1e-4 else f"{change.p:.4f}"
    numbers = (show(change.before), show(change.now), difference, p)
    return (change.verdict, change.model, change.task, change.metric, *numbers)

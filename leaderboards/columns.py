"""Which results may share a column: those that measured the same thing in the same way."""

from dataclasses import dataclass
from typing import NamedTuple

from bench import spec
from bench.records import Result
from leaderboards.cells import is_mini, lower_is_better, metric_words, protocol_text


class ColumnKey(NamedTuple):
    """What must be equal for two scores to stand in one column."""

    task: str
    version: int
    manifest: str
    headline: str
    protocol: str


@dataclass(frozen=True)
class Column:
    """One comparable measurement and how its numbers are printed."""

    label: str
    task: str
    dataset: str
    options: str
    version: int
    metric: str
    percent: bool
    lower_is_better: bool
    decimals: int
    mini: bool

    def show(self, value: float) -> str:
        """The number as printed: percent with one decimal for scores in [0, 1]."""
        return f"{value * (100 if self.percent else 1):.{self.decimals}f}"

    @property
    def unit(self) -> str:
        """Metric and unit for a heading, with an arrow where smaller is better."""
        words = metric_words(self.metric) + (" %" if self.percent else "")
        return f"{words} ↓" if self.lower_is_better else words


def column_key(result: Result) -> ColumnKey:
    """The column that `result` belongs to; the seed is not a part of it."""
    identity = result.identity
    return ColumnKey(
        task=identity.task,
        version=identity.task_version,
        manifest=identity.dataset,
        headline=result.headline,
        protocol=protocol_text(result),
    )


def columns_of(results: list[Result]) -> dict[ColumnKey, Column]:
    """The columns of `results`, in the order of their labels."""
    members: dict[ColumnKey, list[Result]] = {}
    for result in results:
        members.setdefault(column_key(result), []).append(result)
    labels = _labels({key: min(r.task_spec for r in found) for key, found in members.items()})
    return {
        key: _column(labels[key], members[key]) for key in sorted(members, key=labels.__getitem__)
    }


def _labels(labels: dict[ColumnKey, str]) -> dict[ColumnKey, str]:
    """`labels`, made distinct by saying what differs: version, data, metric or protocol."""
    for field, write in (
        ("version", "v{}"),
        ("manifest", "data {:.6}"),
        ("headline", "{}"),
        ("protocol", "{}"),
    ):
        twins: dict[str, list[ColumnKey]] = {}
        for key, label in labels.items():
            twins.setdefault(label, []).append(key)
        labels = {
            key: f"{label} {write.format(getattr(key, field))}"
            if len({getattr(twin, field) for twin in twins[label]}) > 1
            else label
            for key, label in labels.items()
        }
    return labels


def _column(label: str, results: list[Result]) -> Column:
    first = results[0]
    plain = min(result.task_spec for result in results)
    parsed = spec.parse(plain)
    options, differs = plain.partition("?")[2], label.removeprefix(plain).strip()
    metrics = [result.metrics[result.headline] for result in results]
    numbers = [
        number
        for metric in metrics
        for number in (metric.value, metric.low, metric.high)
        if number is not None
    ]
    lower = lower_is_better(first.headline)
    # A gap of two rates may be negative.
    percent = not lower and all(-1 <= number <= 1 for number in numbers)
    largest = max(map(abs, numbers), default=0.0)
    return Column(
        label=label,
        task=first.identity.task,
        dataset=parsed.dataset_text,
        options=f"{options} {differs}".strip(),
        version=first.identity.task_version,
        metric=first.headline,
        percent=percent,
        lower_is_better=lower,
        # Three significant digits for what is not a percentage.
        decimals=1 if percent or largest >= 10 else 2 if largest >= 1 else 3,
        mini=is_mini(first),
    )

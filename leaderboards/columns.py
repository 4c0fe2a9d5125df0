"""Which results may share a column: those that measured the same thing in the same way."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.summary import Measurement as ColumnKey
from bench.summary import Scored, Setting, Summary, as_summary, setting_of
from leaderboards.cells import dataset_of, is_mini, lower_is_better, metric_words

__all__ = ["Column", "ColumnKey", "column_key", "columns_of"]


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
        return f"{100 * value if self.percent else value:.{self.decimals}f}"

    @property
    def unit(self) -> str:
        """Metric and unit for a heading, with an arrow where smaller is better."""
        words = metric_words(self.metric) + (" %" if self.percent else "")
        return f"{words} ↓" if self.lower_is_better else words


def column_key(result: Scored) -> ColumnKey:
    """The column that `result` belongs to; the seed is not a part of it."""
    return setting_of(result).measurement


def columns_of(results: Iterable[Scored]) -> dict[ColumnKey, Column]:
    """The columns of `results`, in the order of their labels."""
    alike: dict[Setting, list[Summary]] = {}  # few, and quick to find
    for result in map(as_summary, results):
        alike.setdefault(result.setting, []).append(result)
    members: dict[ColumnKey, list[Summary]] = {}
    specs: dict[ColumnKey, str] = {}
    for setting, found in alike.items():
        key, spec = setting.measurement, setting.task_spec
        members.setdefault(key, []).extend(found)
        specs[key] = min(specs.get(key, spec), spec)
    labels = _labels(specs)
    return {
        key: _column(labels[key], specs[key], key, members[key])
        for key in sorted(members, key=labels.__getitem__)
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


def _column(label: str, plain: str, key: ColumnKey, results: Sequence[Summary]) -> Column:
    options, differs = plain.partition("?")[2], label.removeprefix(plain).strip()
    ends = [r.value for r in results]
    ends += [r.low for r in results if r.low is not None]
    ends += [r.high for r in results if r.high is not None]
    least, most = min(ends), max(ends)
    lower = lower_is_better(key.headline)
    # A gap of two rates may be negative.
    percent = not lower and least >= -1 and most <= 1
    largest = max(abs(least), abs(most))
    return Column(
        label=label,
        task=key.task,
        dataset=dataset_of(results[0]),
        options=f"{options} {differs}".strip(),
        version=key.version,
        metric=key.headline,
        percent=percent,
        lower_is_better=lower,
        # Three significant digits for what is not a percentage.
        decimals=1 if percent or largest >= 10 else 2 if largest >= 1 else 3,
        mini=is_mini(results[0]),
    )

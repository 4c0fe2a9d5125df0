"""The points of each method in a store, and the law through them: what a curve shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench import spec
from bench.errors import SpecError, SSLBenchError, StoreError, nearest
from bench.store import Store
from bench.summary import Summary
from leaderboards.cells import pretraining
from leaderboards.columns import Column, ColumnKey, column_key, columns_of
from leaderboards.models import without_seed
from leaderboards.power_law import PowerLaw, fit_power_law
from leaderboards.ranking import Cell, aggregate
from leaderboards.selection import keep, select

# What may stand on the x axis: the field of the pre-training record, and its words and unit.
AXES = {
    "images": "Pre-training images",
    "views_seen": "Views seen in pre-training",
    "epochs": "Pre-training epochs",
    "effective_epochs": "Effective pre-training epochs (pixels seen, in full-size views)",
    "flops": "Pre-training FLOPs",
}


@dataclass(frozen=True)
class Series:
    """One method's points in the order of x, and the law through them (None: none fits)."""

    label: str
    points: tuple[tuple[float, Cell], ...]
    law: PowerLaw | None


@dataclass(frozen=True)
class Curve:
    """What one picture shows: series over one axis, and the random-weights baseline."""

    column: Column
    x: str
    series: tuple[Series, ...]
    baseline: Cell | None

    @property
    def x_label(self) -> str:
        """The x axis in words."""
        return AXES.get(self.x, self.x.replace("_", " "))

    @property
    def log(self) -> bool:
        """Whether x can be drawn on a log scale: an option, such as a mask ratio, may be 0."""
        return all(x > 0 for series in self.series for x, _ in series.points)

    def table(self) -> pd.DataFrame:
        """The data and the fits in one frame; `kind` is point, baseline or law."""
        rows: list[dict[str, Any]] = []
        for series in self.series:
            rows += [
                {"series": series.label, self.x: x} | _point(cell) for x, cell in series.points
            ]
        if self.baseline is not None:
            rows.append({"series": "random weights"} | _point(self.baseline) | {"kind": "baseline"})
        for series in self.series:
            if (law := series.law) is not None:
                names = ("a", "a_stderr", "b", "b_stderr", "c", "c_stderr", "smallest", "largest")
                fitted = {name: getattr(law, name) for name in names}
                rows.append({"series": series.label, "kind": "law"} | fitted)
        table = pd.DataFrame(rows)
        # Counts stay counts beside rows that have none.
        whole = [name for name in ("seeds", self.x) if _counts(table[name].dropna())]
        return table.astype(dict.fromkeys(whole, "Int64"))


def points_of(
    store: Store,
    *,
    task: str,
    x: str = "images",
    methods: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
) -> Curve:
    """The points of each method in the store, with intervals, seeds and a fitted power law.

    A series is one method, architecture and pre-training dataset (its subsets together when `x` is
    images); seeds become one point. The law is fitted in the error rate, `fit_power_law`.

    Args:
        task: a task name, a whole spec, or a column's label on the board.
        x: one of `AXES`.
        methods: keep these methods only, by name.
        models: keep these models only, by name or pattern.

    Raises:
        StoreError: an unknown task, axis or method; no series with two values of `x`; two different
            checkpoints that claim the same point.
    """
    if x not in AXES:
        raise StoreError(f"no axis {x!r}; {nearest(x, AXES)}")
    results, column = _in_column(select(store), task)
    baselines = [r for r in results if is_random(r)]
    trained = [r for r in results if pretraining(r).get(x)]
    trained = keep(_of_methods(trained, methods), models=models)
    series = tuple(_series(trained, x, column))
    if not any(len(one.points) > 1 for one in series):
        raise StoreError(
            f"nothing to plot for {column.label}: a curve needs one method at two or more values "
            f"of {x}, found {_found(series)}; pre-train at another size and run `sslbench eval`"
        )
    archs = {r.model.get("arch") for r in trained}
    same = [r for r in baselines if r.model.get("arch") in archs]
    return Curve(column, x, series, aggregate(same) if same else None)


def _in_column(results: list[Summary], task: str) -> tuple[list[Summary], Column]:
    """The one column that `task` names, and its results."""
    columns = columns_of(results)
    members: dict[ColumnKey, list[Summary]] = {}
    for result in results:
        members.setdefault(column_key(result), []).append(result)
    found = [key for key, column in columns.items() if column.label == task]
    # A label is the most exact name: where specs clash, it says what differs.
    found = found or [key for key in columns if task in {r.task_spec for r in members[key]}]
    found = found or [key for key in columns if key.task == task]
    if not found:
        valid = {name for column in columns.values() for name in (column.label, column.task)}
        raise StoreError(f"no task {task!r} in the store; {nearest(task, valid)}")
    if len(found) > 1:
        listed = ", ".join(repr(columns[key].label) for key in found)
        raise StoreError(f"task {task!r} was measured in several ways; name one of {listed}")
    return members[found[0]], columns[found[0]]


def is_random(result: Summary) -> bool:
    """Whether a result is of weights that were drawn and never trained."""
    source = str(result.model.get("source", ""))
    drawn = source.startswith("random:") or "pretrained=false" in source.lower()
    return not pretraining(result) and (drawn or result.model.get("family") == "random")


def _of_methods(results: list[Summary], methods: Sequence[str] | None) -> list[Summary]:
    valid = {_method(result) for result in results}
    for name in methods or ():
        if name not in valid:
            raise StoreError(
                f"no method {name!r} has points for this curve; {nearest(name, valid)}"
            )
    return [r for r in results if not methods or _method(r) in methods]


def _method(result: Summary) -> str:
    return str(result.model.get("method") or without_seed(str(result.model["name"])))


def grouped(results: Sequence[Summary], x: str) -> list[tuple[str, list[Summary]]]:
    """The results of each series over an axis, each under as much as tells it from the others."""
    groups: dict[tuple[str, ...], list[Summary]] = {}
    for result in results:
        groups.setdefault(_series_key(result, x), []).append(result)
    groups = {key: part for group in groups.items() for key, part in _by_epochs(*group, x)}
    # A part of the key that all series share says nothing in a legend; the method always stays.
    varied = [i for i in range(4) if i == 0 or len({key[i] for key in groups}) > 1]
    return [(", ".join(key[i] for i in varied if key[i]), groups[key]) for key in sorted(groups)]


def _series(results: list[Summary], x: str, column: Column) -> Iterable[Series]:
    for label, members in grouped(results, x):
        sizes: dict[float, list[Summary]] = {}
        for result in members:
            sizes.setdefault(float(pretraining(result)[x]), []).append(result)
        points = tuple((size, _one_cell(label, x, size, sizes[size])) for size in sorted(sizes))
        yield Series(label, points, law_through(points, column))


def _series_key(result: Summary, x: str) -> tuple[str, str, str, str]:
    model, trained = result.model, pretraining(result)
    dropped = {"seed", "n"} if x == "images" else {"seed"}
    dataset = str(trained.get("dataset") or "")
    try:
        parts = spec.parse_dataset(dataset)
    except SpecError:  # a foreign checkpoint's data, in its authors' words
        parts = ()
    kept = [
        spec.DatasetPart(part.name, tuple(m for m in part.modifiers if m[0] not in dropped))
        for part in parts
    ]
    return _method(result), str(model.get("arch")), "+".join(map(str, kept)) or dataset, ""


def _by_epochs(
    key: tuple[str, ...], group: list[Summary], x: str
) -> list[tuple[tuple[str, ...], list[Summary]]]:
    """`group` whole, or a series for each number of epochs when one size was trained for several.

    A run of 100 epochs and one of 800 are no two seeds of one point.
    """
    epochs: dict[float, set[float]] = {}
    for result in group:
        trained = pretraining(result)
        epochs.setdefault(float(trained[x]), set()).add(float(trained.get("epochs") or 0))
    if all(len(found) == 1 for found in epochs.values()) or x != "images":
        return [(key, group)]
    parts: dict[tuple[str, ...], list[Summary]] = {}
    for result in group:
        text = f"{float(pretraining(result).get('epochs') or 0):g} epochs"
        parts.setdefault((*key[:3], text), []).append(result)
    return list(parts.items())


def _one_cell(label: str, x: str, size: float, results: list[Summary]) -> Cell:
    seen: dict[tuple[Any, int], Summary] = {}
    for result in results:
        seed = (pretraining(result).get("seed"), result.identity.seed)
        other = seen.setdefault(seed, result)
        if other is not result:
            names = f"{other.model['name']} and {result.model['name']}"
            raise StoreError(
                f"two checkpoints claim the point {x} = {size:g} of {label} with the same seed "
                f"({names}): name the models to plot, or give one of them another method name"
            )
    return aggregate(results)


def law_through(points: Sequence[tuple[float, Cell]], column: Column) -> PowerLaw | None:
    """The law in the error rate; None for one point, for scores that are no rate, for no error."""
    if not (column.percent or column.lower_is_better):
        return None
    cells = [cell for _, cell in points]
    bands = [cell.band if cell.low is not None else (None, None) for cell in cells]
    if column.percent:
        errors = [1 - cell.value for cell in cells]
    else:
        errors = [cell.value for cell in cells]
    try:
        # The law takes widths only, so the turn from score to error changes nothing in the bands.
        low, high = [band[0] for band in bands], [band[1] for band in bands]
        return fit_power_law([x for x, _ in points], errors, low, high)
    except SSLBenchError:
        return None


def _counts(values: "pd.Series[float]") -> bool:
    """Whether all are whole and a float holds them exactly, which 1e18 FLOPs are not."""
    return bool(((values % 1 == 0) & (values < 2**53)).all())


def _point(cell: Cell) -> dict[str, Any]:
    return {
        "kind": "point",
        "value": cell.value,
        "low": cell.low,
        "high": cell.high,
        "seeds": cell.seeds,
        "seed_low": cell.seed_low,
        "seed_high": cell.seed_high,
    }


def _found(series: Sequence[Series]) -> str:
    counts = [f"{one.label} at {len(one.points)}" for one in series]
    more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
    return ", ".join(counts[:4]) + more or "no trained model with that field"

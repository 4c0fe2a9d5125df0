"""Scaling and convergence curves: tasks' scores against data or training, with fitted laws."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench import registry
from bench.errors import StoreError, nearest
from bench.store import Store
from leaderboards.columns import columns_of
from leaderboards.selection import select
from leaderboards.series import AXES, Curve, Series, points_of

__all__ = ["AXES", "Curve", "Series", "curve", "curves_of", "points_of"]


def curve(
    store: Store,
    *,
    task: str | Sequence[str] = (),
    family: str = "",
    x: str = "images",
    methods: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    out_stem: Path | str,
) -> tuple[Path, Path, Path]:
    """Writes `<out_stem>.png`, `.svg` and `.csv`, and returns the three paths.

    The arguments are those of `curves_of`. The same store gives the same bytes.
    """
    from leaderboards.plot import draw  # matplotlib, which the table alone does not need

    tasks = (task,) if isinstance(task, str) else tuple(task)
    data = curves_of(store, tasks=tasks, family=family, x=x, methods=methods, models=models)
    stem = Path(out_stem)
    # Not with_suffix: a stem such as "top1.v2" would lose its end.
    png, svg, csv = (stem.parent / f"{stem.name}.{kind}" for kind in ("png", "svg", "csv"))
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        draw(data, png, svg)
        csv.write_text(table(data).to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write {png} ({error.strerror}); give another --out") from error
    return png, svg, csv


def curves_of(
    store: Store,
    *,
    tasks: Sequence[str] = (),
    family: str = "",
    x: str = "images",
    methods: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
) -> list[Curve]:
    """The curve of each task, or of all tasks of a family that have one; see `points_of`.

    Args:
        store: the results.
        tasks: names, specs or labels of columns; a panel each.
        family: "image", "dense", ...: all columns with a curve whose tasks are of this family.
        x: one of `AXES`.
        methods: keep these methods only, by name.
        models: keep these models only, by name or pattern.

    Raises:
        StoreError: as `points_of`; or neither tasks nor family; or a family without any curve.
    """

    def points(task: str) -> Curve:
        return points_of(store, task=task, x=x, methods=methods, models=models)

    found = [points(task) for task in tasks]
    if not family:
        if not found:
            raise StoreError("no task to plot: give --task TASK@DATASET or --family image")
        return found
    groups = registry.groups("task")
    if family not in (known := set(groups.values())):
        raise StoreError(f"no family of tasks {family!r}; {nearest(family, known)}")
    why = f"no results of {family} tasks in {store.root}"
    for column in columns_of(select(store)).values():
        if groups.get(column.task) != family:
            continue
        try:
            found.append(points(column.label))
        except StoreError as error:
            why = str(error)
    if not found:
        raise StoreError(why)
    return found


def table(curves: Sequence[Curve]) -> pd.DataFrame:
    """Data and fits of all curves in one frame, with the task's label in front."""
    frames = []
    for one in curves:
        frame = one.table()
        frame.insert(0, "task", one.column.label)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)

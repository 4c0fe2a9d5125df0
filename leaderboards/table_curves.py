"""The curves of a paper's figure, from what the store has of its points."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.errors import StoreError
from bench.summary import Summary, number
from leaderboards.aggregation import aggregate
from leaderboards.budget import recorded
from leaderboards.cells import pretraining
from leaderboards.columns import Column, columns_of
from leaderboards.paper import Row
from leaderboards.series import AXES, Curve, Series, grouped, law_through
from leaderboards.table_cells import Filled

Point = tuple[Row, Summary]


def curves_of(filled: Filled) -> list[Curve]:
    """The curves of a figure's columns; those on which no line has two points are left out."""
    curves = []
    for position in range(len(filled.table.columns)):
        points: dict[str, Point] = {}  # at mini scale several rows may be one model
        for line in filled.rows:
            ours = line.cells[position].ours
            for result in ours.results if ours else ():
                points.setdefault(result.digest, (line.row, result))
        columns = columns_of(result for _, result in points.values())
        for key, column in columns.items():
            own = [point for point in points.values() if point[1].setting.measurement == key]
            series = tuple(_series(own, filled.table.axis, column))
            if any(len(one.points) > 1 for one in series):
                curves.append(Curve(column, filled.table.axis, series, baseline=None))
    return curves


def write(filled: Filled, stem: Path) -> list[Path]:
    """Draws `<stem>.png` and `.svg`, and returns their paths; none where there is no curve.

    Raises:
        StoreError: they cannot be written.
    """
    if not filled.table.axis or not (curves := curves_of(filled)):
        return []
    from leaderboards.plot import draw  # matplotlib, which tables do not need

    png, svg = (stem.parent / f"{stem.name}.{kind}" for kind in ("png", "svg"))
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        draw(curves, png, svg)
    except OSError as error:
        raise StoreError(f"cannot write {png} ({error.strerror}); give another --out") from error
    return [png, svg]


def _series(points: Sequence[Point], axis: str, column: Column) -> Iterator[Series]:
    """The lines over an axis: of a quantity as on every curve, of an option as the rows say."""
    if axis in AXES:
        known = [result for _, result in points if recorded(result, axis)]
        lines = [
            (name, [(recorded(r, axis), r) for r in own]) for name, own in grouped(known, axis)
        ]
    else:
        named: dict[str, list[tuple[float | None, Summary]]] = {}
        for row, result in points:
            recipe = pretraining(result).get("recipe")
            x = number(recipe.get(axis)) if isinstance(recipe, dict) else None
            named.setdefault(row.label.partition(", ")[0], []).append((x, result))
        lines = list(named.items())
    for name, own in lines:
        found: dict[float, list[Summary]] = {}
        for x, result in own:
            if x is not None:
                found.setdefault(x, []).append(result)
        cells = tuple((x, aggregate(found[x])) for x in sorted(found))
        if cells:
            yield Series(name, cells, law_through(cells, column) if axis in AXES else None)

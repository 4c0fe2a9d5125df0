"""Scaling and convergence curves: a task's score against data or training, with a fitted law."""

from collections.abc import Sequence
from pathlib import Path

from bench.errors import StoreError
from bench.store import Store
from leaderboards.series import AXES, Curve, Series, points_of

__all__ = ["AXES", "Curve", "Series", "curve", "points_of"]


def curve(
    store: Store,
    *,
    task: str,
    x: str = "images",
    methods: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    out_stem: Path | str,
) -> tuple[Path, Path, Path]:
    """Writes `<out_stem>.png`, `.svg` and `.csv`, and returns the three paths.

    The arguments are those of `points_of`. The same store gives the same bytes.
    """
    from leaderboards.plot import draw  # matplotlib, which the table alone does not need

    data = points_of(store, task=task, x=x, methods=methods, models=models)
    stem = Path(out_stem)
    # Not with_suffix: a stem such as "top1.v2" would lose its end.
    png, svg, csv = (stem.parent / f"{stem.name}.{kind}" for kind in ("png", "svg", "csv"))
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        draw(data, png, svg)
        csv.write_text(data.table().to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write {png} ({error.strerror}); give another --out") from error
    return png, svg, csv

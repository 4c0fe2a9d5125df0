"""`sslbench curve`."""

from pathlib import Path
from typing import Annotated

import typer

from bench import registry
from bench.arguments import Json, Results, emit


def command(
    task: Annotated[str, typer.Option(help="Task on the y axis, for example knn@imagenette.")],
    results: Results = Path("results"),
    x: Annotated[
        str, typer.Option(help="images, views_seen, epochs or effective_epochs.")
    ] = "images",
    methods: Annotated[list[str] | None, typer.Option(help="Only these methods.")] = None,
    models: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    out: Annotated[Path, typer.Option(help="Path without ending (.png .svg .csv).")] = Path(
        "curve"
    ),
    as_json: Json = False,
) -> None:
    """Plot quality against data or training, with intervals and a fitted law."""
    from bench.store import Store

    draw = registry.attribute("leaderboards.curves:curve")
    files = draw(Store(results), task=task, x=x, methods=methods, models=models, out_stem=out)
    if as_json:
        emit({"files": [str(file) for file in files]})
    else:
        typer.echo("\n".join(f"wrote {file}" for file in files))

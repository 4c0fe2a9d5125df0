"""`sslbench curve`."""

from pathlib import Path
from typing import Annotated

import typer

from bench import registry
from bench.arguments import Json, Results, emit


def command(
    task: Annotated[
        list[str] | None,
        typer.Option(help="Task on the y axis, such as knn@imagenette; repeat it for more panels."),
    ] = None,
    family: Annotated[
        str, typer.Option(help="All tasks of a family that have a curve: image or dense.")
    ] = "",
    results: Results = Path("results"),
    x: Annotated[
        str, typer.Option(help="images, views_seen, epochs, effective_epochs or flops.")
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
    shown = {"task": task or (), "family": family, "x": x, "methods": methods, "models": models}
    files = draw(Store(results), **shown, out_stem=out)
    if as_json:
        emit({"files": [str(file) for file in files]})
    else:
        typer.echo("\n".join(f"wrote {file}" for file in files))

"""`sslbench board`."""

from pathlib import Path
from typing import Annotated

import typer

from bench import registry
from bench.arguments import Json, Results
from bench.errors import SpecError


def command(
    results: Results = Path("results"),
    form: Annotated[str, typer.Option("--format", help="text, md, csv, latex or html.")] = "text",
    out: Annotated[Path | None, typer.Option(help="File to write instead of printing.")] = None,
    tasks: Annotated[list[str] | None, typer.Option(help="Only these tasks.")] = None,
    models: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    sort: Annotated[str, typer.Option(help="rank, or the name of a column.")] = "rank",
    curves: Annotated[
        list[Path] | None, typer.Option(help="Pictures to put on the HTML page.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print or write the leaderboard of the store."""
    from bench.store import Store

    store = Store(results)
    if as_json:
        if out or tasks or models:
            raise SpecError("--json prints the whole store: leave out --out, --tasks and --models")
        frame = registry.attribute("leaderboards.cells:frame")(store)
        typer.echo(frame.to_json(orient="records"))
        return
    if out is not None:
        write = registry.attribute("leaderboards.board:write_board")
        path = write(
            store, form, out, tasks=tasks, models=models, sort=sort, curves=tuple(curves or ())
        )
        typer.echo(f"wrote {path}")
        return
    render = registry.attribute("leaderboards.board:render")
    shown = registry.attribute("leaderboards.ranking:board")(
        store, tasks=tasks, models=models, sort=sort
    )
    width = registry.attribute("leaderboards.formats:terminal_width")()
    typer.echo(render(shown, form, width=width))

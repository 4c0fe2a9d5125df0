"""`sslbench compare`."""

from pathlib import Path
from typing import Annotated

import typer

from bench import registry
from bench.arguments import Data, Json, Results, emit


def command(
    first: Annotated[str, typer.Argument(metavar="A", help="A model of the store; its run.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The model it is compared with.")],
    tasks: Annotated[list[str] | None, typer.Option(help="Only these tasks.")] = None,
    results: Results = Path("results"),
    differ: Annotated[
        str, typer.Option(help="Task whose samples that A and B differ on are written to --out.")
    ] = "",
    out: Annotated[
        Path, typer.Option(help="Path without ending of --differ: .csv; with --data also .png.")
    ] = Path("differ"),
    data: Data = None,
    form: Annotated[str, typer.Option("--format", help="text, md, csv or latex.")] = "text",
    as_json: Json = False,
) -> None:
    """Compare two models on the tasks that both have, sample by sample."""
    from bench.store import Store

    store = Store(results)
    found = registry.attribute("leaderboards.compare:compare")(store, first, second, tasks)
    written = []
    if differ:
        write = registry.attribute("leaderboards.differing:write")
        written = write(store, first, second, differ, out, data)
    if as_json:
        emit({**found.to_json(), "files": [str(path) for path in written]})
    else:
        render = registry.attribute("leaderboards.compare_formats:render")
        width = registry.attribute("leaderboards.formats:terminal_width")()
        typer.echo(render(found, form, width), nl=False)
        # what is piped on stays a table alone
        for path in written:
            typer.echo(f"wrote {path}", err=form != "text")
    if not found.lines or found.problems:
        raise typer.Exit(1)

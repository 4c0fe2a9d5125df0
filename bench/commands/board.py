"""`sslbench board`."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import registry
from bench.arguments import Json, Results

Names = list[str] | None


def command(
    results: Results = Path("results"),
    form: Annotated[str, typer.Option("--format", help="text, md, csv, latex or html.")] = "text",
    out: Annotated[
        Path | None, typer.Option(help="File to write instead of printing; for html a folder.")
    ] = None,
    tasks: Annotated[
        Names, typer.Option(help="Only these tasks: a name, a spec, or a pattern like '*@coco*'.")
    ] = None,
    family: Annotated[Names, typer.Option(help="Only tasks of image, dense or robot.")] = None,
    on: Annotated[Names, typer.Option(help="Only tasks on this data.")] = None,
    models: Annotated[Names, typer.Option(help="Only these models: names or patterns.")] = None,
    method: Annotated[Names, typer.Option(help="Only models of this method.")] = None,
    arch: Annotated[Names, typer.Option(help="Only models of this architecture.")] = None,
    pretrained_on: Annotated[
        Names, typer.Option(help="Only models that were pre-trained on this data.")
    ] = None,
    budget: Annotated[
        Names,
        typer.Option(help="Only models pre-trained within a limit: 'flops<1e18', 'views<=1e6'."),
    ] = None,
    sort: Annotated[
        str, typer.Option(help="rank, score, flops, views, model, or the name of a column.")
    ] = "rank",
    top: Annotated[int | None, typer.Option(min=1, help="Show so many models only.")] = None,
    curves: Annotated[
        list[Path] | None,
        typer.Option(help="Pictures for the site; MODEL*.svg goes to the model's page."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every folder, not only those that changed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print or write the leaderboard of the store.

    Results that are damaged or of a newer version are left out and named, results that contradict
    each other are named; then the exit status is 1.
    """
    form = registry.attribute("leaderboards.board:checked")("json" if as_json else form)
    filters = {"tasks": tasks, "family": family, "on": on, "models": models, "method": method}
    filters |= {"arch": arch, "pretrained_on": pretrained_on, "budget": budget}
    options = {"sort": sort, "top": top, "verify": verify} | filters
    with _no_garbage():
        problems = _show(results, form, out, tuple(curves or ()), options)
    for problem in problems:
        typer.echo(f"sslbench: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _show(
    results: Path, form: str, out: Path | None, curves: Sequence[Path], options: dict[str, Any]
) -> Sequence[str]:
    """Prints or writes the board; what cannot be used of the store."""
    from bench.store import Store

    shown = registry.attribute("leaderboards.ranking:board")(Store(results), **options)
    if out is not None:
        write = registry.attribute("leaderboards.board:write")
        typer.echo(f"wrote {write(shown, form, out, curves=curves)}")
    else:
        width = registry.attribute("leaderboards.formats:terminal_width")()
        render = registry.attribute("leaderboards.board:render")
        typer.echo(render(shown, form, width=width), nl=False)
    problems: Sequence[str] = shown.problems
    return problems


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Within, nothing is collected: there is no looking through a million objects that all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

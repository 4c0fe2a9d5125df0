"""`sslbench train`."""

from pathlib import Path
from typing import Annotated

import typer

from bench import registry
from bench.arguments import Data, Json, SkipBad, emit
from bench.spec import pairs_of, with_options


def command(
    spec: Annotated[str, typer.Argument(metavar="METHOD@DATASET[?KEY=VALUE&...]")],
    out: Annotated[Path, typer.Option(help="Run folder.")],
    data: Data = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="More keys of the spec.")
    ] = None,
    skip_bad: SkipBad = 0,
    as_json: Json = False,
) -> None:
    """Pre-train one method and leave a run folder with a checkpoint."""
    run = registry.attribute("trainers.loop:train")
    text = with_options(spec, pairs_of(sets or ()))
    folder = run(text, out, data=data, resume=resume, skip_bad=skip_bad)
    if as_json:
        emit({"run": str(folder), "checkpoint": str(folder / "checkpoint")})
    else:
        typer.echo(f"{folder}\nnext: sslbench eval {folder} --tasks knn,linear@DATASET")

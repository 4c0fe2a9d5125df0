"""`sslbench train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench import registry
from bench.arguments import Data, Json, SkipBad, emit
from bench.errors import SpecError


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
    text = with_options(spec, sets or ())
    folder = run(text, out, data=data, resume=resume, skip_bad=skip_bad)
    if as_json:
        emit({"run": str(folder), "checkpoint": str(folder / "checkpoint")})
    else:
        typer.echo(f"{folder}\nnext: sslbench eval {folder} --tasks knn,linear@DATASET")


def with_options(spec: str, pairs: Sequence[str]) -> str:
    """``spec`` with ``KEY=VALUE`` pairs added; later ones win."""
    from bench.spec import Spec, parse

    parsed = parse(spec)
    options = dict(parsed.options)
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise SpecError(f"--set {pair}: write --set KEY=VALUE")
        options[key] = value
    return str(Spec(parsed.name, parsed.dataset, tuple(sorted(options.items()))))

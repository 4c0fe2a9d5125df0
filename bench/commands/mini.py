"""`sslbench mini`."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from bench.arguments import Json, emit
from bench.errors import SpecError, nearest


def command(
    folder: Annotated[Path, typer.Argument(help="Where to write it; usable as --data.")],
    size: Annotated[str, typer.Option(help="small (32 px) or medium (64 px).")] = "small",
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 0,
    images: Annotated[
        int | None, typer.Option(help="Object-centric training images; others in proportion.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the built-in mini benchmark in official layouts."""
    if size not in ("small", "medium"):
        raise SpecError(f"no size {size!r}; {nearest(size, ('small', 'medium'))}")
    from bench import demo

    sheet = demo.write_mini_with_sheet(folder, cast(Literal["small", "medium"], size), seed, images)
    if as_json:
        emit({"folder": str(folder), "contact_sheet": str(sheet)})
    else:
        typer.echo(f"wrote {folder}; look at {sheet}")

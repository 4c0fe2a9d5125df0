"""`sslbench figure`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.arguments import Data, Device, Json, SkipBad, emit


def command(
    kind: Annotated[str, typer.Argument(metavar="KIND[?KEY=VALUE&...]", help="See ls figures.")],
    things: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... IMAGES...",
            help="Models; image files, folders of images and data sets to look at "
            "(by default held-out images of the first model's training data).",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Path without ending; by default the kind's name.")
    ] = None,
    data: Data = None,
    device: Device = "",
    skip_bad: SkipBad = 0,
    as_json: Json = False,
) -> None:
    """Draw what models see: a picture, and the numbers in it as a file beside it."""
    from bench.figure import draw

    files = draw(kind, things, out, data=data, device=device, skip_bad=skip_bad)
    if as_json:
        emit({"files": [str(file) for file in files]})
    else:
        typer.echo("\n".join(f"wrote {file}" for file in files))

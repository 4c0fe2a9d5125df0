"""What several commands share: options, how they end when interrupted, how they print JSON."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the data sets in their official layouts.", envvar="SSLBENCH_DATA"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Results = Annotated[Path, typer.Option(help="Folder of the result store.")]
SkipBad = Annotated[int, typer.Option(help="Unreadable images to leave out instead of stopping.")]
Device = Annotated[str, typer.Option(help="cpu or cuda; by default the best there is.")]
BatchSize = Annotated[int, typer.Option(help="Images a forward pass takes.")]
Workers = Annotated[int, typer.Option(help="Processes that load images, or simulate robots.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or fp16.")]
Cache = Annotated[Path | None, typer.Option(help="Feature cache; by default inside --results.")]


@contextmanager
def continuable() -> Iterator[None]:
    """Within, Ctrl-C ends the command with 130 and says that it can go on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: the same command continues where this one stopped", err=True)
        raise typer.Exit(130) from None


def emit(values: Mapping[str, Any]) -> None:
    """Print JSON."""
    typer.echo(json.dumps(values, indent=1, default=str))

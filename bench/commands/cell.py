"""`sslbench cell`."""

from pathlib import Path
from typing import Annotated

import typer

from bench import registry
from bench.arguments import Json, Results, emit


def command(
    model: Annotated[str, typer.Argument(help="Name of a model in the store, or its start; RUN.")],
    task: Annotated[str, typer.Argument(metavar="TASK@DATASET[?KEY=VALUE&...]")],
    results: Results = Path("results"),
    predictions: Annotated[
        Path | None, typer.Option(help="CSV to write: one row a sample, with names of classes.")
    ] = None,
    confusion: Annotated[
        Path | None, typer.Option(help="PNG to write: which classes are taken for which, and CSV.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder to write: predicted masks, <video>/<frame>.png.")
    ] = None,
    identity: Annotated[
        str, typer.Option(help="Start of the identity, where several cells fit.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Explain one cell of the store: its numbers, what they rest on, and each sample's outcome."""
    from bench.store import Store

    explain = registry.attribute("leaderboards.cell:explain")
    files = (predictions, confusion, masks)
    text, values = explain(Store(results), model, task, identity, *files)
    emit(values) if as_json else typer.echo(text)

"""`sslbench eval`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.arguments import (
    BatchSize,
    Cache,
    Data,
    Device,
    Json,
    Precision,
    Results,
    SkipBad,
    Workers,
    continuable,
    emit,
)


def command(
    models: Annotated[list[str], typer.Argument(help="Run folders, files, timm:NAME, random:ARCH")],
    tasks: Annotated[
        list[str], typer.Option(help="TASK@DATASET?key=value, comma-separated; may be repeated.")
    ],
    results: Results = Path("results"),
    data: Data = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; may be repeated.")] = None,
    device: Device = "",
    batch_size: BatchSize = 128,
    workers: Workers = 2,
    precision: Precision = "fp32",
    cache: Cache = None,
    skip_bad: SkipBad = 0,
    as_json: Json = False,
) -> None:
    """Fill the cells models x tasks of the store; what is there already is not run again."""
    from bench.engine import Settings, evaluate
    from bench.store import Store

    settings = Settings(
        data=data,
        cache=cache or results / ".cache",
        seeds=tuple(seed or (0,)),
        device=device,
        batch_size=batch_size,
        workers=workers,
        precision=precision,
        skip_bad=skip_bad,
    )
    with continuable():
        report = evaluate(models, tasks, Store(results), settings)
    if as_json:
        emit(report.to_json())
    else:
        typer.echo(report.summary(results))
    if report.failed:
        raise typer.Exit(1)

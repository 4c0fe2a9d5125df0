"""`sslbench run`."""

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
    SkipBad,
    Workers,
    continuable,
    emit,
)


def command(
    matrix: Annotated[Path, typer.Argument(help="TOML file: models, tasks, seeds.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what exists, what lacks and its cost.")
    ] = False,
    gpu: Annotated[
        str, typer.Option(help="GPU of --dry-run: h100, h200, a100, v100, l40s, rtx4090.")
    ] = "h100",
    results: Annotated[
        Path | None, typer.Option(help="Result store; by default the file's, else results.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of run folders; by default the file's, else runs.")
    ] = None,
    data: Data = None,
    device: Device = "",
    batch_size: BatchSize = 128,
    workers: Workers = 2,
    precision: Precision = "fp32",
    cache: Cache = None,
    skip_bad: SkipBad = 0,
    as_json: Json = False,
) -> None:
    """Fill models x tasks x seeds of a matrix, and train the models that are not there yet.

    The same command continues where it stopped. A failed cell is recorded and stops no other.
    """
    from bench import matrix as matrices
    from bench.matrix_file import read
    from bench.store import Store

    wanted, folders = read(matrix)
    results, runs = results or folders.results, runs or folders.runs
    if dry_run:
        from bench.matrix_plan import plan

        found = plan(
            wanted, Store(results), runs, data, gpu, precision=precision, skip_bad=skip_bad
        )
        emit(found.to_json()) if as_json else typer.echo(found.text())
        return
    from bench.engine import Settings

    settings = Settings(
        data=data,
        cache=cache or results / ".cache",
        device=device,
        batch_size=batch_size,
        workers=workers,
        precision=precision,
        skip_bad=skip_bad,
    )
    with continuable():
        report = matrices.run(wanted, Store(results), settings, runs)
    if as_json:
        emit(report.to_json())
    else:
        typer.echo(report.summary(results))
    if report.failed:
        raise typer.Exit(1)

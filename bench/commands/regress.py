"""`sslbench regress`."""

from pathlib import Path
from typing import Annotated

import typer

from bench import registry
from bench.arguments import BatchSize, Device, Json, Workers, emit
from bench.errors import SpecError


def command(
    baseline: Annotated[Path, typer.Option(help="File of a recorded baseline.")],
    update: Annotated[
        bool, typer.Option("--update", help="Record what is measured now instead of judging it.")
    ] = False,
    matrix: Annotated[
        Path | None, typer.Option(help="With --update: TOML of the models and tasks, anew.")
    ] = None,
    mini: Annotated[
        int,
        typer.Option(
            help="With --update: a mini benchmark of so many images is written, and measured on."
        ),
    ] = 0,
    keep: Annotated[
        Path | None, typer.Option(help="Empty folder for runs and results, else thrown away.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the data sets; by default the mini benchmark that the baseline "
            "declares, else SSLBENCH_DATA."
        ),
    ] = None,
    device: Device = "",
    batch_size: BatchSize = 128,
    workers: Workers = 2,
    as_json: Json = False,
) -> None:
    """Measure a small subset anew, and fail where it is worse than noise explains."""
    from bench import gate
    from bench.engine import Settings

    if (matrix is not None or mini) and not update:
        raise SpecError("--matrix and --mini declare a baseline: they go with --update")
    subset, before = gate.declared(baseline, matrix, mini)
    settings = Settings(data=data, device=device, batch_size=batch_size, workers=workers)
    try:
        with gate.working_folder(keep) as folder:
            report, store = gate.measure(subset, folder, settings)
            now = registry.attribute("leaderboards.baseline:recorded")(store, report.ran)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: nothing was judged or recorded", err=True)
        raise typer.Exit(130) from None
    for name, reason in report.failed.items():
        typer.echo(f"failed: {name}: {reason}", err=True)
    if update:
        if report.failed:
            typer.echo(f"{len(report.failed)} cells failed: {baseline} is left as it was", err=True)
            raise typer.Exit(1)
        gate.write(baseline, subset, now)
        told = {"baseline": str(baseline), "cells": len(now)}
        emit(told) if as_json else typer.echo(f"recorded {len(now)} cells in {baseline}")
        return
    found = registry.attribute("leaderboards.regress:changes")(before, now)
    if as_json:
        emit({"cells": registry.attribute("leaderboards.regress:as_json")(found)})
    else:
        typer.echo(registry.attribute("leaderboards.regress:text")(found))
    if any(change.fails for change in found):
        raise typer.Exit(1)

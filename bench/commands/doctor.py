"""`sslbench doctor`."""

import typer

from bench.arguments import Data, Json, emit


def command(data: Data = None, as_json: Json = False) -> None:
    """Say what works here, what does not, and the command that mends it."""
    from bench import doctor as examination

    report = examination.report(data)
    emit(report.to_json()) if as_json else typer.echo(report.text())
    if not report.healthy:
        raise typer.Exit(1)

"""`sslbench inspect`."""

from typing import Annotated

import typer

from bench.arguments import Json, emit


def command(
    model: Annotated[str, typer.Argument(help="Run folder, file, timm:NAME or random:ARCH.")],
    as_json: Json = False,
) -> None:
    """Show what a model is: family, architecture, input contract, which tensors were loaded."""
    import dataclasses

    from bench.checkpoint import load_model

    loaded = load_model(model)
    facts = {**loaded.record.to_dict(), "keys": dataclasses.asdict(loaded.report)}
    if as_json:
        emit(facts)
        return
    pretrain = facts.pop("pretrain") or {}
    for title, values in (("", facts), ("pretrain.", pretrain)):
        for name, value in values.items():
            typer.echo(f"{title + name:<26} {value}")

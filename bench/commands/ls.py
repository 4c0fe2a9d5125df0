"""`sslbench ls`."""

from dataclasses import asdict
from typing import Annotated

import typer

from bench import registry
from bench.arguments import Json, emit
from bench.errors import SpecError, nearest

SINGULAR = {kind.plural: name for name, kind in registry.KINDS.items()}
KINDS = tuple(SINGULAR)


def command(
    kind: Annotated[str, typer.Argument(help="|".join(KINDS))] = "",
    name: Annotated[
        str, typer.Argument(help="One of them: its options and presets, or its layout.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List what there is, one line each; or what can be set of one entry."""
    if kind and kind not in KINDS:
        raise SpecError(f"no kind {kind!r}; {nearest(kind, KINDS)}")
    if name:
        from bench.options import layout_of, options_of

        one = layout_of(name) if kind == "datasets" else options_of(SINGULAR[kind], name)
        emit(asdict(one)) if as_json else typer.echo(one.text())
        return
    found = {k: registry.describe(SINGULAR[k]) for k in ([kind] if kind else KINDS)}
    if as_json:
        emit(found)
        return
    width = max(len(name) for entries in found.values() for name in entries)
    for name, entries in found.items():
        typer.echo(typer.style(name, bold=True))
        for entry, line in entries.items():
            typer.echo(f"  {entry:<{width}}  {line}")

"""`sslbench table`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from bench import registry
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
    emit,
)
from bench.errors import SpecError, StoreError, nearest

Texts = list[str] | None


def command(
    name: Annotated[
        str, typer.Argument(metavar="PAPER[/TABLE]", help="A paper alone lists its tables.")
    ],
    scale: Annotated[
        str, typer.Option(help="paper, or mini: the same shape on the mini benchmark.")
    ] = "paper",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take.")
    ] = False,
    run: Annotated[
        bool, typer.Option("--run/--no-run", help="Run what is missing, or print what there is.")
    ] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 unless all comparable cells agree.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="What a cell may be off beyond its interval, in printed units.")
    ] = 1.0,
    use: Annotated[
        Texts, typer.Option(metavar="ROW=MODEL", help="Take this model for a row.")
    ] = None,
    rows: Annotated[Texts, typer.Option(help="Only these rows, by label.")] = None,
    sets: Annotated[
        Texts, typer.Option("--set", metavar="KEY=VALUE", help="Change all trainings.")
    ] = None,
    results: Results = Path("results"),
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    data: Data = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of the evaluation; may be repeated.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="Whose hours --dry-run estimates.")] = "h100",
    form: Annotated[str, typer.Option("--format", help="text, md, csv, latex or html.")] = "text",
    out: Annotated[Path | None, typer.Option(help="File to write instead of printing.")] = None,
    device: Device = "",
    batch_size: BatchSize = 128,
    workers: Workers = 2,
    precision: Precision = "fp32",
    cache: Cache = None,
    skip_bad: SkipBad = 0,
    as_json: Json = False,
) -> None:
    """Regenerate a table of a paper: ours, theirs, the interval, and why they may not compare."""
    paper, _, key = name.partition("/")
    declared = registry.load("table", paper)
    if not key:
        listing(paper, declared, as_json)
        return
    table = declared.table(key)
    checked(table, scale, form, rows, check)
    from bench.spec import pairs_of
    from bench.store import Store

    tables = "leaderboards.tables"
    asked: dict[str, Any] = {
        "uses": used(table, use or ()),
        "sets": pairs_of(sets or ()),
        "rows": rows or (),
    }
    store, failed = Store(results), {}
    if dry_run or run:
        matrix = registry.attribute(f"{tables}:matrix")(table, scale, **asked, seeds=seed or (0,))
    if dry_run:
        from bench.matrix_plan import plan

        found = plan(matrix, store, runs, data, gpu)
        emit(found.to_json()) if as_json else typer.echo(found.text())
        return
    if run and matrix.entries:
        from bench import matrix as matrices
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
        failed = matrices.run(matrix, store, settings, runs).failed
    filled = registry.attribute(f"{tables}:fill_from")(
        store, paper, table, scale, **asked, tolerance=tolerance
    )
    formats = "leaderboards.table_formats"
    if as_json:
        emit({"cells": registry.attribute(f"{formats}:records")(filled), "failed": failed})
    else:
        width = registry.attribute("leaderboards.formats:terminal_width")() if not out else None
        show(registry.attribute(f"{formats}:render")(filled, form, width), out)
    verdict(filled, check)
    if failed:
        raise typer.Exit(1)


def listing(paper: str, declared: Any, as_json: bool) -> None:
    """The tables of a paper."""
    found = {f"{paper}/{table.key}": f"{table.printed}: {table.title}" for table in declared.tables}
    if as_json:
        emit(found)
        return
    typer.echo(declared.title)
    width = max(map(len, found))
    typer.echo("\n".join(f"  {key:<{width}}  {line}" for key, line in found.items()))


def checked(table: Any, scale: str, form: str, rows: Texts, check: bool) -> None:
    """Refuse what cannot be before anything runs."""
    for word, known, what in (
        (scale, ("paper", "mini"), "scale"),
        (form, ("text", "md", "csv", "latex", "html"), "format"),
    ):
        if word not in known:
            raise SpecError(f"no {what} {word!r}; {nearest(word, known)}")
    if check and cast(Literal["paper", "mini"], scale) == "mini":
        raise SpecError("--check compares with published numbers: there are none at mini scale")
    known_rows = names(table)
    for label in rows or ():
        if label not in known_rows:
            raise SpecError(f"no row {label!r} in this table; {nearest(label, known_rows)}")


def names(table: Any) -> list[str]:
    """Labels of the rows, and where several have one, what tells them apart besides."""
    whole = registry.attribute("leaderboards.tables:row_name")
    return list(dict.fromkeys(n for row in table.rows for n in (row.label, whole(table, row))))


def used(table: Any, texts: Sequence[str]) -> dict[str, str]:
    """Name of a row -> model, of `--use`; names may hold a `=`."""
    labels = names(table)
    found = {}
    for text in texts:
        fitting = [label for label in labels if text.startswith(f"{label}=")]
        if not fitting:
            label = text.rpartition("=")[0] or text
            raise SpecError(f"--use {text}: no row {label!r}; {nearest(label, labels)}")
        label = max(fitting, key=len)
        found[label] = text[len(label) + 1 :]
    return found


def show(text: str, out: Path | None) -> None:
    """Print the table, or write it."""
    if out is None:
        typer.echo(text.rstrip())
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StoreError(f"cannot write {out} ({error.strerror}); give another --out") from error
    typer.echo(f"wrote {out}")


def verdict(filled: Any, check: bool) -> None:
    """Of `--check`: exit 1 unless comparable cells were measured, and all of them agree."""
    if not check:
        return
    verdicts = [cell.verdict for _, cell in filled.cells()]
    differ, agree = verdicts.count("differs"), verdicts.count("agrees")
    if differ or not agree:
        typer.echo(f"check: {differ} cells differ, {agree} agree", err=True)
        raise typer.Exit(1)
    typer.echo(f"check: all {agree} comparable cells agree", err=True)

"""`sslbench table`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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
    continuable,
    emit,
)
from bench.errors import SpecError, StoreError, nearest

Texts = list[str] | None
SUFFIXES = {"text": ".txt", "md": ".md", "csv": ".csv", "latex": ".tex", "html": ".html"}


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
        float,
        typer.Option(min=0, help="What a cell may be off beyond its interval, in printed units."),
    ] = 1.0,
    use: Annotated[
        Texts,
        typer.Option(
            metavar="ROW=MODEL", help="Take this model for a row: of the store, or a source."
        ),
    ] = None,
    rows: Annotated[Texts, typer.Option(help="Only these rows, by label.")] = None,
    columns: Annotated[
        Texts, typer.Option(help="Only these columns: task, metric, or both.")
    ] = None,
    sets: Annotated[
        Texts, typer.Option("--set", metavar="KEY=VALUE", help="Change all trainings.")
    ] = None,
    results: Results = Path("results"),
    runs: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    data: Data = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of the evaluation; may be repeated.")
    ] = None,
    gpu: Annotated[
        str, typer.Option(help="GPU of --dry-run: h100, h200, a100, v100, l40s, rtx4090.")
    ] = "h100",
    form: Annotated[str, typer.Option("--format", help="text, md, csv, latex or html.")] = "text",
    out: Annotated[
        Path | None, typer.Option(help="File to write; of a figure, .png and .svg beside it.")
    ] = None,
    device: Device = "",
    batch_size: BatchSize = 128,
    workers: Workers = 2,
    precision: Precision = "fp32",
    cache: Cache = None,
    skip_bad: SkipBad = 0,
    as_json: Json = False,
) -> None:
    """Regenerate a table of a paper: ours, theirs, the interval, and why they may not compare.

    Exit 1 where a cell failed, where some of the store cannot be used, or where --check finds a
    comparable cell off, or none.
    """
    paper, _, key = name.partition("/")
    declared = registry.load("table", paper)
    if not key:
        listing(paper, declared, as_json)
        return
    table = declared.table(key)
    refuse(scale, form, check, out)
    from bench.spec import pairs_of
    from bench.store import Store

    store = Store(results)
    wishes: dict[str, Any] = {
        "uses": used(table, use or ()),
        "sets": pairs_of(sets or ()),
        "rows": rows or (),
        "columns": columns or (),
    }
    if dry_run:
        from bench.matrix_plan import plan

        matrix = matrix_of(store, table, scale, seed, wishes)
        found = plan(matrix, store, runs, data, gpu, precision=precision, skip_bad=skip_bad)
        told = registry.attribute("leaderboards.table_rows:left_out")(table, scale, **wishes)
        show_plan(found, told, as_json)
        return
    failed: dict[str, str] = {}
    if run and (matrix := matrix_of(store, table, scale, seed, wishes)).entries:
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
        with continuable():
            failed = matrices.run(matrix, store, settings, runs).failed
    fill = registry.attribute("leaderboards.tables:fill_from")
    filled = fill(store, paper, table, scale, tolerance=tolerance, **wishes)
    show(filled, form, out, as_json, failed)
    for problem in filled.problems:
        typer.echo(f"sslbench: {problem}", err=True)
    bad = check and not agree(filled)
    if bad or failed or filled.problems:
        raise typer.Exit(1)


def listing(paper: str, declared: Any, as_json: bool) -> None:
    """The tables of a paper, with the number of printed cells; curve figures have none."""
    found = {
        f"{paper}/{table.key}": {
            "title": f"{table.printed}: {table.title}",
            "cells": sum(bool(text) for row in table.rows for text in row.published),
            "points": len(table.rows) * len(table.columns) if table.axis else 0,
        }
        for table in declared.tables
    }
    if as_json:
        emit(found)
        return
    typer.echo(declared.title)
    width = max(map(len, found))
    for key, one in found.items():
        count = f"{one['points']} points" if one["points"] else f"{one['cells']} cells"
        typer.echo(f"  {key:<{width}}  {count:>10}  {one['title']}")


def refuse(scale: str, form: str, check: bool, out: Path | None) -> None:
    """Names what is no scale or format before anything runs."""
    for word, known, what in (
        (scale, ("paper", "mini"), "scale"),
        (form, SUFFIXES, "format"),
    ):
        if word not in known:
            raise SpecError(f"no {what} {word!r}; {nearest(word, known)}")
    if check and scale == "mini":
        raise SpecError("--check compares with published numbers: there are none at mini scale")
    if out is not None and out.suffix in (".png", ".svg"):
        raise SpecError(
            f"--out {out}: the table goes there; name it {out.stem}{SUFFIXES[form]}, and the "
            "picture of a figure is written beside it"
        )


def used(table: Any, texts: Sequence[str]) -> dict[str, str]:
    """Name of a row -> model, of `--use`; names may hold a `=`."""
    names = registry.attribute("leaderboards.table_rows:row_names")(table)
    found = {}
    for text in texts:
        fitting = [name for name in names if text.startswith(f"{name}=")]
        if not fitting:
            name = text.rpartition("=")[0] or text
            raise SpecError(f"--use {text}: no row {name!r}; {nearest(name, names)}")
        name = max(fitting, key=len)
        found[name] = text[len(name) + 1 :]
    return found


def matrix_of(
    store: Any, table: Any, scale: str, seeds: Sequence[int] | None, wishes: dict[str, Any]
) -> Any:
    """What is to be run; the store is read where models are to be found in it."""
    results = registry.attribute("bench.index:summaries")(store) if wishes["uses"] else ()
    make = registry.attribute("leaderboards.table_rows:matrix")
    unique = tuple(dict.fromkeys(seeds or (0,)))
    return make(table, scale, seeds=unique, results=results, **wishes)


def show_plan(found: Any, left_out: dict[str, str], as_json: bool) -> None:
    """Prints what it takes, and which rows are no part of it."""
    if as_json:
        emit({**found.to_json(), "left_out": left_out})
        return
    lines = [f"  {row}: {why}" for row, why in left_out.items()]
    typer.echo("\n".join([found.text(), *(["", "left out", *lines] if lines else [])]))


def show(filled: Any, form: str, out: Path | None, as_json: bool, failed: dict[str, str]) -> None:
    """Prints the table, or writes it, and the curves of a figure beside it."""
    formats = "leaderboards.table_formats"
    files = []
    if out is not None:
        text = registry.attribute(f"{formats}:render")(filled, form)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        except OSError as error:
            raise StoreError(
                f"cannot write {out} ({error.strerror}); give another --out"
            ) from error
        stem = out.with_suffix("") if out.suffix == SUFFIXES[form] else out
        files = [out, *registry.attribute("leaderboards.table_curves:write")(filled, stem)]
    if as_json:
        cells = registry.attribute(f"{formats}:records")(filled)
        emit({"cells": cells, "failed": failed, "problems": filled.problems, "files": files})
    elif out is None:
        width = registry.attribute("leaderboards.formats:terminal_width")()
        typer.echo(registry.attribute(f"{formats}:render")(filled, form, width), nl=False)
    else:
        typer.echo("\n".join(f"wrote {file}" for file in files))


def agree(filled: Any) -> bool:
    """Whether comparable cells were measured and all of them agree; says which do not."""
    differ, agreeing = filled.with_verdict("differs"), filled.with_verdict("agrees")
    for row, cell in differ:
        typer.echo(
            f"check: {row.label}, {cell.column.name}: {cell.ours.value:.2f}, published "
            f"{cell.published}, {cell.outside:.2f} outside the interval; "
            f"{cell.tolerance:g} allowed",
            err=True,
        )
    if not differ and not agreeing:
        typer.echo("check: no comparable cell was measured", err=True)
    else:
        typer.echo(f"check: {len(differ)} cells differ, {len(agreeing)} agree", err=True)
    return bool(agreeing) and not differ

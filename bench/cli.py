"""The command line: thin and quick; what is heavy is imported by the command that needs it."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, cast

import typer

from bench import registry
from bench.errors import SpecError, SSLBenchError, nearest

SINGULAR = {
    "methods": "method",
    "tasks": "task",
    "datasets": "dataset",
    "families": "family",
    "figures": "figure",
}
KINDS = tuple(SINGULAR)

app = typer.Typer(
    name="sslbench",
    help="Train, evaluate and compare self-supervised visual pre-training methods.",
    epilog="A first look: sslbench demo --out demo-out",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the data sets in their official layouts.", envvar="SSLBENCH_DATA"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Results = Annotated[Path, typer.Option(help="Folder of the result store.")]
SkipBad = Annotated[int, typer.Option(help="Unreadable images to leave out instead of stopping.")]


@app.callback()
def options(
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="File with a method, task, data set, family or figure."),
    ] = None,
) -> None:
    """Options of every command."""
    for file in plugin or ():
        registry.load_plugin(file)


@app.command("ls")
def ls(
    kind: Annotated[str, typer.Argument(help="|".join(KINDS))] = "",
    name: Annotated[str, typer.Argument(help="One of them: lists its options and presets.")] = "",
    as_json: Json = False,
) -> None:
    """List what there is, one line each; or the options and presets of one entry."""
    if kind and kind not in KINDS:
        raise SpecError(f"no kind {kind!r}; {nearest(kind, KINDS)}")
    if name:
        from bench.options import options_of

        found_options = options_of(SINGULAR[kind], name)
        emit(asdict(found_options)) if as_json else typer.echo(found_options.text())
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


@app.command()
def doctor(data: Data = None, as_json: Json = False) -> None:
    """Say what works here, what does not, and the command that mends it."""
    from bench import doctor as examination

    report = examination.report(data)
    emit(report.to_json()) if as_json else typer.echo(report.text())
    if not report.healthy:
        raise typer.Exit(1)


@app.command()
def mini(
    folder: Annotated[Path, typer.Argument(help="Where to write it; usable as --data.")],
    size: Annotated[str, typer.Option(help="small (32 px) or medium (64 px).")] = "small",
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 0,
    images: Annotated[
        int | None, typer.Option(help="Object-centric training images; others in proportion.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the built-in mini benchmark in official layouts."""
    if size not in ("small", "medium"):
        raise SpecError(f"no size {size!r}; {nearest(size, ('small', 'medium'))}")
    from bench import demo

    sheet = demo.write_mini_with_sheet(folder, cast(Literal["small", "medium"], size), seed, images)
    if as_json:
        emit({"folder": str(folder), "contact_sheet": str(sheet)})
    else:
        typer.echo(f"wrote {folder}; look at {sheet}")


@app.command("demo")
def run_demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(
        "demo-out"
    ),
) -> None:
    """Run the main job on the mini benchmark: train, evaluate, rank, plot."""
    from bench import demo

    demo.run(out)


@app.command()
def train(
    spec: Annotated[str, typer.Argument(metavar="METHOD@DATASET[?KEY=VALUE&...]")],
    out: Annotated[Path, typer.Option(help="Run folder.")],
    data: Data = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="More keys of the spec.")
    ] = None,
    skip_bad: SkipBad = 0,
    as_json: Json = False,
) -> None:
    """Pre-train one method and leave a run folder with a checkpoint."""
    run = registry.attribute("trainers.loop:train")
    text = with_options(spec, sets or ())
    folder = run(text, out, data=data, resume=resume, skip_bad=skip_bad)
    if as_json:
        emit({"run": str(folder), "checkpoint": str(folder / "checkpoint")})
    else:
        typer.echo(f"{folder}\nnext: sslbench eval {folder} --tasks knn,linear@DATASET")


@app.command()
def inspect(
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


@app.command("eval")
def evaluate(
    models: Annotated[list[str], typer.Argument(help="Run folders, files, timm:NAME, random:ARCH")],
    tasks: Annotated[
        list[str], typer.Option(help="TASK@DATASET?key=value, comma-separated; may be repeated.")
    ],
    results: Results = Path("results"),
    data: Data = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; may be repeated.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; by default the best there is.")] = "",
    batch_size: Annotated[int, typer.Option(help="Images a forward pass takes.")] = 128,
    workers: Annotated[int, typer.Option(help="Loader processes.")] = 2,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    cache: Annotated[
        Path | None, typer.Option(help="Feature cache; by default inside --results.")
    ] = None,
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
    try:
        report = evaluate(models, tasks, Store(results), settings)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: the same command continues where this one stopped", err=True)
        raise typer.Exit(130) from None
    if as_json:
        cells = {"ran": report.ran, "stood": report.stood}
        listed = {k: [json.loads(r.to_json()) for r in v] for k, v in cells.items()}
        emit({**listed, "failed": report.failed})
    else:
        typer.echo(report.summary(results))
    if report.failed:
        raise typer.Exit(1)


@app.command()
def board(
    results: Results = Path("results"),
    form: Annotated[str, typer.Option("--format", help="text, md, csv, latex or html.")] = "text",
    out: Annotated[Path | None, typer.Option(help="File to write instead of printing.")] = None,
    tasks: Annotated[list[str] | None, typer.Option(help="Only these tasks.")] = None,
    models: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    sort: Annotated[str, typer.Option(help="rank, or the name of a column.")] = "rank",
    curves: Annotated[
        list[Path] | None, typer.Option(help="Pictures to put on the HTML page.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print or write the leaderboard of the store."""
    from bench.store import Store

    store = Store(results)
    if as_json:
        if out or tasks or models:
            raise SpecError("--json prints the whole store: leave out --out, --tasks and --models")
        frame = registry.attribute("leaderboards.cells:frame")(store)
        typer.echo(frame.to_json(orient="records"))
        return
    if out is not None:
        write = registry.attribute("leaderboards.board:write_board")
        path = write(
            store, form, out, tasks=tasks, models=models, sort=sort, curves=tuple(curves or ())
        )
        typer.echo(f"wrote {path}")
        return
    render = registry.attribute("leaderboards.board:render")
    shown = registry.attribute("leaderboards.ranking:board")(
        store, tasks=tasks, models=models, sort=sort
    )
    width = registry.attribute("leaderboards.formats:terminal_width")()
    typer.echo(render(shown, form, width=width))


@app.command()
def cell(
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


@app.command()
def curve(
    task: Annotated[str, typer.Option(help="Task on the y axis, for example knn@imagenette.")],
    results: Results = Path("results"),
    x: Annotated[
        str, typer.Option(help="images, views_seen, epochs or effective_epochs.")
    ] = "images",
    methods: Annotated[list[str] | None, typer.Option(help="Only these methods.")] = None,
    models: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    out: Annotated[Path, typer.Option(help="Path without ending (.png .svg .csv).")] = Path(
        "curve"
    ),
    as_json: Json = False,
) -> None:
    """Plot quality against data or training, with intervals and a fitted law."""
    from bench.store import Store

    draw = registry.attribute("leaderboards.curves:curve")
    files = draw(Store(results), task=task, x=x, methods=methods, models=models, out_stem=out)
    if as_json:
        emit({"files": [str(file) for file in files]})
    else:
        typer.echo("\n".join(f"wrote {file}" for file in files))


@app.command()
def figure(
    kind: Annotated[str, typer.Argument(metavar="KIND[?KEY=VALUE&...]", help="See ls figures.")],
    things: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... IMAGES...",
            help="Models; image files, folders of images and data sets to look at "
            "(by default held-out images of the first model's training data).",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Path without ending; by default the kind's name.")
    ] = None,
    data: Data = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; by default the best there is.")] = "",
    skip_bad: SkipBad = 0,
    as_json: Json = False,
) -> None:
    """Draw what models see: a picture, and the numbers in it as a file beside it."""
    from bench.figure import draw

    files = draw(kind, things, out, data=data, device=device, skip_bad=skip_bad)
    if as_json:
        emit({"files": [str(file) for file in files]})
    else:
        typer.echo("\n".join(f"wrote {file}" for file in files))


def with_options(spec: str, pairs: Sequence[str]) -> str:
    """``spec`` with ``KEY=VALUE`` pairs added; later ones win."""
    from bench.spec import Spec, parse

    parsed = parse(spec)
    options = dict(parsed.options)
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise SpecError(f"--set {pair}: write --set KEY=VALUE")
        options[key] = value
    return str(Spec(parsed.name, parsed.dataset, tuple(sorted(options.items()))))


def emit(values: Mapping[str, Any]) -> None:
    """Print JSON."""
    typer.echo(json.dumps(values, indent=1, default=str))


def main() -> NoReturn:
    """Run the command line; an error that advice can mend is one line and exit code 2."""
    # Threads that spin while they wait make a step four times slower as soon as anything else,
    # be it the loader, wants a core. Read by the OpenMP runtime when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except SSLBenchError as error:
        print(f"sslbench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk or a folder that cannot be written, met outside of what guards against it.
        print(f"sslbench: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


if __name__ == "__main__":
    main()

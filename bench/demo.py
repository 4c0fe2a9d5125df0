"""The main job on the mini benchmark: train, evaluate, rank, plot; all left in one folder."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from bench import registry
from bench.errors import SSLBenchError
from bench.progress import Progress, say
from bench.records import Metric

if TYPE_CHECKING:
    from bench.store import Store

ARCH = "vit_mini_patch4_32"
DATASETS = ("mini_objects", "mini_scenes")
TASKS = "knn@{0},linear@{0}"

# Method -> its epochs, within which it beats random weights on two cores.
METHODS = {"mae": 4, "dino": 4, "slotmim": 2}
WARMUP = 0.5
# The data-scaling curve: one method, as many steps on each subset as on the whole.
CURVE = "mae"
CURVE_SIZES = (384, 1536)
BATCH = 128
# Two robots, at so small a size that they show the machinery and no ranking.
ROBOT = "slotmim"
ROBOT_DATA = ("franka_kitchen[tasks=light_on]", "metaworld[tasks=drawer-close]")
ROBOT_COUNTS, ROBOT_OPTIONS = "demos=4,rollouts=3", "steps=400&policies=1&frame_px=96"


def run(out: Path) -> None:
    """Do everything; what a stopped demo has done already is not done again.

    Raises:
        SSLBenchError: a cell failed (the others are there), or a trained encoder is not better than
            random weights anywhere.
    """
    from bench.engine import Settings, evaluate
    from bench.store import Store

    started = time.monotonic()
    data, runs = out / "data", out / "runs"
    say(f"[1/6] the mini benchmark -> {data}")
    sheet = write_mini_with_sheet(data, "small", 0, None)

    specs = training_runs()
    train = registry.attribute("trainers.loop:train")
    for i, (name, spec) in enumerate(specs.items(), 1):
        say(f"[2/6] pre-training {i} of {len(specs)}: sslbench train '{spec}' --out {runs / name}")
        folder = runs / name
        train(spec, folder, data=data, resume=(folder / "config.json").exists())

    say("[3/6] evaluating on object-centric and scene-centric data")
    store = Store(out / "results")
    models = [*(str(runs / name) for name in specs), f"random:{ARCH}"]
    tasks = [TASKS.format(name) for name in DATASETS]
    settings = Settings(data=data, cache=out / "results" / ".cache")
    report = evaluate(models, tasks, store, settings)
    if report.failed:
        cell, reason = next(iter(report.failed.items()))
        raise SSLBenchError(f"{len(report.failed)} cells failed, the first is {cell}: {reason}")

    say("[4/6] the data-scaling curve")
    draw = registry.attribute("leaderboards.curves:curve")
    picture = draw(store, task="knn@mini_objects", methods=[CURVE], out_stem=out / "curve")[0]

    say("[5/6] the leaderboard")
    write = registry.attribute("leaderboards.board:write_board")
    page = write(store, "html", out / "leaderboard", curves=(picture.with_suffix(".svg"),))
    shown = registry.attribute("leaderboards.ranking:board")(store)
    typer.echo(registry.attribute("leaderboards.board:render")(shown, "text"))
    verdicts = [verdict(store, name) for name in METHODS]
    typer.echo("\n".join(text for text, _ in verdicts))

    say(f"[6/6] two robots that act by what {ROBOT} sees: the machinery, no ranking")
    film = robots(out, runs / ROBOT)
    typer.echo(
        f"""
done in {(time.monotonic() - started) / 60:.1f} minutes
  leaderboard        {page}
  scaling curve      {picture}
  pictures seen      {sheet}
  runs               {runs}/{{{",".join(specs)}}}
  results            {out / "results"}
  robots             {film}
next, with your own data and checkpoints:
  sslbench inspect {runs / "slotmim"}
  sslbench train 'slotmim@imagenette?preset=small&arch=vit_tiny_patch16_224' --data DATA --out RUN
  sslbench eval RUN --tasks knn,linear@imagenette --data DATA
  sslbench board --results {out / "results"}"""
    )
    if not all(better for _, better in verdicts):
        raise SSLBenchError("a trained encoder is not separable from random weights, see above")


def verdict(store: "Store", name: str) -> tuple[str, bool]:
    """Whether a run beats random weights on a task: the intervals on that task do not overlap."""
    scores: dict[str, dict[str, Metric]] = {}
    floor = f"random-{ARCH}-seed0"
    for result in store.results():
        scores.setdefault(result.task_spec, {})[result.model["name"]] = result.metrics[
            result.headline
        ]
    won = [
        task
        for task, by_model in sorted(scores.items())
        if name in by_model
        and floor in by_model
        and (by_model[name].low or 0) > (by_model[floor].high or 1)
    ]
    return f"{name} beats random weights on {', '.join(won) or 'nothing'}", bool(won)


def training_runs() -> dict[str, str]:
    """Name and spec of every run: the methods on all data, and one of them on subsets."""
    from bench.data.mini.plan import IMAGES

    common = "preset=small:mini&workers=1"
    sets = {name: (name, "mini_objects", 1.0) for name in METHODS}
    for n in CURVE_SIZES:
        # As many steps on each: a smaller set is gone through more often, the warm-up included.
        times = (IMAGES // BATCH) / (n // BATCH)
        sets[f"{CURVE}-{n}"] = CURVE, f"mini_objects[n={n},seed=0]", times
    return {
        name: f"{method}@{images}?{common}&epochs={METHODS[method] * times:g}"
        f"&warmup_epochs={WARMUP * times:g}"
        for name, (method, images, times) in sets.items()
    }


def robots(out: Path, model: Path) -> str:
    """Clones experts with a frozen model; the picture of what came of it, or what that needs.

    Raises:
        SSLBenchError: a cell failed.
    """
    from bench import gl
    from bench.engine import Settings, evaluate
    from bench.figure import draw
    from bench.store import Store

    suites = [name.partition("[")[0] for name in ROBOT_DATA]
    versions_of = registry.attribute("tasks.robot.simulators.simulator:versions_of")
    try:
        for suite in suites:
            versions_of(suite)
        gl.backend()
    except SSLBenchError as error:
        say(f"left out: {error}")
        return f"left out: {error}"
    tasks = [
        f"{suite}@{name.rstrip(']')},{ROBOT_COUNTS}]?{ROBOT_OPTIONS}"
        for suite, name in zip(suites, ROBOT_DATA, strict=True)
    ]
    # Not among the results: of the models there, one alone has met these tasks.
    store, picture = Store(out / "robots"), out / "robots.png"
    # One process simulates: so few episodes take less time than starting another does.
    settings = Settings(cache=out / "results" / ".cache", workers=1)
    report = evaluate([str(model)], tasks, store, settings)
    if report.failed:
        raise SSLBenchError(f"robots: {next(iter(report.failed.values()))}")
    if not picture.exists():
        spec = f"rollout?results={store.root}&images=6"
        draw(spec, [str(model), *ROBOT_DATA], picture.with_suffix(""))
    return f"{picture}, and its results {store.root}"


def write_mini_with_sheet(
    folder: Path, size: Literal["small", "medium"], seed: int, images: int | None
) -> Path:
    """Write the mini benchmark and a contact sheet into ``folder``; returns the sheet's path."""
    from bench.data.mini.sheet import contact_sheet
    from bench.data.mini.write import write_mini

    bars: dict[str, Progress] = {}

    def note(name: str, done: int, total: int) -> None:
        bar = bars.setdefault(name, Progress(f"write {name}", total))
        bar.advance(done - bar.done)

    write_mini(folder, size, seed, images, progress=note)
    path = folder / "contact_sheet.png"
    if not path.exists():
        contact_sheet(folder).save(path)
    return path

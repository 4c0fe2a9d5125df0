"""The training loop: from a spec to a checkpoint, readable from top to bottom."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from bench import dist, registry
from bench.checkpoints.native import write_checkpoint
from bench.dataset import Split, open_split
from bench.errors import DataError, SpecError, TrainingError, nearest
from bench.progress import say
from bench.spec import Spec, bind, parse
from bench.transforms import InputSpec
from trainers.blocks.photometric import augment
from trainers.blocks.views import Batch, effective_epoch_factor
from trainers.data import COLOUR, make_loader, step_seed
from trainers.flops import count_flops
from trainers.method import Method
from trainers.optim import clip_gradients, make_optimizer, set_schedule
from trainers.recipe import Plan, Recipe, canonical
from trainers.report import Reporter
from trainers.state import RunFolder, changes, open_run


def train(
    spec: str | Spec,
    out: Path,
    *,
    data: Path | None = None,
    resume: bool = False,
    skip_bad: int = 0,
    stop_at: int | None = None,
) -> Path:
    """Pre-train one method and leave a run folder.

    Args:
        spec: ``METHOD@DATASET?key=value&...``; keys are fields of the method's recipe and
            ``preset``.
        out: the run folder.
        data: data root; by default the environment's.
        resume: continue the run in ``out``; on a CPU byte for byte as if it had never stopped.
        skip_bad: number of unreadable images that are replaced by others instead of stopping the
            run.
        stop_at: stop, with the state saved, when this many steps are done.

    Returns:
        ``out``, whose ``checkpoint/`` holds the product once all steps are done.

    Raises:
        SpecError: unknown method, preset, key or data set.
        DataError: the data are missing, too few, or unreadable.
        TrainingError: ``out`` is taken, the loss is not finite, or the disk is full.
        Stopped: SIGINT or SIGTERM came; the state is saved.
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    cls, recipe = resolve(spec)
    one_process()
    fabric = Fabric(accelerator="auto", devices=1, precision=recipe.precision)
    fabric.launch()
    split = open_split(spec.dataset, "train", data)
    plan = lay_out(recipe, len(split), split.name)
    folder, config, state = open_run(Path(out), spec, plan, split, resume)
    if (folder.checkpoint / "checkpoint.json").exists():
        say(f"{out} is complete: nothing to train")
        return Path(out)

    torch.manual_seed(recipe.seed)
    method = cls(plan)
    flops = state.get("flops_per_image") or count_flops(method)
    # Settings that cannot work have been refused by now: they leave the folder to others.
    dist.barrier()  # all have looked before one writes
    if dist.is_main() and folder.config() is None:
        folder.start(config)
    model, optimizer = fabric.setup(method, make_optimizer(method, recipe))
    step = 0
    if state:
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        say(f"resuming {out} at step {step} of {plan.steps}")

    def save() -> None:
        state = {"step": step, "method": method.state_dict(), "optimizer": optimizer.state_dict()}
        if dist.is_main():
            facts = {"flops_per_image": flops, "unreadable": sorted(bad)}
            folder.save(step, {**state, **facts})

    last = min(plan.steps, stop_at or plan.steps)
    loader = iter(make_loader(split, method, step))
    bad: set[str] = set(state.get("unreadable", ()))
    saved = time.monotonic()
    with Reporter(folder, plan, f"train {spec.name}", step) as report, stop_requests() as stopping:
        while step < last:
            loaded = next(loader)
            bad.update(loaded.bad)
            if len(bad) > skip_bad:
                raise DataError(
                    f"{min(bad)} [{len(bad)} unreadable so far, {skip_bad} allowed: go on with "
                    f"--resume, and --skip-bad {len(bad)} or more if the files cannot be mended]"
                )
            set_schedule(optimizer, plan.lr(step), plan.weight_decay(step))
            micro_batches = loaded.batch.split(recipe.accumulate)
            parts: dict[str, Tensor] = {}
            for i, micro in enumerate(micro_batches):
                # All that is drawn in a step comes from its number: resuming needs no generator
                # state.
                torch.manual_seed(step_seed(recipe.seed, step, i))
                colour = step_seed(recipe.seed, step, i, COLOUR)
                batch = prepare(micro.to(fabric.device), method, colour)
                with fabric.no_backward_sync(model, enabled=i + 1 < len(micro_batches)):
                    found = model(batch, step)
                    fabric.backward(found["loss"] / len(micro_batches))
                for name, value in found.items():
                    parts[name] = parts.get(name, 0) + value.detach() / len(micro_batches)
            norm = clip_gradients(method, recipe.clip, recipe.clip_mode)
            # Reading a number waits for the device, so accelerators are asked only now and then.
            if fabric.device.type == "cpu" or step % recipe.log_every == 0:
                check_finite(parts, norm, step, folder)
            for parameter in method.frozen(step):
                parameter.grad = None
            optimizer.step()
            method.after_step(step)
            optimizer.zero_grad(set_to_none=True)
            step += 1

            if step % recipe.log_every == 0 or step == last:
                report(step, parts, norm)
            if recipe.online and step % max(plan.at_epoch(recipe.online_every), 1) == 0:
                report.log(step, online(recipe.online, method, data))
            if step == plan.steps:
                check_finite(parts, norm, step, folder)
            asked, due = stopping(), time.monotonic() - saved > recipe.save_seconds
            if step < plan.steps and (asked or due or step == last):
                check_finite(parts, norm, step, folder)
                save()
                saved = time.monotonic()
                if asked:
                    raise Stopped(
                        f"stopped after step {step} of {plan.steps}, with the state saved; run "
                        "again with --resume to go on"
                    )
    if step == plan.steps and dist.is_main():
        write_product(folder, spec, method, plan, split, flops, sorted(bad), report.collapsed)
    return Path(out)


def one_process() -> None:
    """Refuse to be one of several processes that a launcher started: each would train alone."""
    if (
        size := os.environ.get("WORLD_SIZE", "1")
    ) != "1" and not torch.distributed.is_initialized():
        raise TrainingError(
            f"started as one of {size} processes (WORLD_SIZE), but training runs on one device: "
            "start it without a launcher"
        )


class Stopped(TrainingError):
    """The run was asked to stop and can be resumed; exits as an interrupted command does."""

    exit_code = 130


def resolve(spec: Spec) -> tuple[type[Method], Recipe]:
    """The method's class and its recipe with presets and options applied."""
    cls: type[Method] = registry.load("method", spec.name)
    options = dict(spec.options)
    preset: dict[str, Any] = {}
    for name in filter(None, options.pop("preset", "").split(":")):
        if name not in cls.presets:
            raise SpecError(f"{spec.name} has no preset {name!r}; {nearest(name, cls.presets)}")
        preset |= cls.presets[name]
    return cls, bind(cls.recipe, options, preset)


def changed_settings(spec: str, out: Path) -> list[str]:
    """How the run in ``out`` differs from what ``spec`` says now, in words.

    Empty when there is no run. Fields that either recipe does not have are not compared.
    """
    parsed, old = parse(spec), RunFolder(out).config()
    if old is None:
        return []
    _, recipe = resolve(parsed)
    values = {k: v for k, v in asdict(recipe).items() if k in old["recipe"]}
    now = {**old, "method": parsed.name, "dataset": parsed.dataset_text, "recipe": values}
    before = {**old, "recipe": {k: v for k, v in old["recipe"].items() if k in values}}
    return changes(before, now)


def lay_out(recipe: Recipe, images: int, name: str) -> Plan:
    """The plan of ``recipe`` over the images of ``name``; says what to change when it misfits."""
    parts = dist.world_size() * recipe.accumulate
    if recipe.batch_size % parts:
        raise SpecError(
            f"batch_size={recipe.batch_size} cannot be divided among {dist.world_size()} processes "
            f"x accumulate={recipe.accumulate}: choose a multiple of {parts}"
        )
    if images < recipe.batch_size:
        largest = 1 << (max(images, 1).bit_length() - 1)
        raise DataError(
            f"{name} has {images} training images, fewer than one batch of "
            f"{recipe.batch_size}: set batch_size={largest} or less"
        )
    return Plan.of(recipe, images)


def prepare(batch: Batch, method: Method, seed: int) -> Batch:
    """uint8 views as ``losses`` wants them: augmented on the device and normalised."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for view, spec in zip(batch.images, method.view_specs(), strict=True):
        if spec.photometric is not None:
            view = augment(view.float() / 255, spec.photometric, generator) * 255
        images.append(InputSpec().normalise(view))
    batch.images = images
    return batch


def check_finite(parts: Mapping[str, Tensor], norm: Tensor, step: int, folder: RunFolder) -> None:
    """Stop on a loss or gradient that is not a number; what was saved before stays."""
    if math.isfinite(float(parts["loss"])) and math.isfinite(float(norm)):
        return
    values = ", ".join(f"{name} {float(value):.4g}" for name, value in parts.items())
    states = folder.states()
    last = f"the last good state is {states[-1]}" if states else "no state was saved yet"
    raise TrainingError(
        f"the loss or its gradient is not finite at step {step} ({values}, gradient norm "
        f"{float(norm):.4g}); {last}: start anew in another --out with a lower lr or teacher_temp, "
        "more warmup_epochs, or clip"
    )


def online(tasks: str, method: Method, data: Path | None) -> dict[str, float]:
    """Headline metrics of ``tasks`` for the backbone as it is now."""
    score = registry.attribute("bench.engine:score_backbone")
    return dict(score(method.backbone(), input_spec(method), tasks, data))


def input_spec(method: Method) -> InputSpec:
    """What images the trained backbone wants to see."""
    size = max(spec.size_px for spec in method.view_specs())
    crop_pct = method.plan.recipe.crop_pct
    return InputSpec.of_size(size) if crop_pct is None else InputSpec(size, crop_pct=crop_pct)


def write_product(
    folder: RunFolder,
    spec: Spec,
    method: Method,
    plan: Plan,
    split: Split,
    flops: float,
    unreadable: list[str],
    collapsed: str,
) -> None:
    """Write ``checkpoint/``: the evaluated backbone, everything else, and where they come from."""
    views, recipe, epochs = method.view_specs(), plan.recipe, plan.epoch(plan.steps)
    seen = plan.steps * recipe.batch_size
    pretrain = {
        "spec": canonical(spec),
        "dataset": spec.dataset_text,
        "manifest": split.manifest,
        "images": len(split),
        "epochs": epochs,
        "effective_epochs": epochs * effective_epoch_factor(views),
        "views_seen": seen * len(views),
        "steps": plan.steps,
        "flops": flops * seen,
        "seed": recipe.seed,
        "unreadable": unreadable,
        "collapsed": collapsed,
        "recipe": asdict(recipe),
    }
    meta = {
        "name": folder.root.resolve().name,
        "arch": recipe.arch,
        "arch_kwargs": method.arch_kwargs(),
        "method": spec.name,
        "input": input_spec(method).to_json(),
        "eval_branch": method.eval_branch,
        "pos_interp": method.pos_interp,
        "extras": method.extras(),
        "pretrain": pretrain,
    }
    write_checkpoint(folder.checkpoint, method.backbone(), method.state_dict(), meta)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Within, SIGINT and SIGTERM only make the yielded function return True; a second one kills."""
    asked: list[int] = []

    def note(number: int, _: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        say("stopping after this step, with the state saved")

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: leave signals alone
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

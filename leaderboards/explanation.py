"""A stored cell in words: its numbers, what they rest on, their cost and their origin."""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from bench import registry
from bench.records import Metric, Result
from leaderboards.cell import StoredCell
from leaderboards.cells import pretraining
from leaderboards.columns import Column, columns_of

LABEL = 12  # width of the first column


def as_json(found: StoredCell) -> dict[str, Any]:
    """The stored result, its folder, and what the outcome's rows hold."""
    values: dict[str, Any] = json.loads(found.result.to_json())
    outcome = {"rows": len(found.outcome), "columns": list(found.outcome.columns)}
    return {**values, "folder": str(found.folder), "outcome": outcome}


def as_text(found: StoredCell) -> str:
    """The same for a person: a line a fact."""
    result = found.result
    lines = [f"{result.task_spec} of {result.model['name']}", ""]
    lines += list(_metrics(result))
    lines += ["", *(f"warning: {text}" for text in result.warnings)]
    lines += [""] * bool(result.warnings)
    for label, text in _facts(found):
        lines.append(f"{label:<{LABEL}}{text}")
    return "\n".join(lines)


def _metrics(result: Result) -> Iterator[str]:
    """The headline first; intervals and counts below one another."""
    names = sorted(result.metrics, key=lambda name: (name != result.headline, _natural(name)))
    width = max(LABEL, *(len(name) + 2 for name in names))
    for name in names:
        metric = result.metrics[name]
        (column,) = columns_of([dataclasses.replace(result, headline=name)]).values()
        value = column.show(metric.value) + (" %" if column.percent else "")
        tail = [_interval(metric, column), f"n {metric.n:,}" if metric.n is not None else ""]
        yield f"{name:<{width}}{value:>8}  {tail[0]:<16}  {tail[1]}".rstrip()


def _interval(metric: Metric, column: Column) -> str:
    if metric.low is None or metric.high is None:
        return ""
    kind = {"wilson95": "Wilson", "bootstrap95": "bootstrap"}.get(str(metric.interval), "")
    return f"[{column.show(metric.low)}, {column.show(metric.high)}] {kind}".rstrip()


def _facts(found: StoredCell) -> Iterator[tuple[str, str]]:
    result, identity = found.result, found.result.identity
    given = {name: value for name, value in identity.fields.items() if name != "facts"}
    fields = "&".join(f"{key}={value}" for key, value in sorted(given.items()))
    default = "" if "protocol" in given else _default_protocol(identity.task)
    told = f"{identity.task} version {identity.task_version}"
    yield "protocol", _joined(told, default, fields or "its defaults")
    yield "data set", _data(result.dataset)
    if facts := identity.fields.get("facts"):
        yield "and", _joined(*(f"{name} {_short(value)}" for name, value in facts.items()))
    yield "model", _model(result)
    if trained := _trained(result):
        yield "trained on", trained
    yield "cost", _cost(result.cost)
    for shared in result.cost.get("shared", ()):
        what, seconds, tasks = shared["what"], shared["seconds"], shared["tasks"]
        together = f", shared by {', '.join(tasks)}" if len(tasks) > 1 else ""
        yield "", f"{what}: {seconds:.1f} s{together}"
    yield "identity", f"{identity.digest}, seed {identity.seed}"
    yield "made", _made(result.provenance)
    if command := result.provenance.get("command_line"):
        yield "command", str(command)
    columns = ", ".join(found.outcome.columns)
    yield "outcome", f"{len(found.outcome):,} rows: {columns}"
    yield "folder", str(found.folder)


def _default_protocol(task: str) -> str:
    """The published protocol that a task follows unless told otherwise; empty where none."""
    if task not in registry.names("task"):
        return ""  # of a plug-in that is not here
    fields = dataclasses.fields(registry.load("task", task))
    return next((str(field.default) for field in fields if field.name == "protocol"), "")


def _short(text: str) -> str:
    """Manifests as the data set's are shown, other texts as they are."""
    return f"manifest {text[:8]}" if re.fullmatch("[0-9a-f]{64}", text) else text


def _data(dataset: dict[str, Any]) -> str:
    images, manifests = dataset.get("images", {}), dataset.get("manifests", {})
    if not isinstance(images, dict):
        images = {"all": images}
    splits = (
        f"{name} {count:,}{'' if name == 'objects' else ' images'}"
        + (f" (manifest {manifests[name][:8]})" if name in manifests else "")
        for name, count in images.items()
    )
    rule = dataset.get("split_rule")
    return _joined(
        dataset.get("name"),
        f"{dataset['classes']} classes" if dataset.get("classes") else None,
        f"split {rule}" if rule else None,
        *splits,
    )


def _model(result: Result) -> str:
    model = result.model
    size = (model.get("input") or {}).get("size_px")
    return _joined(
        model.get("source"),
        model.get("method"),
        model.get("arch"),
        f"{size} px" if size else None,
        f"weights {model.get('weights', '')[:12]}",
    )


def _trained(result: Result) -> str:
    trained = pretraining(result)
    if not trained:
        return ""
    images, epochs, seed = (trained.get(key) for key in ("images", "epochs", "seed"))
    return _joined(
        trained.get("dataset"),
        f"{images:,} images" if images is not None else None,
        f"{epochs:g} epochs" if epochs is not None else None,
        f"seed {seed}" if seed is not None else None,
    )


def _cost(cost: dict[str, Any]) -> str:
    peak, flops = cost.get("peak_memory_bytes"), cost.get("flops")
    return _joined(
        f"{cost['seconds']:.1f} s" if "seconds" in cost else None,
        f"{cost['images']:,} images" if "images" in cost else None,
        f"peak memory {peak / 1e6:,.0f} MB" if peak else None,
        f"{flops:.3g} FLOPs" if flops else None,
    )


def _made(provenance: dict[str, Any]) -> str:
    device, packages = provenance.get("device") or {}, provenance.get("packages") or {}
    commit = provenance.get("git_commit")
    dirty = " with changes" if provenance.get("git_dirty") else ""
    machine = ", ".join(device.get("gpus") or ()) if isinstance(device, dict) else str(device)
    if not machine and isinstance(device, dict):
        machine = str(device.get("cpu") or "")
    versions = (f"{name} {packages[name]}" for name in ("sslbench", "torch") if name in packages)
    return _joined(
        provenance.get("started"),
        f"commit {commit[:10]}{dirty}" if commit else None,
        *versions,
        f"Python {provenance['python']}" if provenance.get("python") else None,
        machine,
    )


def _joined(*parts: str | None) -> str:
    return ", ".join(str(part) for part in parts if part) or "not recorded"


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts knn_k100 behind knn_k20."""
    words: Iterable[str] = name.split("_")
    return [(len(word), word) if word[-1:].isdigit() else (0, word) for word in words]

"""What a cell of the page tells when it is opened: everything that made its number."""

import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from bench.records import Metric, Result
from leaderboards.cells import metric_words, pretraining
from leaderboards.columns import Column
from leaderboards.formats import interval, seeds
from leaderboards.ranking import Cell, Row


def details(row: Row, column: Column, cell: Cell) -> str:
    """HTML for the dialog of one cell, every text escaped; several seeds follow one another."""
    facts = [f"<b>{column.show(cell.value)}</b>", interval(cell, column), seeds(cell, column)]
    parts = [
        f'<h2 id="details-title">{escape(row.name)}</h2>',
        f'<p class="lead"><code>{escape(column.label)}</code></p>',
        f"<p>{escape(column.unit)} {' '.join(filter(None, facts))}</p>",
    ]
    if len(cell.results) == 1:
        return "\n".join([*parts, one_result(cell.results[0])])
    for number, result in enumerate(cell.results):
        value = result.metrics[result.headline].value
        title = f"{_seed(result)}: {column.show(value)}"
        opened = "" if number else " open"
        parts.append(
            f"<details{opened}><summary>{escape(title)}</summary>{one_result(result)}</details>"
        )
    return "\n".join(parts)


def one_result(result: Result) -> str:
    """Warnings, command, metrics, identity, data, model, cost and provenance of one result."""
    identity = result.identity
    protocol = {"task": identity.task, "version": identity.task_version} | (
        identity.fields or {"fields": "all at their defaults"}
    )
    sections = [
        *(f'<p class="warning">{escape(text)}</p>' for text in result.warnings),
        "<h3>Make it again</h3>",
        f'<button type="button" class="copy">Copy</button><pre>{escape(command(result))}</pre>',
        "<h3>Metrics</h3>",
        _metrics(result.metrics),
        _section("Protocol", protocol),
        _section("Data", {"spec": result.task_spec.partition("@")[2]} | result.dataset),
        _section("Model", {k: v for k, v in result.model.items() if k != "pretrain"}),
        _section("Pre-training", pretraining(result) or {"record": "none"}),
        _section("Cost", result.cost),
        _section(
            "Identity",
            {
                "cell": identity.digest,
                "weights": identity.weights,
                "data manifest": identity.dataset,
                "seed": identity.seed,
            },
        ),
        _section("Provenance", result.provenance),
    ]
    return "\n".join(sections)


def command(result: Result) -> str:
    """The command that makes this result again, quoted for a shell."""
    words = ["sslbench", "eval", str(result.model["source"]), "--tasks", result.task_spec]
    if result.identity.seed:
        words += ["--seed", str(result.identity.seed)]
    return shlex.join(words)


def _seed(result: Result) -> str:
    trained = pretraining(result).get("seed")
    before = "" if trained is None else f"pre-training seed {trained}, "
    return f"{before}evaluation seed {result.identity.seed}"


def _metrics(metrics: Mapping[str, Metric]) -> str:
    lines = [
        "<tr>"
        + "".join(
            f"<td>{escape(text)}</td>"
            for text in (
                metric_words(name),
                f"{metric.value:.6g}",
                "" if metric.low is None else f"{metric.low:.6g}",
                "" if metric.high is None else f"{metric.high:.6g}",
                "" if metric.n is None else f"{metric.n:,}",
                metric.interval or "",
            )
        )
        + "</tr>"
        for name, metric in metrics.items()
    ]
    names = ("metric", "value", "low", "high", "samples", "interval")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _section(title: str, facts: Mapping[str, Any]) -> str:
    """A heading and its facts; nothing when there are none."""
    known = {name: value for name, value in facts.items() if value not in (None, "", {}, [])}
    if not known:
        return ""
    items = "".join(
        f"<dt>{escape(str(name).removesuffix('_bytes').replace('_', ' '))}</dt>"
        f"<dd>{escape(written(name, value))}</dd>"
        for name, value in known.items()
    )
    return f"<h3>{escape(title)}</h3><dl>{items}</dl>"


def written(name: str, value: Any) -> str:
    """A recorded value as text: bytes in MB, counts with separators, mappings as `key value`."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {written(str(key), item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(written(name, item) for item in value)
    if isinstance(value, int | float):
        if name.endswith("bytes"):
            return f"{value / 1e6:,.0f} MB"
        return f"{value:,}" if isinstance(value, int) and abs(value) > 999 else f"{value:.6g}"
    return str(value)

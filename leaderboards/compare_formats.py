"""A comparison as text, Markdown, CSV or LaTeX. Each writer is pure: comparison in, text out."""

from __future__ import annotations

import csv as csv_module
import io
import textwrap
from collections.abc import Iterator, Sequence

from bench.errors import SpecError, nearest
from leaderboards.cells import MINI_NOTE
from leaderboards.columns import Column
from leaderboards.compare import Comparison, Line
from leaderboards.formats import escape_latex, escape_markdown, printable

FORMATS = ("text", "md", "csv", "latex")
SCORES = ("task", "metric", "n", "A", "B", "A better by", "verdict")
TESTS = ("p", "exact p", "Holm p", "detectable")
LEFT = {"task", "metric", "A better by", "verdict"}
WORDS = {"A": "A better", "B": "B better", "none": "no difference seen", "unknown": "not tested"}


def render(found: Comparison, form: str = "text", width: int | None = None) -> str:
    """The comparison in one of `FORMATS`; text fits into `width` columns where it can."""
    if form == "text":
        return text(found, width)
    writers = {"md": markdown, "csv": csv, "latex": latex}
    if form not in writers:
        raise SpecError(f"--format {form}: {nearest(form, FORMATS)}")
    return writers[form](found)


def text(found: Comparison, width: int | None = None) -> str:
    """Aligned text; the tests go below the scores where they do not fit beside them."""
    parts = [f"A  {printable(found.first)}\nB  {printable(found.second)}"]
    if found.lines:
        tests = _tests(found)
        table = _table(found, [*SCORES, *tests])
        if width is not None and max(map(len, table)) > width:
            table = [*_table(found, SCORES), "", *_table(found, ["task", *tests])]
        parts.append("\n".join(table))
    parts.append("\n".join(_wrapped(printable(note), width) for note in notes(found)))
    return "\n\n".join(parts) + "\n"


def markdown(found: Comparison) -> str:
    """A GitHub-flavoured table and its notes."""
    heads = [*SCORES, *_tests(found)]
    sides = [":--" if head in LEFT else "--:" for head in heads]
    rows = [[escape_markdown(cell) for cell in _cells(line, heads)] for line in found.lines]
    lines = ["| " + " | ".join(row) + " |" for row in [heads, sides, *rows]]
    names = f"A: {escape_markdown(found.first)}, B: {escape_markdown(found.second)}"
    told = [f"- {escape_markdown(note)}" for note in notes(found)]
    return "\n".join([names, "", *lines, "", *told]) + "\n"


def latex(found: Comparison) -> str:
    r"""A `tabular` for `\usepackage{booktabs}` and its notes."""
    heads = [*SCORES, *_tests(found)]
    rows = [heads, *(_cells(line, heads) for line in found.lines)]
    told = [" & ".join(map(escape_latex, row)) + r" \\" for row in rows]
    names = f"A: {found.first}, B: {found.second}."
    return (
        "\n".join(
            [
                "% needs \\usepackage{booktabs}",
                rf"\begin{{tabular}}{{{''.join('l' if h in LEFT else 'r' for h in heads)}}}",
                r"\toprule",
                told[0],
                r"\midrule",
                *told[1:],
                r"\bottomrule",
                r"\end{tabular}",
                *(rf"\par{{\footnotesize {escape_latex(t)}}}" for t in [names, *notes(found)]),
            ]
        )
        + "\n"
    )


def csv(found: Comparison) -> str:
    """A line a task, numbers unrounded and unscaled; those not compared have a note alone."""
    stream = io.StringIO()
    names = {"A_name": found.first, "B_name": found.second}
    rows: list[dict[str, object]] = []
    for row in found.to_json()["tasks"]:
        spread = row.pop("over_seeds") or {}
        joined = {
            "seeds": "; ".join(one["seeds"] for one in row["seeds"]),
            "notes": "; ".join(row["notes"]),
        }
        over = {f"seeds_{name}": spread.get(name) for name in ("mean", "low", "high", "std")}
        rows.append({**names, **row, **joined, **over})
    rows += [{**names, "task": task, "notes": f"not compared: {w}"} for task, w in found.refused]
    heads = dict.fromkeys(name for row in rows for name in row)
    writer = csv_module.DictWriter(stream, list(heads or names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def notes(found: Comparison) -> Iterator[str]:
    """What is to be known beside the table."""
    for line in found.lines:
        yield from (f"{line.column.label}: {note}" for note in [*_seeds(line), *line.notes])
    yield from (f"not compared: {task}: {why}" for task, why in found.refused)
    for name, tasks in zip("AB", found.alone, strict=True):
        if tasks:
            more = f", and {len(tasks) - 5} more" if len(tasks) > 5 else ""
            yield f"only {name} has {', '.join(tasks[:5])}{more}"
    yield from (f"not readable: {problem}" for problem in found.problems)
    if found.lines:
        yield from _explained(found)


def _explained(found: Comparison) -> Iterator[str]:
    methods = {line.gain.method for line in found.lines}
    tests = []
    if "mcnemar" in methods:
        tests.append("McNemar's mid-p where samples are right or wrong (and its exact p)")
    if methods & {"bootstrap-t", "t"}:
        tests.append("a studentised bootstrap for graded samples and for means over seeds")
    if tests:
        yield f"Paired tests on the same samples: {', '.join(tests)}."
    yield (
        "Intervals are 95 %, of one task each. Verdicts are at 5 % for all tasks together (Holm). "
        '"Detectable": a difference of this size would have been seen in 4 of 5 cases.'
    )
    yield (
        "Tests tell what other samples might have said of these weights; what other seeds of the "
        "training might have is told by the spread over seeds, where there are several."
    )
    if any(line.column.mini for line in found.lines):
        yield MINI_NOTE


def _seeds(line: Line) -> Iterator[str]:
    spread = line.spread
    if spread is None:
        return
    show = line.column
    gains = ", ".join(f"{_signed(gain, show)} ({label})" for label, gain in line.seeds)
    text = (
        f"seeds {gains}; their mean is {_signed(spread.mean, show)} "
        f"[{_signed(spread.low, show)}, {_signed(spread.high, show)}]"
    )
    chance = line.verdict in "AB" and spread.low <= 0 <= spread.high
    yield text + ", so that seeds alone might make this difference" * chance


def _tests(found: Comparison) -> list[str]:
    """The columns of the tests; the exact p where there is one."""
    exact = any(line.gain.exact_p is not None for line in found.lines)
    return [head for head in TESTS if exact or head != "exact p"]


def _table(found: Comparison, heads: Sequence[str]) -> list[str]:
    rows = [list(heads), *(_cells(line, heads) for line in found.lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if head in LEFT else cell.rjust(width)
            for cell, width, head in zip(row, widths, heads, strict=True)
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _cells(line: Line, heads: Sequence[str]) -> list[str]:
    show, gain = line.column, line.gain
    interval = (
        ""
        if gain.low is None or gain.high is None
        else (f" [{_signed(gain.low, show)}, {_signed(gain.high, show)}]")
    )
    cells = {
        "task": printable(show.label),
        "metric": printable(show.unit),
        "n": f"{gain.n:,}" if gain.n else "",
        "A": show.show(line.first),
        "B": show.show(line.second),
        "A better by": _signed(gain.value, show) + interval,
        "verdict": WORDS[line.verdict],
        "p": _p(gain.p),
        "exact p": _p(gain.exact_p),
        "Holm p": _p(line.adjusted_p),
        "detectable": "" if line.detectable is None else show.show(line.detectable),
    }
    return [cells[head] for head in heads]


def _signed(value: float, column: Column) -> str:
    shown = column.show(value)
    return shown if shown.startswith("-") else f"+{shown}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def _wrapped(note: str, width: int | None) -> str:
    return textwrap.fill(note, width, subsequent_indent="  ") if width else note

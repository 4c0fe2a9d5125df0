"""A filled table as Markdown, CSV, LaTeX, HTML or JSON. Each writer is pure: table in, text out."""

import csv as csv_files
import io
from collections.abc import Callable
from html import escape
from typing import Any

from leaderboards.formats import escape_latex, escape_markdown, printable
from leaderboards.measured import specs_of
from leaderboards.table_cells import Filled, FilledRow
from leaderboards.table_notes import Footnotes, ours_of, shown, title
from leaderboards.table_rows import row_name
from leaderboards.table_text import text

__all__ = ["FORMATS", "Footnotes", "ours_of", "records", "render"]


def render(filled: Filled, form: str, width: int | None = None) -> str:
    """The table in one of `FORMATS`; `width` breaks plain text into blocks of so many columns."""
    return text(filled, width) if form == "text" else FORMATS[form](filled)


def markdown(filled: Filled) -> str:
    """A GitHub-flavoured table."""
    notes = Footnotes(filled)
    head = [
        f"{escape_markdown(c.task)}<br>{escape_markdown(c.metric)}" for c in filled.table.columns
    ]
    lines = [["model", *head], [":--"] * (1 + len(head))]
    lines += [
        [escape_markdown(row_name(filled.table, line.row))]
        + [escape_markdown(shown(cell, notes).line) for cell in line.cells]
        for line in filled.rows
    ]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    below = "\n".join(f"- {escape_markdown(note)}" for note in notes.lines())
    return f"**{escape_markdown(title(filled))}**\n\n{table}\n\n{below}\n"


def latex(filled: Filled) -> str:
    r"""A `tabular` for `\usepackage{booktabs}`."""
    notes = Footnotes(filled)
    columns = filled.table.columns
    lines = [
        "% needs \\usepackage{booktabs}",
        f"% {escape_latex(title(filled))}",
        rf"\begin{{tabular}}{{l{'l' * len(columns)}}}",
        r"\toprule",
        " & ".join(["model", *(escape_latex(c.task) for c in columns)]) + r" \\",
        " & ".join(["", *(escape_latex(c.metric) for c in columns)]) + r" \\",
        r"\midrule",
    ]
    for line in filled.rows:
        cells = [escape_latex(shown(cell, notes).line) for cell in line.cells]
        lines.append(" & ".join([escape_latex(row_name(filled.table, line.row)), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par{{\footnotesize {escape_latex(note)}}}" for note in notes.lines()]
    return "\n".join(lines) + "\n"


def csv(filled: Filled) -> str:
    """One line a cell with all that is known of it, numbers unrounded."""
    stream = io.StringIO()
    found = records(filled)
    writer = csv_files.DictWriter(stream, list(found[0]) if found else [], lineterminator="\n")
    writer.writeheader()
    for record in found:
        writer.writerow({k: printable(v) if isinstance(v, str) else v for k, v in record.items()})
    return stream.getvalue()


def html(filled: Filled) -> str:
    """A page of its own that loads nothing; every text is escaped."""
    notes = Footnotes(filled)
    heads = "".join(
        f'<th scope="col">{escape(c.task)}<br><small>{escape(c.metric)}</small></th>'
        for c in filled.table.columns
    )
    rows = "\n".join(_html_row(filled, line, notes) for line in filled.rows)
    below = "".join(f"<li>{escape(note)}</li>" for note in notes.lines())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title(filled))}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem; color: #1b1d1f; background: #fff }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse }} caption {{ text-align: left; font-weight: 600 }}
th, td {{ padding: .35rem .7rem; text-align: left; border-bottom: 1px solid #dfe2e5 }}
td {{ font-variant-numeric: tabular-nums; white-space: nowrap }} small {{ color: #5f6368 }}
</style></head><body>
<div><table><caption>{escape(title(filled))}</caption>
<thead><tr><th scope="col">model</th>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
<ul>{below}</ul>
</body></html>
"""


FORMATS: dict[str, Callable[[Filled], str]] = {
    "text": text,
    "md": markdown,
    "csv": csv,
    "latex": latex,
    "html": html,
}


def records(filled: Filled) -> list[dict[str, Any]]:
    """One dictionary a cell, for machines."""
    return [
        {
            "table": filled.name,
            "scale": filled.scale,
            "row": line.row.label,
            "arch": line.row.arch or filled.table.arch,
            "data": line.row.data or filled.table.data,
            "epochs": line.row.epochs or filled.table.epochs,
            "x": line.row.x,
            "trained": " or ".join(filter(None, line.row.model(filled.scale))),
            "model": line.model,
            "task": cell.column.task,
            "metric": cell.column.metric,
            "evaluated": ", ".join(specs_of(cell.column, filled.scale)),
            "published": cell.published,
            "ours": cell.ours and cell.ours.value,
            "low": cell.ours and cell.ours.low,
            "high": cell.ours and cell.ours.high,
            "results": len(cell.ours.results) if cell.ours else 0,
            "selected_on_test": cell.ours.selected_on_test if cell.ours else None,
            "difference": cell.difference,
            "tolerance": cell.tolerance,
            "verdict": cell.verdict,
            "reasons": "; ".join(cell.reasons) or cell.missing,
            "note": cell.note,
        }
        for line in filled.rows
        for cell in line.cells
    ]


def _html_row(filled: Filled, line: FilledRow, notes: Footnotes) -> str:
    cells = "".join(
        f'<td title="{escape(cell.verdict, quote=True)}">{escape(shown(cell, notes).line)}</td>'
        for cell in line.cells
    )
    return f'<tr><th scope="row">{escape(row_name(filled.table, line.row))}</th>{cells}</tr>'

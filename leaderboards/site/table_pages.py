"""Pages of the papers' tables, ours beside theirs, and the list of all of them."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from bench import registry, spec
from bench.errors import SpecError
from bench.matrix import canonical
from bench.summary import Summary
from leaderboards.cells import pretraining
from leaderboards.models import without_seed
from leaderboards.paper import SCALES, Paper, Scale, Table
from leaderboards.ranking import Board
from leaderboards.site.board_data import key
from leaderboards.site.shell import breakable
from leaderboards.table_formats import Footnotes, ours_of
from leaderboards.tables import Filled, FilledCell, FilledRow, fill, matrix, row_name

SCALE_WORDS = {"paper": "At the paper's scale", "mini": "On the mini benchmark"}


class Entry(NamedTuple):
    """A table of a paper, filled at each scale at which the board has a number of it."""

    paper: str
    paper_title: str
    table: Table
    filled: tuple[Filled, ...]

    @property
    def path(self) -> str:
        """Of its page below the site's root."""
        return f"tables/{self.paper}-{self.table.key}.html"

    @property
    def title(self) -> str:
        """As the paper calls it."""
        return f"{self.table.printed}: {self.table.title}"


def entries(board: Board) -> list[Entry]:
    """All tables of all papers."""
    by_model = _by_model(board)
    found = []
    for name in registry.names("table"):
        paper: type[Paper] = registry.load("table", name)
        for table in paper.tables:
            filled = (_filled(name, table, scale, by_model) for scale in SCALES)
            found.append(Entry(name, paper.title, table, tuple(filter(None, filled))))
    return found


def _by_model(board: Board) -> dict[str, list[Summary]]:
    """Results by how a table may name their model: its recipe or its source, less the seed."""
    names: dict[int, set[str]] = {}
    found: dict[str, list[Summary]] = {}
    for row in board.rows:
        for result in (r for cell in row.cells if cell is not None for r in cell.results):
            if (place := id(result.model)) not in names:
                trained = str(pretraining(result).get("spec") or "")
                source = without_seed(str(result.model.get("source") or ""))
                names[place] = {_unseeded(trained), source} - {""}
            for name in names[place]:
                found.setdefault(name, []).append(result)
    return found


def _unseeded(train: str) -> str:
    """A training spec without its seed; empty for what is none, in a foreign record."""
    try:
        parsed = spec.parse(train)
    except SpecError:
        return ""
    rest = tuple(pair for pair in parsed.options if pair[0] != "seed")
    return str(spec.Spec(parsed.name, parsed.dataset, rest))


def _filled(
    paper: str, table: Table, scale: Scale, by_model: Mapping[str, Sequence[Summary]]
) -> Filled | None:
    """The table with the numbers of its models, or None when there is none."""
    wanted = {
        _unseeded(canonical(entry.train)) if entry.train else without_seed(entry.source)
        for entry in matrix(table, scale).entries
    }
    results = [result for name in wanted for result in by_model.get(name, ())]
    if not results:
        return None
    filled = fill(paper, table, scale, results)
    return filled if any(cell.ours for _, cell in filled.cells()) else None


def table_page(entry: Entry, models: Iterable[str]) -> str:
    """HTML of the page of a table that has a number; `models` have pages to point at."""
    known = {without_seed(name): key(name) for name in models}
    facts = " · ".join(filter(None, (entry.table.arch, entry.table.data, entry.table.epochs)))
    parts = [f'<p class="lead">{escape(entry.paper_title)}</p>']
    parts += [f'<p class="lead">{escape(facts)}</p>'] if facts else []
    for filled in entry.filled:
        parts.append(_section(filled, known))
    parts.append('<p><a href="../tables.html">All tables</a></p>')
    return "\n".join(parts)


def _section(filled: Filled, known: Mapping[str, str]) -> str:
    notes = Footnotes(filled)
    words, name = SCALE_WORDS[filled.scale], escape(filled.name)
    heads = "".join(
        f'<th scope="col"><span class="what">{escape(column.task)}</span>'
        f'<span class="unit">{escape(column.metric)}</span></th>'
        for column in filled.table.columns
    )
    rows = "\n".join(_row(filled, line, notes, known) for line in filled.rows)
    below = "\n".join(f"<li>{escape(line)}</li>" for line in notes.lines())
    return f"""<section aria-labelledby="{filled.scale}">
<h2 id="{filled.scale}">{words}</h2>
<div class="scroll" role="region" aria-labelledby="{filled.scale}" tabindex="0">
<table class="paper">
<thead><tr><th scope="col">Model</th>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
<div class="notes"><ul>
{below}
<li>Make it again: <code>sslbench table {name} --scale {filled.scale}</code></li>
</ul></div>
</section>"""


def _row(filled: Filled, line: FilledRow, notes: Footnotes, known: Mapping[str, str]) -> str:
    name = breakable(row_name(filled.table, line.row))
    if place := known.get(line.model):
        name = f'<a href="../model.html?model={place}">{name}</a>'
    cells = "".join(_cell(cell, notes) for cell in line.cells)
    return f'<tr><th scope="row">{name}</th>{cells}</tr>'


def _cell(cell: FilledCell, notes: Footnotes) -> str:
    """Ours with its interval, then the published number, how they compare and the difference."""
    mark = f' <span class="mark">{escape(notes.mark(cell))}</span>' if notes.mark(cell) else ""
    printed = f'<span class="unit">published {escape(cell.published)}{mark}</span>'
    if cell.ours is None:
        return f"<td>{printed if cell.published else f'–{mark}'}</td>"
    value, band = ours_of(cell)
    shown = f'<span class="score">{value}</span> <span class="interval">{escape(band)}</span>'
    if not cell.published:
        return f"<td>{shown}{mark}</td>"
    gap = "" if cell.difference is None else f" ({cell.difference:+.1f})".replace("-", "−")
    verdict = (
        f'<span class="verdict {cell.verdict.replace(" ", "-")}">{escape(cell.verdict)}{gap}</span>'
    )
    return f"<td>{shown}{printed}{verdict}</td>"


def list_page(found: Sequence[Entry]) -> str:
    """HTML of the list of all tables, by paper."""
    parts = []
    for paper, tables in groupby(found, key=lambda entry: (entry.paper, entry.paper_title)):
        rows = "\n".join(map(_listed, tables))
        parts.append(
            f'<section aria-labelledby="{escape(paper[0])}">\n'
            f'<h2 id="{escape(paper[0])}">{escape(paper[1])}</h2>\n'
            f'<div class="scroll"><table><thead><tr><th scope="col">Table</th>'
            f'<th scope="col">Shows</th><th scope="col">Published cells</th>'
            f'<th scope="col">Measured here</th><th scope="col">Command</th></tr></thead>\n'
            f"<tbody>\n{rows}\n</tbody></table></div>\n</section>"
        )
    return "\n".join(parts)


def _listed(entry: Entry) -> str:
    name = escape(entry.table.printed)
    if entry.filled:
        name = f'<a href="{escape(entry.path)}">{name}</a>'
    published = sum(bool(text) for row in entry.table.rows for text in row.published)
    measured = " · ".join(
        f"{sum(cell.ours is not None for _, cell in filled.cells())} at {filled.scale} scale"
        for filled in entry.filled
    )
    command = f"sslbench table {entry.paper}/{entry.table.key}"
    return (
        f'<tr><th scope="row">{name}</th><td>{escape(entry.table.title)}</td><td>{published}</td>'
        f"<td>{measured or 'none'}</td><td><code>{escape(command)}</code></td></tr>"
    )

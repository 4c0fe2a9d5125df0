"""The leaderboard as a site: pages that open from the disk and need no network and no server."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from leaderboards.cells import MINI_NOTE
from leaderboards.ranking import Board
from leaderboards.site.board_data import board_data, key
from leaderboards.site.curve_data import curve_data
from leaderboards.site.folder import Folder
from leaderboards.site.model_data import Shared, model_json
from leaderboards.site.pictures import Picture, add_pictures, figures
from leaderboards.site.shell import PAGES, data_script, page, prose, script_of, source
from leaderboards.site.table_pages import Entry, entries, list_page, table_page

TITLE = "sslbench leaderboard"
BOARD, CURVES, SHARED = "data/board.js", "data/curves.js", "data/shared.js"
TABULATOR, PLOTLY = "vendor/tabulator.min.js", "vendor/plotly-basic.min.js"
CELLS = ("scripts/board.js", "scripts/records.js", "scripts/details.js")
CHARTS = ("scripts/board.js", "scripts/facets.js", "scripts/plot.js")

# What each page runs besides scripts/base.js, in this order.
SCRIPTS = {
    "index.html": (
        *(TABULATOR, BOARD, *CELLS, "scripts/facets.js", "scripts/filters.js"),
        *("scripts/grid_keys.js", "scripts/leaderboard.js"),
    ),
    "model.html": (BOARD, *CELLS, "scripts/model.js"),
    "compare.html": (BOARD, *CELLS, "scripts/compare.js"),
    "costs.html": (PLOTLY, BOARD, *CHARTS, "scripts/costs.js"),
    "curves.html": (PLOTLY, BOARD, CURVES, *CHARTS, "scripts/curves.js"),
}
PLAIN = ("styles/pages.css",)
STYLES = {"index.html": ("vendor/tabulator_simple.min.css", "styles/board.css")}


def write_site(board: Board, out: Path, pictures: Sequence[Path] = (), title: str = TITLE) -> Path:
    """Writes the pages of `board` into the folder `out` and returns the first one's path.

    Args:
        board: what to show.
        out: a new or an empty folder, or one that holds an earlier site, which is replaced.
        pictures: SVG or PNG files to show: on the page of the model whose name a file's name
            starts with, else below the leaderboard.
        title: of the site.

    Raises:
        SpecError: `out` names a file.
        StoreError: `out` holds other things, or cannot be written; a picture is missing.
    """
    with Folder(out) as folder:
        shown = add_pictures(folder, pictures, [row.name for row in board.rows])
        tables = entries(board)
        lacking = _write_data(folder, board, shown)
        pages = [name for name in PAGES if name not in lacking]
        _write_pages(folder, board, _texts(board, shown.get("", ()), tables), pages, title)
        for entry in tables:
            if entry.filled:
                main = table_page(entry, [row.name for row in board.rows])
                text = page(entry.path, entry.title, main, site=title, styles=PLAIN, pages=pages)
                folder.write(entry.path, text)
        for kind in ("scripts", "styles", "vendor"):
            for file in files("leaderboards.site").joinpath(kind).iterdir():
                if not file.name.endswith(".md"):
                    folder.write(f"{kind}/{file.name}", file.read_bytes())
    return out / "index.html"


def _write_data(
    folder: Folder, board: Board, pictures: Mapping[str, Sequence[Picture]]
) -> set[str]:
    """Writes what the pages' scripts read; returns the pages for which there is nothing."""
    values, curves, shared = board_data(board), curve_data(board), Shared()
    folder.write(BOARD, data_script("board", values))
    for row in board.rows:
        name = key(row.name)
        text = model_json(row, shared, pictures.get(row.name, ()))
        folder.write(f"data/models/{name}.js", script_of(f"model:{name}", text))
    folder.write(SHARED, script_of("shared", shared.to_json()))
    lacking = set() if values["costs"] else {"costs.html"}
    if curves["axes"]:
        folder.write(CURVES, data_script("curves", curves))
        return lacking
    return lacking | {"curves.html"}


def _write_pages(
    folder: Folder, board: Board, texts: Mapping[str, str], pages: Sequence[str], title: str
) -> None:
    for name in (*pages, "model.html"):
        heading = {"index.html": title, "model.html": "Model"}.get(name) or PAGES[name]
        text = page(
            name,
            heading,
            Template(source(f"pages/{name}")).substitute(texts),
            site=title,
            scripts=SCRIPTS.get(name, ()),
            styles=STYLES.get(name, PLAIN),
            pages=pages,
        )
        folder.write(name, text)


def _texts(board: Board, pictures: Sequence[Picture], tables: Sequence[Entry]) -> dict[str, str]:
    """The HTML that stands in the pages' templates."""
    models, columns = len(board.rows), len(board.columns)
    # The mini benchmark's note is the banner already.
    notes = [
        note
        for note in board.notes("Shaded", "A small number on the right", "◆")
        if note != MINI_NOTE
    ]
    notes += [
        "Ranks and shading are among all models of this board, whatever is on show; "
        "means are over the tasks on show.",
        "Choose a score to see what made it; the stroke below it is its interval.",
    ]
    return {
        "lead": f"{models:,} model{'s' * (models != 1)} on {columns} task{'s' * (columns != 1)}",
        "banner": f'<p class="banner" role="note">{MINI_NOTE}</p>' if board.mini else "",
        "notes": "\n".join(f"<li>{prose(note)}</li>" for note in notes),
        "pictures": figures(pictures),
        "tables": list_page(tables),
        "dialog": source("pages/dialog.html"),
    }

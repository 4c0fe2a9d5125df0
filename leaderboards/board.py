"""The leaderboard of a store, in every format: the front of this package.

from bench.store import Store
from leaderboards.board import board, frame, write_board

frame(store)                                # tidy pandas frame, one row per result and metric
print(render(board(store), "text"))
write_board(store, "html", "site")          # a folder of pages: open site/index.html
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

from bench.errors import SpecError, StoreError, nearest
from bench.store import Store
from leaderboards import formats, plain_text
from leaderboards.frame import frame
from leaderboards.ranking import Board, Cell, Row, board
from leaderboards.selection import Filters

__all__ = ["FORMATS", "Board", "Cell", "Row", "board", "frame", "render", "write", "write_board"]

# Of texts; "html" is a folder of pages, which `write` alone can make.
FORMATS: dict[str, Callable[[Board], str]] = {
    "text": plain_text.text,
    "md": formats.markdown,
    "csv": formats.csv,
    "latex": formats.latex,
    "json": formats.to_json,
}


def render(shown: Board, format: str = "text", *, width: int | None = None) -> str:
    """The board as text in one of `FORMATS` ("markdown" and "tex" are understood too).

    `width` breaks the plain text into blocks of at most so many columns; other formats ignore it.

    Raises:
        SpecError: an unknown format, or "html".
    """
    name = checked(format)
    if name == "html":
        raise SpecError("--format html is a folder of pages: say where with --out FOLDER")
    return plain_text.text(shown, width) if name == "text" else FORMATS[name](shown)


def checked(format: str) -> str:
    """The name of a format, "html" or one of `FORMATS`; `SpecError` for one that is not."""
    name = {"markdown": "md", "tex": "latex", "txt": "text"}.get(format, format)
    if name not in (known := [*FORMATS, "html"]):
        raise SpecError(f"no format {format!r}; {nearest(format, known)}")
    return name


def write(shown: Board, format: str, out: Path | str, *, curves: Sequence[Path] = ()) -> Path:
    """Renders the board into the file `out`, or as a site into the folder; what is to be opened.

    `curves` are pictures for the site, see `leaderboards.site.build.write_site`.

    Raises:
        StoreError: `out` cannot be written.
        SpecError: an unknown format; a site that is to become a file.
    """
    if checked(format) == "html":
        from leaderboards.site.build import write_site  # papers, laws: other formats need none

        return write_site(shown, Path(out), curves)
    path, text = Path(out), render(shown, format)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise StoreError(f"cannot write {path} ({error.strerror}); give another --out") from error
    return path


def write_board(
    store: Store,
    format: str,
    out: Path | str,
    *,
    sort: str = "rank",
    curves: Sequence[Path] = (),
    **filters: Unpack[Filters],
) -> Path:
    """The board of `store`, written to `out`; see `board` and `write`."""
    return write(board(store, sort=sort, **filters), format, out, curves=curves)

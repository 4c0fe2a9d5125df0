"""The leaderboard of a store, in every format: the front of this package.

from bench.store import Store
from leaderboards.board import board, frame, write_board

frame(store)                                # tidy pandas frame, one row per result and metric
print(render(board(store), "text"))
write_board(store, "html", "board.html")
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import SpecError, StoreError, nearest
from bench.store import Store
from leaderboards import formats
from leaderboards.cells import frame
from leaderboards.ranking import Board, Cell, Row, board
from leaderboards.site.page import page

__all__ = ["FORMATS", "Board", "Cell", "Row", "board", "frame", "render", "write_board"]

FORMATS: dict[str, Callable[[Board], str]] = {
    "text": formats.text,
    "md": formats.markdown,
    "csv": formats.csv,
    "latex": formats.latex,
    "html": page,
}


def render(
    shown: Board, format: str = "text", *, width: int | None = None, curves: Sequence[Path] = ()
) -> str:
    """The board as text in one of `FORMATS` ("markdown" and "tex" are understood too).

    `width` breaks the plain text into blocks of at most so many columns; `curves` are pictures that
    the HTML page embeds. Both are ignored by the other formats.

    Raises:
        SpecError: an unknown format.
    """
    name = {"markdown": "md", "tex": "latex", "txt": "text"}.get(format, format)
    if name not in FORMATS:
        raise SpecError(f"no format {format!r}; {nearest(format, FORMATS)}")
    if name == "text":
        return formats.text(shown, width)
    return page(shown, curves) if name == "html" else FORMATS[name](shown)


def write_board(
    store: Store,
    format: str,
    out: Path | str,
    *,
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    sort: str = "rank",
    curves: Sequence[Path] = (),
) -> Path:
    """Renders the board of `store` into the file `out` and returns its path.

    Raises:
        StoreError: see `board`; or `out` cannot be written.
        SpecError: an unknown format.
    """
    text = render(board(store, tasks=tasks, models=models, sort=sort), format, curves=curves)
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StoreError(f"cannot write {path} ({error.strerror}); give another --out") from error
    return path

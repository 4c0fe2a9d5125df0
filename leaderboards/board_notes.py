"""What stands below a board: all that a reader must know to read its numbers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from leaderboards.cells import MINI_NOTE

if TYPE_CHECKING:
    from leaderboards.ranking import Board

_LISTED = 3  # failures or problems; a store may have thousands


def notes_of(board: "Board", tied: str, group: str, front: str) -> list[str]:
    """The notes, a sentence or two each; see `Board.notes`."""
    return [*_extent(board), *_numbers(board, tied, group, front), *_warnings(board)]


def _extent(board: "Board") -> Iterator[str]:
    cells = f"{board.cells} of {len(board.rows) * len(board.columns)} cells."
    if board.filters:
        yield f"Kept: {board.filters}."
    if len(board.rows) < board.models:
        yield f"The first {len(board.rows)} of {board.models} models."
    yield (
        f"{cells} Mean rank over {len(board.columns)} columns; a missing cell counts as last. "
        "Beside it the means of the best and worst places that the intervals allow."
    )
    yield (
        "Score: mean over a model's cells of the score relative to the best of the column, in "
        "percent; only models with the same cells can be compared by it."
    )


def _numbers(board: "Board", tied: str, group: str, front: str) -> Iterator[str]:
    cells = [cell for row in board.rows for cell in row.cells if cell is not None]
    yield "[low, high]: 95 % interval over the test samples."
    yield f"{tied}: not separable from the best of its column, the intervals overlap."
    if group and any(cell.group > 1 for cell in cells):
        yield (
            f"{group}: tie group. The best of the column leads the first, the best that is "
            "separable from it the second, and so on; nobody in a group is separable from its best."
        )
    if any(cell.seeds > 1 for cell in cells):
        yield "Several seeds (3s): the mean, then the range of the seeds."
    if any(cell.trainings > 1 for cell in cells):
        yield (
            "Several trainings (2t): the model was pre-trained with several seeds; the mean of "
            "their means, the range of these, then that of all results (6r)."
        )
    if any(column.lower_is_better for column in board.columns):
        yield "↓: smaller is better."
    if front and any(row.pareto for row in board.rows):
        yield (f"{front}: no other model has as good a mean rank for as few pre-training FLOPs.")


def _warnings(board: "Board") -> Iterator[str]:
    cells = [cell for row in board.rows for cell in row.cells if cell is not None]
    if any(cell.selected_on_test for cell in cells):
        yield (
            "†: something was chosen on the split that is reported; "
            "not comparable with scores chosen on held-out training data."
        )
    for row in board.rows:
        # Trainings of other seeds may have collapsed where the first did not.
        again = [cell for cell in row.cells if cell is not None and cell.trainings > 1]
        models = [row.model, *(result.model for cell in again for result in cell.results)]
        for why in dict.fromkeys(
            str((m.get("pretrain") or {}).get("collapsed") or "") for m in models
        ):
            if why:
                yield f"{row.name} collapsed in pre-training: {why}."
    if board.failures:
        listed = [f"{one.cell} ({_first_line(one.error)})" for one in board.failures]
        yield f"Failed when tried last, {_counted(listed, 'cell')}: {_listed(listed)}."
    if board.problems:
        found_in = f"In the store, {_counted(board.problems, 'problem')}"
        yield f"{found_in}: {_listed(board.problems)}."
    if board.mini:
        yield MINI_NOTE


def _counted(things: Sequence[object], what: str) -> str:
    return f"{len(things)} {what}" if len(things) == 1 else f"{len(things):,} {what}s"


def _listed(lines: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(lines) - _LISTED
    shown = "; ".join(line.rstrip(".") for line in lines[:_LISTED])
    return f"{shown}; and {more:,} more" if more > 0 else shown


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "no reason given")

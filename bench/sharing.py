"""Which cells read the same frozen pass: same images, same transform, one forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.plan import Request
    from bench.split import Split
    from bench.task import TaskData
    from bench.transforms import Transform


class Reader(Protocol):
    """What is asked of a cell here."""

    @property
    def request(self) -> Request:
        """The task."""

    @property
    def data(self) -> TaskData:
        """Its data."""


Cell = TypeVar("Cell", bound=Reader)


@dataclass(eq=False)
class SharedPass(Generic[Cell]):
    """One pass over a split, the cells that read it, and what any of them reads."""

    split: Split
    transform: Transform
    vectors: bool = False
    tokens: bool = False
    users: list[Cell] = field(default_factory=list)


def shared_passes(model: LoadedModel, cells: Sequence[Cell]) -> list[SharedPass[Cell]]:
    """The passes that the cells announce, each once.

    A pass over part of a split (a few-label list, a held-out slice) is dropped where the whole
    split is passed anyway: its features are rows of that one. Cells that cannot say what they read
    are left to fail when they are run.
    """
    found: dict[tuple[str, str], SharedPass[Cell]] = {}
    for cell in cells:
        try:
            announced = cell.request.task.passes(model, cell.data)
        except Exception:  # of whatever kind: it fails that cell, and is told there
            continue
        for frozen in announced:
            transform = frozen.transform or cell.data.eval_transform(model)
            key = (frozen.split.images_digest, transform.id)
            shared = found.setdefault(key, SharedPass(frozen.split, transform))
            shared.vectors |= frozen.vectors
            shared.tokens |= frozen.tokens
            if cell not in shared.users:
                shared.users.append(cell)
    for key, shared in list(found.items()):
        if shared.split.origin is None:
            continue
        whole = found.get((shared.split.origin[0].images_digest, shared.transform.id))
        if whole is None or whole is shared:
            continue
        # All tokens of the whole split for those of a small part of it would be a bad bargain.
        if (whole.tokens or not shared.tokens) and (whole.vectors or not shared.vectors):
            whole.users += [cell for cell in shared.users if cell not in whole.users]
            del found[key]
    return list(found.values())

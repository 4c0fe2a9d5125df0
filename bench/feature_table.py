"""The features of one split as tasks read them: recipes as views of stored blocks."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import DataError, SpecError
from bench.feature_file import CARD, FEATURES, Matrix, Rows
from bench.progress import say
from bench.recipes import blocks_of

if TYPE_CHECKING:
    from bench.split import Split


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of one split, rows in its order; images skipped as unreadable are left out."""

    ids: tuple[str, ...]
    targets: Rows  # (n,)
    classes: tuple[str, ...]
    blocks: tuple[str, ...]
    widths: tuple[int, ...]  # columns of each block
    skipped: tuple[str, ...]  # one reason for each image left out
    split_rows: Rows  # (n,) where each row stands in the split
    path: Path
    _values: Matrix  # (images, all widths), memory-mapped
    _stored: Rows | None = None  # (n,) where each row stands in the matrix, where it differs

    def __len__(self) -> int:
        return len(self.ids)

    def available(self, recipe: str) -> bool:
        """Whether the stored blocks make up the recipe (without a CLS token: no `cls`)."""
        return set(blocks_of(recipe)) <= set(self.blocks)

    def get(self, recipe: str) -> Matrix:
        """(n, D) float16 of a whole-image recipe; a read-only view where columns are neighbours."""
        wanted = blocks_of(recipe)
        if not self.available(recipe):
            raise SpecError(
                f"'{recipe}' needs {', '.join(wanted)}, these features have "
                f"{', '.join(self.blocks)}: choose a recipe of those"
            )
        places = [self.blocks.index(block) for block in wanted]
        ends = np.cumsum(self.widths)
        if places == list(range(places[0], places[0] + len(places))):
            return self._rows(ends[places[0]] - self.widths[places[0]], ends[places[-1]])
        columns = [self._rows(ends[p] - self.widths[p], ends[p]) for p in places]
        return np.concatenate(columns, axis=1)

    def _rows(self, start: int, stop: int) -> Matrix:
        """Some columns; a copy, of these only, where rows of the matrix are chosen."""
        values = self._values[:, start:stop]
        return values if self._stored is None else values[self._stored]

    def take(self, rows: Rows) -> Matrix:
        """(m, all widths) of some rows, read from the disk now."""
        return self._values[rows if self._stored is None else self._stored[rows]]


def open_table(
    folder: Path,
    split: "Split",
    blocks: tuple[str, ...],
    widths: tuple[int, ...],
    skip_bad: int,
    stored: Rows | None = None,
) -> FeatureTable:
    """The stored features; DataError when more than `skip_bad` images were unreadable.

    `stored` says where the split's samples stand when the matrix is of the split it was cut from.
    """
    card = json.loads((folder / CARD).read_text())
    unreadable = {int(row): str(reason) for row, reason in card["bad"].items()}
    values: Matrix = np.load(folder / FEATURES, mmap_mode="r")
    places = np.arange(len(split)) if stored is None else stored
    bad = {row: unreadable[row] for row in places.tolist() if row in unreadable}
    if len(bad) > skip_bad:
        raise too_many_bad(next(iter(bad.values())), len(bad), skip_bad, folder)
    kept = np.flatnonzero(~np.isin(places, list(bad)))
    if bad:
        say(
            f"{split.name} {split.split}: {len(bad)} of {len(split)} images skipped, "
            f"{next(iter(bad.values()))}"
        )
    return FeatureTable(
        ids=tuple(split.ids[row] for row in kept) if bad else split.ids,
        targets=split.targets[kept],
        classes=split.classes,
        blocks=blocks,
        widths=widths,
        skipped=tuple(bad.values()),
        split_rows=kept,
        path=folder,
        _values=values,
        _stored=None if stored is None and not bad else places[kept],
    )


def too_many_bad(reason: str, found: int, allowed: int, folder: Path | None = None) -> DataError:
    again = f", and delete {folder} once the files are mended" if folder else ""
    return DataError(
        f"{reason} [{found} unreadable images so far, {allowed} allowed: mend the files or pass "
        f"--skip-bad N{again}]"
    )

"""The sheet of samples on which two models differ: A better above, B better below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Page

from bench import registry, spec
from bench.dataset import open_split
from bench.errors import DataError
from bench.page import BLUE, GREY, plain, png, style
from bench.records import Array, Result
from bench.split import Split
from leaderboards.columns import Column, columns_of
from leaderboards.differing import Differing
from leaderboards.predictions import is_class

ACROSS, DOWN = 8, 3  # pictures of each half
WIDE, HIGH, CAPTION = 1.5, 1.35, 0.52  # of a picture and its words, in inches
EDGE, TITLE, HEAD = 0.25, 0.62, 0.42  # of the page, its title and that of a half
SIDE_PX = 256  # pictures are drawn no larger
LONGEST = 20  # letters in a line below a picture
ORANGE = "#c2410c"  # dark enough for small letters


def draw(found: Differing, data: Path) -> bytes:
    """The sheet as PNG, with at most `ACROSS * DOWN` pictures of each half.

    Of samples that are right or wrong a random choice is shown, of graded ones those that differ
    most.

    Raises:
        DataError: the data are not there, not those that were evaluated, or unreadable.
    """
    results = [cell.result for cell in found.cells]
    split = evaluated(results[0], found.cells[0].outcome.columns["id"], data)
    places = {id_: place for place, id_ in enumerate(split.ids)}
    (column,) = columns_of(results).values()
    halves = [chosen(found, better) for better in (True, False)]
    lines = [max(1, -(-len(half) // ACROSS)) for half in halves]
    height = TITLE + EDGE + sum(HEAD + rows * (HIGH + CAPTION) for rows in lines)
    sheet = _Sheet(found, column, 2 * EDGE + ACROSS * WIDE, height)
    with style():
        sheet.title(results)
        top = TITLE
        for side, half, rows in zip("AB", halves, lines, strict=True):
            sheet.head(side, len(half), top)
            for index, line in enumerate(half.tolist()):
                row, across = divmod(index, ACROSS)
                id_ = str(found.cells[0].outcome.columns["id"][found.rows[line]])
                image = split.image(places[id_])
                image.thumbnail((SIDE_PX, SIDE_PX))
                below = top + HEAD + row * (HIGH + CAPTION)
                sheet.sample(line, np.asarray(image), EDGE + across * WIDE, below)
            top += HEAD + rows * (HIGH + CAPTION)
        return png(sheet.page, dpi=150)


def chosen(found: Differing, better: bool) -> Array:
    """The lines of `found.rows` that are drawn of the half on which A is better, or is not."""
    lines = np.flatnonzero(found.better == better)
    if found.of_hits:
        lines = np.random.default_rng(0).permutation(lines)
    return lines[: ACROSS * DOWN]


def evaluated(result: Result, ids: Array, data: Path) -> Split:
    """The split that a result was evaluated on.

    Raises:
        DataError: no split of the data has these samples, or its data are others.
    """
    asked = spec.parse(result.task_spec)
    task = spec.bind(registry.load("task", asked.name), dict(asked.options))
    wanted = {str(id_) for id_ in ids}
    for name in reversed(task.needs):
        split = open_split(asked.dataset, name, data)
        if wanted <= set(split.ids):
            stored = result.dataset.get("manifests", {}).get(name, split.manifest)
            if stored != split.manifest:
                raise DataError(
                    f"{asked.dataset_text} in {data} is not what was evaluated: manifest of {name} "
                    f"{split.manifest[:8]}, expected {stored[:8]}; give its --data, or none"
                )
            return split
    raise DataError(
        f"{asked.dataset_text} in {data} has no split with the samples of {result.task_spec}"
    )


class _Sheet:
    """A page that is laid out in inches from its upper left corner."""

    def __init__(self, found: Differing, column: Column, width: float, height: float) -> None:
        self.found, self.column, self.size = found, column, (width, height)
        self.page = Page(figsize=self.size)

    def title(self, results: Sequence[Result]) -> None:
        """Names and scores of both."""
        scores = [
            f"{side}  {plain(str(result.model['name']), 80)}:  "
            f"{self.column.show(result.metrics[result.headline].value)}"
            for side, result in zip("AB", results, strict=True)
        ]
        task = f"{plain(results[0].task_spec, 60)}, {self.column.unit}"
        self._text("\n".join(scores), EDGE, 0.14, 10.5)
        self._text(task, self.size[0] - EDGE, 0.14, 10.5, ha="right", color=GREY)

    def head(self, side: str, shown: int, top: float) -> None:
        """Whose half it is, and how many of its samples are shown."""
        total = int((self.found.better == (side == "A")).sum())
        of_all = f", {shown} of them shown" if shown < total else ""
        what = "alone is right" if self.found.of_hits else "is better"
        words = f"{side} {what} on {total:,} sample{'s' * (total != 1)}{of_all}"
        self._text(words, EDGE, top + 0.12, 10.5, weight="bold")

    def sample(self, line: int, image: Array, left: float, top: float) -> None:
        """A picture with what it is and what both said below."""
        gap = 0.06
        width, height = self.size
        box = (left / width, 1 - (top + HIGH) / height, (WIDE - gap) / width, (HIGH - gap) / height)
        axes = self.page.add_axes(box, anchor="SW")
        axes.imshow(image, aspect="equal")
        axes.set_axis_off()
        for index, (words, colour) in enumerate(self._caption(line)):
            self._text(words, left, top + HIGH + 0.03 + 0.145 * index, 7.5, color=colour)

    def _caption(self, line: int) -> list[tuple[str, str]]:
        """The true class, or else the id; then what each side said, the better one in blue."""
        row, better = self.found.rows[line], bool(self.found.better[line])
        cells = self.found.cells
        target = cells[0].outcome.columns.get("target")
        of_classes = target is not None and is_class(target)
        head = self._class(0, "target", line) if of_classes else None
        told = [(head or plain(str(cells[0].outcome.columns["id"][row])[-LONGEST:]), "black")]
        for side, good in ((0, better), (1, not better)):
            said = self._class(side, "prediction", line) if of_classes else None
            if said is None and self.found.of_hits:
                said = "right" if good else "wrong"
            said = said or self.column.show(float(cells[side].outcome.columns["value"][row]))
            told.append((f"{'AB'[side]}  {said}", BLUE if good else ORANGE))
        return told

    def _class(self, side: int, column: str, line: int) -> str | None:
        """The class that a column names, or its number; None where it holds no classes."""
        outcome = self.found.cells[side].outcome
        values = outcome.columns.get(column)
        if values is None or not is_class(values):
            return None
        name = self.found.classes(outcome, column)[line]
        return plain(name or str(values[self.found.rows[line]]), LONGEST)

    def _text(self, words: str, left: float, top: float, size: float, **how: Any) -> None:
        width, height = self.size
        self.page.text(left / width, 1 - top / height, words, fontsize=size, va="top", **how)

"""Which classes a cell takes for which: counts of true classes against predicted ones."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.errors import SpecError
from bench.records import Outcome
from leaderboards.predictions import class_names, is_class

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Confusion:
    """A row for each true class, a column for each predicted one.

    Attributes:
        counts: (c, c) samples.
        names: of the classes; their numbers where the outcome was stored without names.
        left_out: samples without a label, predicted as no class at all, or without a share in the
            cell's headline.
    """

    counts: Counts
    names: tuple[str, ...]
    left_out: int = 0

    @classmethod
    def of(cls, outcome: Outcome, cell: str) -> Confusion:
        """The confusions of an outcome; SpecError when its rows hold no classes."""
        columns = [outcome.columns.get(name) for name in ("target", "prediction")]
        if any(column is None or not is_class(column) for column in columns):
            found = ", ".join(f"{k} ({v.dtype})" for k, v in outcome.columns.items())
            raise SpecError(
                f"{cell} has no confusion matrix: expected whole numbers in the columns target and "
                f"prediction, found {found}; take the cell of a classification task such as knn"
            )
        target, prediction = (np.asarray(column, dtype=np.int64) for column in columns)
        names = class_names(outcome)
        classes = len(names) or 1 + int(max(target.max(initial=-1), prediction.max(initial=-1)))
        kept = (np.minimum(target, prediction) >= 0) & (np.maximum(target, prediction) < classes)
        # Samples that have no share in the headline, such as ImageNet-9's other variants.
        value = outcome.columns.get("value")
        if value is not None and value.dtype.kind == "f":
            kept &= ~np.isnan(value)
        if not kept.any():
            raise SpecError(f"{cell} has no confusion matrix: none of its samples has a class")
        counts = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(counts, (target[kept], prediction[kept]), 1)
        numbers = tuple(str(number) for number in range(classes))
        return cls(counts, names or numbers, int((~kept).sum()))

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """(c, c) shares of each true class; rows of classes without samples are 0."""
        totals = self.counts.sum(1, keepdims=True)
        return np.asarray(self.counts / np.maximum(totals, 1))

    @property
    def samples(self) -> int:
        """How many are counted."""
        return int(self.counts.sum())

    @property
    def right(self) -> int:
        """How many are predicted as what they are."""
        return int(np.trace(self.counts))

    def pairs(self, most: int) -> list[tuple[int, int]]:
        """The (true, predicted) classes that are confused most often, at most `most`.

        Equal counts are ordered by the larger share of the true class, then by class number.
        """
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        true, predicted = np.nonzero(wrong)
        share = self.shares[true, predicted]
        order = np.lexsort((predicted, true, -share, -wrong[true, predicted]))[:most]
        return [(int(true[i]), int(predicted[i])) for i in order]

    def csv(self) -> bytes:
        """The counts with the names of the classes at both sides."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["true \\ predicted", *self.names])
        for name, row in zip(self.names, self.counts.tolist(), strict=True):
            writer.writerow([name, *row])
        return stream.getvalue().encode("utf-8", "surrogateescape")

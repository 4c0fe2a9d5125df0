"""A baseline: the cells of a run in one small file, to hold later runs against.

A JSON file: the matrix of models and tasks that it was made by, and of each cell its metric and its
samples' values, packed, so that a later run can be compared sample by sample.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import NewerSchema, StoreError
from bench.records import Metric, Outcome, Result
from bench.store import Store
from leaderboards.cells import protocol_text
from leaderboards.models import seeds_of, trained_as, without_seed

SCHEMA = 1
MEANS = 1e-5  # a mean of values kept in float32 is the metric up to this

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """One cell as a baseline keeps it.

    Attributes:
        model: what was trained (spec) or evaluated (source), without its seed.
        task: task spec in its shortest form.
        seed: of the pre-training, or of the random weights; None where there is none.
        evaluation_seed: of the evaluation.
        headline: name of the metric.
        metric: value and interval.
        protocol: version, fields and data: what must be equal for two cells to be comparable.
        ids: digest of the sample ids; empty where the outcome has no value of each sample.
        values: of the samples in the order of their ids, packed.
    """

    model: str
    task: str
    seed: int | None
    evaluation_seed: int
    headline: str
    metric: Metric
    protocol: str
    ids: str = ""
    values: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Cells that differ in seeds only share it."""
        return self.model, self.task

    @property
    def seeds(self) -> tuple[int | None, int]:
        """Of pre-training and evaluation."""
        return self.seed, self.evaluation_seed

    def samples(self) -> Floats:
        """(n,) values of the samples; empty where none are kept."""
        if not self.values:
            return np.zeros(0)
        raw = zlib.decompress(base64.b64decode(self.values))
        return np.frombuffer(raw, dtype="<f4").astype(np.float64)


def recorded(store: Store, results: Sequence[Result]) -> list[Recorded]:
    """The cells of a run as a baseline keeps them, in a stable order."""
    cells = [_record(result, store.outcome(result)) for result in results]
    return sorted(cells, key=lambda cell: (cell.model, cell.task, str(cell.seeds)))


def _record(result: Result, outcome: Outcome) -> Recorded:
    identity = result.identity
    seed, evaluation_seed = seeds_of(result)
    cell = Recorded(
        model=_model(result),
        task=result.task_spec,
        seed=seed,
        evaluation_seed=evaluation_seed,
        headline=result.headline,
        metric=result.metrics[result.headline],
        protocol=f"version {identity.task_version}, data {identity.dataset[:12]}, "
        f"fields {protocol_text(result)}",
    )
    found = _finite(outcome)
    # Where the headline is no mean over the samples, such as mIoU, these tell nothing of it.
    if found is None or not abs(float(np.mean(found[1])) - cell.metric.value) < MEANS:
        return cell
    names, values = found
    order = np.argsort(names, kind="stable")
    ids = hashlib.sha256("\n".join(names[order]).encode()).hexdigest()[:16]
    raw = values[order].astype("<f4").tobytes()
    return replace(cell, ids=ids, values=base64.b64encode(zlib.compress(raw, 9)).decode())


def _finite(outcome: Outcome) -> tuple[npt.NDArray[np.str_], Floats] | None:
    """Ids and values of the samples that count, those with a value; None without any."""
    column = outcome.columns.get("value")
    if column is None or column.ndim != 1 or column.dtype.kind not in "fbiu":
        return None
    values = column.astype(np.float64)
    counts = np.isfinite(values)
    return (outcome.columns["id"][counts], values[counts]) if counts.any() else None


def _model(result: Result) -> str:
    """What the model is, less its seed: what it was trained from, or else its source."""
    source = str(result.model.get("source", result.model["name"]))
    return (*trained_as(result)[:1], without_seed(source))[0]


def dumps(subset: Mapping[str, Any], cells: Sequence[Recorded], made: Mapping[str, Any]) -> str:
    """A baseline as text: `subset` (its `matrix`, and `mini`), cells, and how it was `made`."""
    values = {"schema": SCHEMA, **subset, "made": made}
    return json.dumps({**values, "cells": [asdict(cell) for cell in cells]}, indent=1) + "\n"


def loads(text: str, where: str) -> tuple[dict[str, Any], list[Recorded]]:
    """The subset (`matrix` and `mini`) and the cells of a baseline.

    Raises:
        StoreError: the text is no baseline.
        NewerSchema: a later version wrote it.
    """
    try:
        found = json.loads(text)
        if found["schema"] > SCHEMA:
            raise NewerSchema(
                f"{where} is a baseline of schema {found['schema']}, newer than this version's "
                f"{SCHEMA}; pip install --upgrade sslbench"
            )
        cells = [
            Recorded(**{**cell, "metric": Metric(**cell["metric"])}) for cell in found["cells"]
        ]
        for cell in cells:
            cell.samples()
        subset = {"matrix": dict(found["matrix"]), "mini": int(found["mini"])}
        return subset, cells
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error) as error:
        raise StoreError(
            f"{where} is no baseline ({type(error).__name__}: {error}); make one with "
            "`sslbench regress --baseline FILE --matrix MATRIX.toml --update`"
        ) from error

"""A result in brief: what tables and leaderboards read of it, light enough for a hundred thousand.

Results of one model share its record, and results that measured the same thing in the same way
share a `Setting`, so that what depends on these is worked out once and not for every result.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import StoreError
from bench.records import CELLS, Identity, Metric, Result
from bench.store import read_result


class Measurement(NamedTuple):
    """What must be equal for two scores to be comparable; the seed is not a part of it.

    `manifest` is the digest of the data, `protocol` the non-default fields as canonical JSON, less
    the cells of the same model that were read.
    """

    task: str
    version: int
    manifest: str
    headline: str
    protocol: str


@dataclass(frozen=True, eq=False)
class Setting:
    """All of a result that is neither the model's nor found out: compared by being the same object.

    Attributes:
        measurement: what it is comparable with.
        fields: protocol fields that differ from the task's defaults.
        seed: of the evaluation.
        version: of the definition of identities.
        task_spec: canonical spec.
        warnings: what the task said about the result.
    """

    measurement: Measurement
    fields: dict[str, Any]
    seed: int
    version: int
    task_spec: str
    warnings: list[str]

    def to_json(self) -> list[Any]:
        """The setting as JSON values; `from_json` reads them back."""
        own = [self.fields, self.seed, self.version, self.task_spec, self.warnings]
        return [list(self.measurement), *own]

    @classmethod
    def from_json(cls, values: list[Any]) -> Setting:
        """The setting of what `to_json` gave."""
        measurement, *own = values
        return cls(Measurement(*measurement), *own)

    @classmethod
    def of(cls, result: Result) -> Setting:
        """The setting of a result."""
        identity = result.identity
        fields = {key: value for key, value in identity.fields.items() if key != CELLS}
        protocol = json.dumps(fields, sort_keys=True, default=str)
        return cls(
            Measurement(
                identity.task, identity.task_version, identity.dataset, result.headline, protocol
            ),
            identity.fields,
            identity.seed,
            identity.version,
            result.task_spec,
            result.warnings,
        )


class Summary:
    """A result less what is seldom asked for, which `full` reads from its folder.

    Has the attributes of a `Result`; `dataset` and `provenance` are read from the folder, too.

    Attributes:
        setting: what was measured, and how.
        model: the stored record of the model, one dictionary for all of its results.
        weights: digest of the evaluated model, as in the identity.
        value: the headline score.
        low: lower end of its interval; None without one.
        high: upper end.
        seconds: of the evaluation; None where not recorded.
        place: the task's folder, in which the result's own lies; empty where it is not stored.
        digest: of the identity, the name of the result's own folder.
    """

    __slots__ = (
        *("setting", "model", "weights", "value", "low", "high", "seconds", "place", "digest"),
        *("_texts", "_start", "_stop", "_result"),
    )

    def __init__(
        self,
        setting: Setting,
        model: dict[str, Any],
        weights: str,
        value: float,
        low: float | None,
        high: float | None,
        seconds: float | None,
        place: str,
        digest: str,
        texts: memoryview,
        start: int,
        stop: int,
        result: Result | None = None,
    ) -> None:
        """`texts` holds the metrics and the cost as JSON between `start` and `stop`.

        `result` is given where there is no folder.
        """
        self.setting = setting
        self.model = model
        self.weights = weights
        self.value = value
        self.low = low
        self.high = high
        self.seconds = seconds
        self.place = place
        self.digest = digest
        self._texts = texts
        self._start = start
        self._stop = stop
        self._result = result

    @classmethod
    def of(cls, result: Result, place: str = "") -> Summary:
        """The summary of a result that lies in a task's folder, or of one that is not stored."""
        metric, text = result.metrics[result.headline], _details(result)
        return cls(
            Setting.of(result),
            result.model,
            result.identity.weights,
            float(metric.value),
            number(metric.low),
            number(metric.high),
            number(result.cost.get("seconds")),
            place,
            result.identity.digest,
            memoryview(text),
            0,
            len(text),
            None if place else result,
        )

    def headed(self, metric: str) -> Summary | None:
        """The same result with another of its metrics for its headline; None where it lacks it."""
        if metric == self.headline:
            return self
        if (own := self.metrics.get(metric)) is None:
            return None
        measurement = self.setting.measurement._replace(headline=metric)
        return Summary(
            replace(self.setting, measurement=measurement),
            *(self.model, self.weights, own.value, own.low, own.high, self.seconds, self.place),
            *(self.digest, self._texts, self._start, self._stop),
            None if self._result is None else replace(self._result, headline=metric),
        )

    @property
    def folder(self) -> str:
        """Of the result; empty where it is not stored."""
        return f"{self.place}/{self.digest}" if self.place else ""

    @property
    def details(self) -> bytes:
        """All metrics and the cost as JSON."""
        return bytes(self._texts[self._start : self._stop])

    @property
    def identity(self) -> Identity:
        """What the result is stored under."""
        of = self.setting.measurement
        return Identity(
            weights=self.weights,
            task=of.task,
            task_version=of.version,
            fields=self.setting.fields,
            dataset=of.manifest,
            seed=self.setting.seed,
            version=self.setting.version,
        )

    @property
    def task_spec(self) -> str:
        """Canonical spec of the task."""
        return self.setting.task_spec

    @property
    def headline(self) -> str:
        """Name of the metric that leaderboards show."""
        return self.setting.measurement.headline

    @property
    def warnings(self) -> list[str]:
        """What was said about the result when it was made."""
        return self.setting.warnings

    @property
    def metrics(self) -> dict[str, Metric]:
        """All metrics by name."""
        metrics: dict[str, dict[str, Any]] = json.loads(self.details)["metrics"]
        return {name: Metric(**values) for name, values in metrics.items()}

    @property
    def n(self) -> int | None:
        """How many samples stand behind the headline; None where not recorded."""
        found: int | None = json.loads(self.details)["metrics"][self.headline]["n"]
        return found

    @property
    def cost(self) -> dict[str, Any]:
        """`seconds`, `images`, `peak_memory_bytes` and what else was recorded."""
        cost: dict[str, Any] = json.loads(self.details)["cost"]
        return cost

    @property
    def dataset(self) -> dict[str, Any]:
        """What is known of the data; reads the folder."""
        return self.full.dataset

    @property
    def provenance(self) -> dict[str, Any]:
        """Where, when and with what the result was made; reads the folder."""
        return self.full.provenance

    @property
    def full(self) -> Result:
        """The whole result; `StoreError` where its folder was damaged or taken away since."""
        return _full(self) if self._result is None else self._result


def _details(result: Result) -> bytes:
    metrics = {name: vars(metric) for name, metric in result.metrics.items()}
    values = {"metrics": metrics, "cost": result.cost}
    return json.dumps(values, separators=(",", ":")).encode()


#: What tables are made of: a result, whole or in brief.
Scored = Result | Summary


def as_summary(result: Scored) -> Summary:
    """The result in brief, whatever it was given as."""
    return result if isinstance(result, Summary) else Summary.of(result)


def setting_of(result: Scored) -> Setting:
    """What was measured; one object for all results of it where they are summaries."""
    return result.setting if isinstance(result, Summary) else Setting.of(result)


def weights_of(result: Scored) -> str:
    """The digest of the evaluated model."""
    return result.weights if isinstance(result, Summary) else result.identity.weights


@lru_cache(maxsize=64)  # who asks for the data of a result asks for its provenance next
def _full(summary: Summary) -> Result:
    try:
        return read_result(Path(summary.folder))
    except StoreError as error:
        raise StoreError(f"{summary.folder}: {error}") from error


def number(value: Any) -> float | None:
    """A recorded value as a finite number; None for what is none: records may be a stranger's."""
    finite = type(value) in (int, float) and abs(value) <= sys.float_info.max
    return float(value) if finite else None

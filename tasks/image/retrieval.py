"""Instance retrieval with frozen features: revisited Oxford and Paris."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bench.errors import DataError, SpecError
from bench.records import Metric, Outcome
from bench.spec import parse_dataset
from bench.stats import bootstrap_metric
from bench.task import FrozenPass, Task, TaskData, with_warnings
from tasks.frozen import Token, token_of
from tasks.retrieval_metric import LEVELS, judge, rank, unit

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.feature_table import FeatureTable
    from bench.revisited import GroundTruth
    from bench.transforms import ThumbnailTransform

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

THREE_SCALES = (1.0, 1 / math.sqrt(2), 0.5)
SHOWN = 10  # best database images kept for pictures


@dataclass(frozen=True, kw_only=True)
class Retrieval(Task):
    """mAP of ranking a database by cosine with each query (Radenovic et al., 2018).

    The protocol is the size of the images: `ret_ibot` takes the longest side of 512 px and three
    scales (1, 1/sqrt(2), 1/2); `ret_dino` the same for datasets with "paris" in their name, and
    224 px at one scale for all others. DINO's two published numbers differ in nothing else. Images
    are never enlarged. Features are averaged over the scales, then divided by their length.

    Metrics for each of the levels `easy`, `medium` and `hard` (`tasks/retrieval_metric.py` has what
    counts as a match): `map_*`, `mp1_*`, `mp5_*`, `mp10_*`, in [0, 1], with a bootstrap over
    queries. Queries without a match at a level are left out of it, and a level at which no query
    has one has no metrics. `value` is the average precision at `medium`, NaN where left out.

    What surprises: the average precision is a trapezoid, not scikit-learn's; equal scores are
    ordered by the lower database index; matches that are not in the database (skipped as
    unreadable, or a part of it) do not count as missed.

    Attributes:
        protocol: gives the value of each option that is `none`, unless said otherwise.
        query_crop: whether queries are cut to their object, as the revisited protocol demands;
            `false` is what DINO, iBOT and SOVE do, and marked by a warning.
        longest_px: longest side of the images in pixels.
        scales: factors of that size, in (0, 1], at which the network sees an image.
        token: `cls`, or the patches averaged after the final norm (`avg`) or before it
            (`avg_fcnorm`); `auto` is `cls` where the checkpoint has a CLS token, else `avg`.
        whiten: dataset, such as `folder[path=DIR]`, on whose train images a PCA whitening is
            learned; empty for none, as in all of the papers' numbers.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "map_medium"
    # query_crop's ids state the regions, which must enter a result's identity.
    needs: ClassVar[tuple[str, ...]] = ("database", "query_crop", "query")
    mini: ClassVar[str] = "mini_oxford"

    protocol: Literal["ret_ibot", "ret_dino"] = "ret_ibot"
    query_crop: bool = True
    longest_px: int | None = None
    scales: tuple[float, ...] | None = None
    token: Token = "auto"
    whiten: str = ""

    def __post_init__(self) -> None:
        if self.longest_px is not None and self.longest_px < 1:
            raise SpecError(f"retrieval: longest_px={self.longest_px} must be at least 1")
        if self.scales is not None and not (self.scales and min(self.scales) > 0):
            raise SpecError(f"retrieval: scales={self.scales} must all be above 0")
        if self.scales is not None and max(self.scales) > 1:
            raise SpecError(
                f"retrieval: scales={self.scales}: images are never enlarged, at most 1"
            )
        if self.whiten:
            parse_dataset(self.whiten)

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        """Database, queries and, where asked for, the images that the whitening learns from."""
        transform = self._transform(data)
        splits = [data.open("database"), data.open(self._queries)]
        if self.whiten:
            splits.append(data.beside(parse_dataset(self.whiten)).open("train"))
        return [FrozenPass(split, transform) for split in splits]

    def facts(self, data: TaskData) -> dict[str, str]:
        """The images of the whitening, and the size that `ret_dino` takes from the set's name."""
        facts = {}
        if self.whiten:
            facts["whiten"] = data.beside(parse_dataset(self.whiten)).manifest(("train",))
        if self.protocol == "ret_dino":
            facts["images"] = self._transform(data).id
        return facts

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Average precision and precision at 1, 5 and 10 of every query at every level."""
        token = token_of(self.token, model.backbone)
        truth, transform = _ground_truth(data), self._transform(data)
        database = data.features(model, data.open("database"), transform)
        queries = data.features(model, data.open(self._queries), transform)
        names = [id_.partition("#")[0] for id_ in queries.ids]  # query_crop's ids state the region
        known, asked = _places(database.ids, truth.imlist), _places(names, truth.qimlist)
        keys, vectors = self._vectors(model, data, token, database, queries)
        order = rank(vectors, keys)  # (q, n) rows of the database
        found = judge(known[order], [vars(truth.queries[place]) for place in asked])
        if np.isnan(found["ap_medium"]).all():
            raise DataError(
                f"none of the {len(names)} queries has a match among the {len(known)} database "
                "images: take all of both"
            )
        columns = {
            "id": np.asarray(names, dtype=np.str_),
            "value": found["ap_medium"],
            **found,
            "nearest": order[:, :SHOWN],
        }
        ids = np.asarray(database.ids, dtype=np.str_)
        outcome = Outcome(columns, {"token": np.array(token), "database": ids})
        whole = "query_crop=false: queries are whole photographs, as in DINO and iBOT, not regions"
        return with_warnings(outcome, [] if self.query_crop else [whole])

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`map_*`, `mp1_*`, `mp5_*` and `mp10_*` of every level that has queries."""
        metrics = {}
        for name, column in outcome.columns.items():
            kind, _, level = name.partition("_")
            if level in LEVELS and not np.isnan(column).all():
                judged = column[~np.isnan(column)]
                label = f"map_{level}" if kind == "ap" else name
                metrics[label] = bootstrap_metric(judged, np.mean, seed=0)
        return metrics

    @property
    def _queries(self) -> str:
        return "query_crop" if self.query_crop else "query"

    def _transform(self, data: TaskData) -> ThumbnailTransform:
        from bench.transforms import ThumbnailTransform

        paris = any("paris" in part.name for part in data.parts)
        small = self.protocol == "ret_dino" and not paris
        longest, scales = (224, (1.0,)) if small else (512, THREE_SCALES)
        return ThumbnailTransform(self.longest_px or longest, self.scales or scales)

    def _vectors(
        self,
        model: LoadedModel,
        data: TaskData,
        token: str,
        database: FeatureTable,
        queries: FeatureTable,
    ) -> tuple[Floats, Floats]:
        """Descriptors of the database (n, d) and of the queries (q, d), whitened where asked."""
        keys, vectors = unit(database.get(token)), unit(queries.get(token))
        if not self.whiten:
            return keys, vectors
        from tasks.whitening import Whitening

        images = data.beside(parse_dataset(self.whiten)).open("train")
        learned = data.features(model, images, self._transform(data))
        whitening = Whitening.learn(unit(learned.get(token)))
        return whitening(keys), whitening(vectors)


def _ground_truth(data: TaskData) -> GroundTruth:
    """What is relevant to each query, from the file beside the photographs."""
    from bench.revisited import ground_truth

    text = "+".join(map(str, data.parts))
    if len(data.parts) > 1:
        raise SpecError(f"retrieval ranks one database, not {text}: ask for a cell of each")
    dataset, _, _ = data.open("database").source(0)
    names = [path.stem.removeprefix("gnd_") for path in sorted(dataset.root.glob("gnd_*.pkl"))]
    own = [name for name in names if name == data.parts[0].name] or names
    if len(own) != 1:
        found = ", ".join(f"gnd_{name}.pkl" for name in names) or "none"
        raise DataError(f"{text}: expected one ground truth in {dataset.root}, found {found}")
    return ground_truth(dataset.root, own[0])


def _places(ids: Sequence[str], names: Sequence[str]) -> Ints:
    """Where each id stands in the ground truth."""
    place = {name: index for index, name in enumerate(names)}
    return np.array([place[id_] for id_ in ids], dtype=np.int64)

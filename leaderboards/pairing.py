"""Which results of two models are compared: equal columns, equal seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import SpecError, StoreError, nearest
from bench.index import summaries
from bench.records import Result
from bench.store import Store
from bench.summary import Summary
from leaderboards.cell import of_model
from leaderboards.columns import ColumnKey, column_key
from leaderboards.difference import Misfit
from leaderboards.models import seeds_of, trained_as, without_seed

Pair = tuple[Result, Result]


@dataclass(frozen=True)
class Side:
    """One of the two models: its name without the seed, and its results of all tasks and seeds."""

    name: str
    results: list[Result]

    @property
    def by_column(self) -> dict[ColumnKey, list[Result]]:
        """The results that share a column."""
        found: dict[ColumnKey, list[Result]] = {}
        for result in self.results:
            found.setdefault(column_key(result), []).append(result)
        return found


def sides(store: Store, first: str, second: str) -> tuple[Side, Side]:
    """The two models; `store.problems` tells what could not be read.

    Raises:
        StoreError: the store is empty, or a name is that of no model or of several.
        SpecError: both names are of the same results.
    """
    results = summaries(store)
    if not results:
        raise StoreError(
            f"no results in {store.root}: fill it with `sslbench eval MODEL --tasks TASK@DATASET`"
        )
    mine, theirs = (_one_model(results, asked, store) for asked in (first, second))
    if {id(one) for one in mine} & {id(other) for other in theirs}:
        name = mine[0].model["name"]
        raise SpecError(f"{first} and {second} are both {name}: name two models, or two seeds")
    return _side(mine), _side(theirs)


def _one_model(results: Sequence[Summary], asked: str, store: Store) -> list[Summary]:
    found = of_model(results, asked)
    if not found:
        known = {without_seed(str(result.model["name"])) for result in results}
        raise StoreError(f"no model {asked!r} in {store.root}; {nearest(asked, known)}")
    kinds = {(*trained_as(one), without_seed(str(one.model["name"])))[0] for one in found}
    if len(kinds) > 1:
        names = ", ".join(sorted({str(result.model["name"]) for result in found}))
        raise StoreError(f"{asked!r} is several models, name one of {names}")
    return found


def _side(found: Sequence[Summary]) -> Side:
    names = sorted({str(one.model["name"]) for one in found})
    stems = {without_seed(name) for name in names}
    # runs of a matrix have no name in common, but the spec that they were trained from
    shared = stems.pop() if len(stems) == 1 else trained_as(found[0])[0]
    return Side(names[0] if len(names) == 1 else shared, [one.full for one in found])


def paired(first: Sequence[Result], second: Sequence[Result]) -> list[Pair]:
    """The results of one column that belong together, by the seeds of training and evaluation.

    Equal seeds make a pair. Where one side has only one seed, that one goes with each of the
    other's.

    Raises:
        Misfit: no seed in common, or two results of one seed.
    """
    for results in (first, second):
        seeds = [seeds_of(result) for result in results]
        if len(set(seeds)) < len(seeds):
            names = ", ".join(f"{one.model['name']} {one.identity.digest[:10]}" for one in results)
            raise Misfit(f"several results of one seed: {names}")
    alone = [
        [len({seeds_of(result)[axis] for result in results}) == 1 for results in (first, second)]
        for axis in (0, 1)
    ]
    pairs = [
        (one, other)
        for one in first
        for other in second
        if all(seeds_of(one)[axis] == seeds_of(other)[axis] or any(alone[axis]) for axis in (0, 1))
    ]
    if not pairs:
        told = (sorted({str(seeds_of(one)[0]) for one in side}) for side in (first, second))
        raise Misfit("no seed in common: A has {} and B has {}".format(*map(", ".join, told)))
    return sorted(pairs, key=lambda pair: [str(seeds_of(result)) for result in pair])


def pair_label(pair: Pair) -> str:
    """The seeds of a pair in words: `0`, `0/3` where the models' differ, `0 (eval 1)`."""
    seeds = [seeds_of(result) for result in pair]
    train = "/".join(dict.fromkeys(str(seed) for seed, _ in seeds if seed is not None))
    evaluated = "/".join(dict.fromkeys(str(seed) for _, seed in seeds))
    return f"{train} (eval {evaluated})" if train and evaluated != "0" else train or evaluated


def apart(first: Side, second: Side) -> list[tuple[str, str]]:
    """Tasks of both models without a common column, and what differs."""
    columns, theirs = first.by_column, second.by_column
    common = {_spec(columns[key]) for key in columns.keys() & theirs.keys()}
    found = []
    for spec in sorted({_spec(rows) for rows in columns.values()} - common):
        mine = next(key for key, rows in columns.items() if _spec(rows) == spec)
        for key, rows in theirs.items():
            if _spec(rows) == spec:
                found.append((spec, _reason(mine, key)))
                break
    return found


def _spec(results: Sequence[Result]) -> str:
    return min(result.task_spec for result in results)


def _reason(mine: ColumnKey, theirs: ColumnKey) -> str:
    if mine.manifest != theirs.manifest:
        return f"other data: A on {mine.manifest[:8]}, B on {theirs.manifest[:8]}"
    if mine.version != theirs.version:
        return f"other versions of the task: A {mine.version}, B {theirs.version}"
    return f"other protocols: A {mine.protocol}, B {theirs.protocol}"

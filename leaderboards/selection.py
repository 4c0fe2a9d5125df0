"""The results a leaderboard or a curve was asked for, by task, model, data and cost."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, TypedDict, TypeVar, Unpack, cast

from bench import registry, spec
from bench.errors import SpecError, StoreError, nearest
from bench.index import summaries
from bench.store import Store
from bench.summary import Scored, Summary, setting_of
from leaderboards.budget import within
from leaderboards.cells import dataset_of, pretraining
from leaderboards.conflicts import distinct
from leaderboards.models import without_seed

S = TypeVar("S", bound=Scored)
Names = Sequence[str] | None


class Filters(TypedDict, total=False):
    """What to keep: names or patterns (`"*@coco*"`), of which one must match; None keeps all.

    Attributes:
        tasks: a task's name ("knn") or whole spec.
        family: the folder that the task lies in: image, dense, robot.
        on: the evaluation data, as a whole ("coco[n=100]") or a part's name ("coco").
        models: a model's name, with or without the seed at its end.
        method: how it was pre-trained.
        arch: its architecture.
        pretrained_on: the pre-training data, as `on`.
        budget: limits to what the pre-training cost (`"flops<1e18"`); all must hold.
    """

    tasks: Names
    family: Names
    on: Names
    models: Names
    method: Names
    arch: Names
    pretrained_on: Names
    budget: Names


def select(store: Store, *, verify: bool = False, **filters: Unpack[Filters]) -> list[Summary]:
    """The results of `store` that pass all filters, from its index unless `verify`.

    Afterwards `store.problems` tells what could not be used, and which results contradict each
    other.

    Raises:
        StoreError: the store is empty, a name matches nothing, or nothing passes all filters.
    """
    results, contradictions = distinct(summaries(store, verify), store.root)
    store.problems += contradictions
    if not results:
        if store.problems:
            raise StoreError(f"no usable results in {store.root}: {store.problems[0]}")
        raise StoreError(
            f"no results in {store.root}: fill it with `sslbench eval MODEL --tasks TASK@DATASET`"
        )
    return keep(results, **filters)


def keep(results: Sequence[S], **filters: Unpack[Filters]) -> list[S]:
    """As `select`, from results already read.

    Each name is looked up in all of them, so that a model without these tasks is no unknown one.
    """
    kept = list(results)
    for name, kind in _KINDS.items():
        if patterns := cast(Names, filters.get(name)):
            passing = _passing(results, patterns, kind)
            kept = [result for result in kept if kind.key(result) in passing]
    if budget := filters.get("budget"):
        kept = within(kept, budget)
    if results and not kept:
        given = ", ".join(f"--{name.replace('_', '-')}" for name, value in filters.items() if value)
        raise StoreError(
            f"no result passes {given} together: fill the cells with "
            "`sslbench eval MODEL --tasks TASK@DATASET`, or drop one of the filters"
        )
    return kept


class _Kind(NamedTuple):
    """What a filter goes by: `names` of a result, alike for all results of the same `key`."""

    words: str
    key: Callable[[Scored], int]
    names: Callable[[Scored], Iterable[str]]


def _passing(results: Sequence[Scored], patterns: Sequence[str], kind: _Kind) -> set[int]:
    """The keys of the results of which a name matches a pattern."""
    names = {key: set(kind.names(r)) for key, r in {kind.key(r): r for r in results}.items()}
    valid = set().union(*names.values())
    matching: set[str] = set()
    for pattern in patterns:
        # Equality first: a spec holds brackets, which a pattern would read as a character set.
        found = {name for name in valid if name == pattern or fnmatchcase(name, pattern)}
        if not found:
            raise StoreError(f"no {kind.words} {pattern!r} in the store; {nearest(pattern, valid)}")
        matching |= found
    return {key for key, own in names.items() if not matching.isdisjoint(own)}


def _task_key(result: Scored) -> int:
    return id(result.setting if isinstance(result, Summary) else result)


def _model_key(result: Scored) -> int:
    return id(result.model)


def _family(result: Scored) -> list[str]:
    return [_families().get(setting_of(result).measurement.task, "")]


@lru_cache(maxsize=1)
def _families() -> dict[str, str]:
    return registry.groups("task")


def _models(result: Scored) -> list[str]:
    name = str(result.model["name"])
    return [name, without_seed(name)]


def _recorded(field: str) -> Callable[[Scored], list[str]]:
    """The names of a field of the model's record: one, or none."""
    return lambda result: [str(value)] if (value := result.model.get(field)) else []


def _pretrained_on(result: Scored) -> list[str]:
    return _data(str(pretraining(result).get("dataset") or ""))


def _data(text: str) -> list[str]:
    """A data set as it is written, and the names of its parts."""
    try:
        return [text, *(part.name for part in spec.parse_dataset(text))] if text else []
    except SpecError:  # a stranger's words
        return [text]


_KINDS: dict[str, _Kind] = {
    "tasks": _Kind("task", _task_key, lambda r: [r.task_spec.partition("@")[0], r.task_spec]),
    "family": _Kind("family of tasks", _task_key, _family),
    "on": _Kind("evaluation data", _task_key, lambda r: _data(dataset_of(r))),
    "models": _Kind("model", _model_key, _models),
    "method": _Kind("method", _model_key, _recorded("method")),
    "arch": _Kind("architecture", _model_key, _recorded("arch")),
    "pretrained_on": _Kind("pre-training data", _model_key, _pretrained_on),
}

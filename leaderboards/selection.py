"""The results a leaderboard or a curve was asked for, by task and by model."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from bench.errors import StoreError, nearest
from bench.records import Result
from bench.store import Store
from leaderboards.models import without_seed


def select(
    store: Store,
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
) -> list[Result]:
    """The results of `store` whose task and model match one of the given names or patterns.

    A task is matched by its name ("knn") or its spec ("knn@imagenet1k", "*@coco*"), a model by its
    name with or without the seed at its end. None keeps all.

    Raises:
        StoreError: the store is empty, a name matches nothing, or nothing matches both lists.
    """
    results = list(store.results())
    if not results:
        raise StoreError(
            f"no results in {store.root}: fill it with `sslbench eval MODEL --tasks TASK@DATASET`"
        )
    return keep(results, tasks, models)


def keep(
    results: list[Result],
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
) -> list[Result]:
    """As `select`, from results already read."""
    of_tasks = _keep(results, tasks, _task_names, "task")
    of_models = _keep(results, models, _model_names, "model")
    # Each name is looked up in all results, so that a model without these tasks is no unknown one.
    wanted = {id(result) for result in of_models}
    kept = [result for result in of_tasks if id(result) in wanted]
    if not kept and (tasks or models):
        raise StoreError(
            "none of these models has a result for these tasks: fill the cells with "
            "`sslbench eval MODEL --tasks TASK@DATASET`, or drop one of the two filters"
        )
    return kept


def _keep(
    results: list[Result],
    patterns: Sequence[str] | None,
    names_of: Callable[[Result], list[str]],
    kind: str,
) -> list[Result]:
    if not patterns:
        return results
    names = {name for result in results for name in names_of(result)}
    matching: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if _matches(pattern, name)}
        if not found:
            raise StoreError(f"no {kind} {pattern!r} in the store; {nearest(pattern, names)}")
        matching |= found
    return [result for result in results if not matching.isdisjoint(names_of(result))]


def _task_names(result: Result) -> list[str]:
    return [result.identity.task, result.task_spec]


def _model_names(result: Result) -> list[str]:
    name = str(result.model["name"])
    return [name, without_seed(name)]


def _matches(pattern: str, name: str) -> bool:
    # Equality first: a spec holds brackets, which a pattern would read as a character set.
    return name == pattern or fnmatchcase(name, pattern)

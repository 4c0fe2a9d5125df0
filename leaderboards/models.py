"""Which results are of one model: everything alike but the seed."""

import re
from typing import Any

from bench.errors import SpecError
from bench.records import Result
from bench.spec import Spec, parse
from leaderboards.cells import pretraining

# "-seed0", "_s1", "?seed=2" at the end of a model's name: the same model trained or drawn again.
_SEED_SUFFIX = re.compile(r"[-_.?&/](?:seed|s)[-_=]?\d+$")


def without_seed(name: str) -> str:
    """The model's name less the seed at its end."""
    return _SEED_SUFFIX.sub("", name)


def trained_as(result: Result) -> tuple[str, ...]:
    """The spec that the model was trained from, without its seed and as it is; () if unknown."""
    text = str(pretraining(result).get("spec") or "")
    try:
        parsed = parse(text)
    except SpecError:  # a stranger's record, or none
        return ()
    rest = tuple(pair for pair in parsed.options if pair[0] != "seed")
    return str(Spec(parsed.name, parsed.dataset, rest)), text


def models_of(results: list[Result]) -> list[tuple[str, list[Result]]]:
    """Results by model, seeds together; a name used by two different models gets its weights."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(_model_key(result), []).append(result)
    split = [part for group in groups.values() for part in _apart(group)]
    names = [_name(group) for group in split]
    return [
        (name if names.count(name) == 1 else f"{name} #{group[0].identity.weights[:6]}", group)
        for name, group in zip(names, split, strict=True)
    ]


def _model_key(result: Result) -> tuple[Any, ...]:
    model, trained = result.model, pretraining(result)
    name = str(model["name"])
    stem = without_seed(name)
    if trained:
        settings = tuple(
            trained.get(key) for key in ("dataset", "images", "epochs", "effective_epochs")
        )
    else:
        # Without a record, only a seed in the name says that other weights are the same model.
        settings = ("seeds",) if stem != name else (result.identity.weights,)
    return stem, model.get("method"), model.get("arch"), settings


def _apart(group: list[Result]) -> list[list[Result]]:
    """`group` as it is, unless one seed has two sets of weights: then a model each."""
    by_weights: dict[str, list[Result]] = {}
    seeds: dict[Any, set[str]] = {}
    for result in group:
        by_weights.setdefault(result.identity.weights, []).append(result)
        seed = (result.model["name"], pretraining(result).get("seed"))
        seeds.setdefault(seed, set()).add(result.identity.weights)
    clash = any(len(weights) > 1 for weights in seeds.values())
    return list(by_weights.values()) if clash else [group]


def _name(group: list[Result]) -> str:
    names = {str(result.model["name"]) for result in group}
    return names.pop() if len(names) == 1 else without_seed(min(names))

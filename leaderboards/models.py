"""Which results are of one model: everything alike but the seed."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from bench.errors import SpecError
from bench.spec import Spec, parse
from bench.summary import Scored, weights_of
from leaderboards.cells import pretraining

S = TypeVar("S", bound=Scored)

# "-seed0", "_s1", "?seed=2" at the end of a model's name: the same model trained or drawn again.
# A "-s16" there is a small network with patches of 16, and "-s8" the ninth of ten seeds.
_SEED_SUFFIX = re.compile(r"[-_.?&/](?:seed|s(?!(?:14|16|32)$))[-_=]?(?P<seed>\d+)$")


def without_seed(name: str) -> str:
    """The model's name less the seed at its end."""
    return _SEED_SUFFIX.sub("", name)


def seeds_of(result: Scored) -> tuple[int | None, int]:
    """The seeds of the training, None where nothing tells it, and of the evaluation.

    Without a record, the seed of the training is what the model's name or its source ends in.
    """
    trained = pretraining(result).get("seed")
    if trained is None:
        ends = (_seed_at_end(str(result.model.get(key) or "")) for key in ("name", "source"))
        trained = next((seed for seed in ends if seed is not None), None)
    return trained, result.identity.seed


def _seed_at_end(name: str) -> int | None:
    found = _SEED_SUFFIX.search(name)
    return int(found["seed"]) if found else None


def unseeded(train: str) -> str:
    """A training spec without its seed; empty for what is none, in a stranger's record."""
    try:
        parsed = parse(train)
    except SpecError:
        return ""
    rest = tuple(pair for pair in parsed.options if pair[0] != "seed")
    return str(Spec(parsed.name, parsed.dataset, rest))


def trained_as(result: Scored) -> tuple[str, ...]:
    """The spec that the model was trained from, without its seed and as it is; () if unknown."""
    text = str(pretraining(result).get("spec") or "")
    stem = unseeded(text)
    return (stem, text) if stem else ()


def models_of(results: Sequence[S]) -> list[tuple[str, list[S]]]:
    """Results by model, seeds together; a name used by two different models gets its weights."""
    # Results of one model and training share a record: all but the first need no second look.
    trainings: dict[tuple[int, str], list[S]] = {}
    for result in results:
        trainings.setdefault((id(result.model), weights_of(result)), []).append(result)
    groups: dict[tuple[Any, ...], list[list[S]]] = {}
    for training in trainings.values():
        groups.setdefault(_model_key(training[0]), []).append(training)
    models = [model for group in groups.values() for model in _apart(group)]
    names = [_name(model) for model in models]
    often = Counter(names)
    return [
        (
            name if often[name] == 1 else f"{name} #{weights_of(model[0][0])[:6]}",
            [result for training in model for result in training],
        )
        for name, model in zip(names, models, strict=True)
    ]


def _model_key(result: Scored) -> tuple[Any, ...]:
    model, trained = result.model, pretraining(result)
    name = str(model["name"])
    stem = without_seed(name)
    if trained:
        settings = tuple(
            trained.get(key) for key in ("dataset", "images", "epochs", "effective_epochs")
        )
    else:
        # Without a record, only a seed in the name says that other weights are the same model.
        settings = ("seeds",) if stem != name else (weights_of(result),)
    return stem, model.get("method"), model.get("arch"), *map(_hashable, settings)


def _hashable(value: Any) -> Any:
    """What a stranger's record holds, as something that can be a key."""
    return value if isinstance(value, int | float | str | None) else str(value)


def _apart(trainings: list[list[S]]) -> list[list[list[S]]]:
    """All in one, unless one seed has two sets of weights: then a model for each of these."""
    by_weights: dict[str, list[list[S]]] = {}
    seeds: dict[tuple[str, str], set[str]] = {}
    for training in trainings:
        first = training[0]
        by_weights.setdefault(weights_of(first), []).append(training)
        seed = (str(first.model["name"]), str(pretraining(first).get("seed")))
        seeds.setdefault(seed, set()).add(weights_of(first))
    clash = any(len(weights) > 1 for weights in seeds.values())
    return list(by_weights.values()) if clash else [trainings]


def _name(trainings: list[list[S]]) -> str:
    names = {str(training[0].model["name"]) for training in trainings}
    return names.pop() if len(names) == 1 else without_seed(min(names))

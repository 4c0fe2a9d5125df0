"""Limits to what a model's pre-training may have cost: `flops<1e18`, `views<=1e6`."""

import operator
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from bench.errors import SpecError, StoreError, nearest
from bench.summary import Scored, number
from leaderboards.cells import pretraining

S = TypeVar("S", bound=Scored)

# What may be limited, and the field of the pre-training record that holds it.
FIELDS = {
    "flops": "flops",
    "views": "views_seen",
    "images": "images",
    "epochs": "epochs",
    "effective_epochs": "effective_epochs",
    "steps": "steps",
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LIMIT = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*")


class Limit(NamedTuple):
    """One limit: `field` of the pre-training record, a comparison, and a number."""

    field: str
    sign: str
    number: float


def limits(texts: Sequence[str]) -> list[Limit]:
    """The limits that the texts, each a comma list, state.

    Raises:
        SpecError: what is no limit, an unknown quantity, or no number.
    """
    return [_limit(part) for text in texts for part in text.split(",")]


def within(results: Sequence[S], budget: Sequence[str]) -> list[S]:
    """The results of the models that keep all limits; what records no cost keeps none.

    Raises:
        SpecError: see `limits`.
        StoreError: no model records what a limit is about.
    """
    wanted = limits(budget)
    for limit in wanted if results else ():
        if all(recorded(result, limit.field) is None for result in results):
            raise StoreError(
                f"none of these models records its {limit.field}: models trained by "
                "`sslbench train` do; drop the --budget"
            )
    passing: dict[int, bool] = {}
    for result in results:
        if id(result.model) not in passing:
            passing[id(result.model)] = all(_keeps(result, limit) for limit in wanted)
    return [result for result in results if passing[id(result.model)]]


def recorded(result: Scored, field: str) -> float | None:
    """A number of the pre-training record; None where there is none."""
    return number(pretraining(result).get(field))


def _limit(text: str) -> Limit:
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise SpecError(f"no limit {text!r}; write QUANTITY<NUMBER, such as flops<1e18")
    name, sign, written = found.groups()
    if name not in FIELDS:
        raise SpecError(f"no limit on {name!r}; {nearest(name, FIELDS)}")
    try:
        value = number(float(written))
    except ValueError:
        value = None
    if value is None:
        raise SpecError(f"limit {text!r}: {written!r} is no number; write it as 1e18 or 1000000")
    return Limit(FIELDS[name], sign, value)


def _keeps(result: Scored, limit: Limit) -> bool:
    value = recorded(result, limit.field)
    return value is not None and _COMPARE[limit.sign](value, limit.number)

"""What the parts of a stored result must be, so that whoever reads them can rely on it.

A result may be a stranger's, or edited by hand: a wrong type is found where the text is read, and
named, rather than where a table is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import NoneType
from typing import Any

from bench import spec
from bench.errors import SpecError

_NUMBER = (int, float)

_RESULT: dict[str, tuple[type, ...]] = {
    "identity": (dict,),
    "task_spec": (str,),
    "headline": (str,),
    "metrics": (dict,),
    "model": (dict,),
    "dataset": (dict,),
    "cost": (dict,),
    "provenance": (dict,),
    "warnings": (list,),
}
_IDENTITY: dict[str, tuple[type, ...]] = {
    "weights": (str,),
    "task": (str,),
    "task_version": (int,),
    "fields": (dict,),
    "dataset": (str,),
    "seed": (int,),
    "version": (int,),
}
_METRIC: dict[str, tuple[type, ...]] = {
    "value": _NUMBER,
    "low": (*_NUMBER, NoneType),
    "high": (*_NUMBER, NoneType),
    "n": (int, NoneType),
    "interval": (str, NoneType),
}
_MODEL: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "source": (str,),
    "family": (str,),
    "arch": (str,),
    "method": (str, NoneType),
    "pretrain": (dict, NoneType),
    "parameters": (int, NoneType),
}


def check_shape(result: Mapping[str, Any]) -> None:
    """Raises `ValueError` where a part of the stored result is of another type than it must be.

    Parts that are missing are none of its business.
    """
    _check("result", result, _RESULT)
    _check("identity", result["identity"], _IDENTITY)
    _check("model", result["model"], _MODEL)
    if not result["model"].get("name"):
        raise ValueError("the model has no name")
    for name, metric in result["metrics"].items():
        _check(f"metric {name!r}", metric, _METRIC)
    for warning in result.get("warnings", ()):
        if type(warning) is not str:
            raise ValueError(f"one of the warnings is a {type(warning).__name__}, expected str")
    _check_spec(result["task_spec"])


def _check(what: str, values: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> None:
    for name, kind in kinds.items():
        if name in values and type(values[name]) not in kind:
            expected = " or ".join("null" if one is NoneType else one.__name__ for one in kind)
            found = type(values[name]).__name__
            raise ValueError(f"{name} of the {what} is a {found}, expected {expected}")


@lru_cache(maxsize=10_000)  # a store asks for a few texts again and again
def _check_spec(text: str) -> None:
    try:
        parsed = spec.parse(text)
    except SpecError as error:
        raise ValueError(f"task_spec: {error}") from error
    if not parsed.dataset:
        raise ValueError(f"task_spec {text!r} names no data set")

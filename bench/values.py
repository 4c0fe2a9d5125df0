"""Values of options: text to the declared type of a dataclass field, and back."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

from bench.errors import nearest

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def non_default(instance: Any) -> dict[str, Any]:
    """The fields that differ from their defaults, as JSON values: what enters an identity.

    A `float` field that holds `1` counts as `1.0`, so equal protocols have equal JSON; tuples
    become lists and nested dataclasses their own non-default fields.
    """
    kinds = settable(type(instance))
    found: dict[str, Any] = {}
    for field in fields_of(type(instance)):
        value, default = getattr(instance, field.name), default_of(field)
        written = plain(canonical(value, kinds[field.name]), field.name)
        if default is dataclasses.MISSING or written != plain(
            canonical(default, kinds[field.name]), field.name
        ):
            found[field.name] = written
    return found


def fields_of(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    """The fields that the constructor takes."""
    return [field for field in dataclasses.fields(cls) if field.init]


def settable(cls: type[Any]) -> dict[str, Any]:
    """Field name -> annotation, for every field that the constructor takes."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields_of(cls)}


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The field's default; `dataclasses.MISSING` for none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def convert(value: Any, kind: Any) -> Any:
    """The value as the annotation demands; `ValueError` says what was expected."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        return _convert_literal(value, typing.get_args(kind))
    if origin in (Union, types.UnionType):
        return _convert_union(value, typing.get_args(kind))
    if origin is tuple:
        return _convert_tuple(value, typing.get_args(kind))
    if kind is bool:
        return _convert_bool(value)
    if kind in (int, float):
        return _convert_number(value, kind)
    if kind is str and isinstance(value, str):
        return value
    raise ValueError(f"expected {_name_of(kind)}, which text in a spec cannot give")


def _convert_bool(value: Any) -> bool:
    word = str(value).casefold()
    if isinstance(value, (bool, str)) and word in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError("expected true or false")


def _convert_number(value: Any, kind: type[int] | type[float]) -> int | float:
    expected = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        raise ValueError(f"expected {expected}")
    if kind is int and isinstance(value, float) and not value.is_integer():
        raise ValueError(f"expected {expected}")
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(f"expected {expected}") from None
    if not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number


def _convert_literal(value: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    for choice in choices:
        if isinstance(value, str) and value == to_text(choice):
            return choice
    raise ValueError(nearest(str(value), map(to_text, choices)))


def _convert_union(value: Any, arms: Sequence[Any]) -> Any:
    if types.NoneType in arms and (
        value is None or (isinstance(value, str) and value.casefold() == "none")
    ):
        return None
    reasons = []
    # str takes any text, so it is the last arm to be asked
    for arm in sorted((arm for arm in arms if arm is not types.NoneType), key=lambda a: a is str):
        try:
            return convert(value, arm)
        except ValueError as error:
            reasons.append(str(error))
    none = ", or none" if types.NoneType in arms else ""
    raise ValueError(" or ".join(reasons) + none)


def _convert_tuple(value: Any, arms: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(value, str):
        items: Sequence[Any] = value.split(":") if value else ()
    elif isinstance(value, (list, tuple)):
        items = value
    else:
        raise ValueError("expected items separated by ':'")
    if len(arms) == 2 and arms[1] is Ellipsis:
        kinds: Sequence[Any] = [arms[0]] * len(items)
    elif len(arms) == len(items):
        kinds = arms
    else:
        raise ValueError(f"expected {len(arms)} items separated by ':', found {len(items)}")
    converted = []
    for item, kind in zip(items, kinds, strict=True):
        try:
            converted.append(convert(item, kind))
        except ValueError as error:
            raise ValueError(f"item {item!r}: {error}; items are separated by ':'") from None
    return tuple(converted)


def canonical(value: Any, kind: Any) -> Any:
    """The value in the type its field declares, where that is one a spec can set."""
    if isinstance(value, str):
        return value
    try:
        return convert(value, kind)
    except ValueError:
        return value


def plain(value: Any, where: str) -> Any:
    """The value of the field `where` as a JSON value."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain(item, where) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item, where) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return non_default(value)
    raise TypeError(f"field {where!r} holds a {type(value).__name__}, which JSON cannot hold")


def to_text(value: Any) -> str:
    """A value as it is written in a spec."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ":".join(map(to_text, value))
    return str(value)


def _name_of(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)

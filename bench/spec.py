"""Spec strings: what to train or evaluate, on what, with which options.

    NAME[@DATASET][?key=value&key=value]          slotmim@coco_plus?epochs=800
    DATASET = PART[+PART...]                      imagenet1k[n=241000,seed=0]+coco
    PART    = NAME[[key=value,key=value]]         folder[path=/data/photographs]

Specs are data: parsed by hand, converted by a field's declared type, never evaluated. Every spec
has one canonical text (keys sorted), and `parse(str(spec)) == spec` for every `Spec` there is.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union

from bench.errors import SpecError, nearest

T = TypeVar("T")
Pairs = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True)
class DatasetPart:
    """One dataset of a union, with its modifiers sorted by key."""

    name: str
    modifiers: Pairs = ()

    def __post_init__(self) -> None:
        _check_name(self.name, "dataset")
        object.__setattr__(self, "modifiers", _sorted_pairs(self.modifiers, ",", "modifier"))

    def __str__(self) -> str:
        inner = ",".join(f"{key}={value}" for key, value in self.modifiers)
        return f"{self.name}[{inner}]" if inner else self.name


@dataclass(frozen=True)
class Spec:
    """A parsed spec string; `str(spec)` is its canonical text."""

    name: str
    dataset: tuple[DatasetPart, ...] = ()
    options: Pairs = ()

    def __post_init__(self) -> None:
        _check_name(self.name, "method or task")
        object.__setattr__(self, "options", _sorted_pairs(self.options, "&", "option"))

    @property
    def dataset_text(self) -> str:
        """The canonical text behind the `@`, such as `imagenet1k[n=100,seed=0]+coco`."""
        return "+".join(map(str, self.dataset))

    def __str__(self) -> str:
        text = f"{self.name}@{self.dataset_text}" if self.dataset else self.name
        inner = "&".join(f"{key}={value}" for key, value in self.options)
        return f"{text}?{inner}" if inner else text


def parse(text: str) -> Spec:
    """The spec that the text describes; `SpecError` says what is malformed and how to write it."""
    head, mark, options = _cut(text.strip(), "?")
    if mark and not options.strip():
        raise SpecError(f"{text!r}: nothing follows '?'; write ?key=value, or drop the '?'")
    name, at, dataset = _cut(head, "@")
    if at and not dataset.strip():
        raise SpecError(
            f"{text!r}: nothing follows '@'; write NAME@DATASET, such as knn@imagenet1k"
        )
    if len(_split(options, ",")) > 1:
        raise SpecError(
            f"{text!r}: found ',' in the options; separate options with '&' and the items of one "
            "value with ':' (lr=0.1:0.01)"
        )
    return Spec(
        name.strip(),
        parse_dataset(dataset) if at else (),
        _pairs(options, "&", "option") if mark else (),
    )


def parse_dataset(text: str) -> tuple[DatasetPart, ...]:
    """The parts of a dataset text: `imagenet1k[n=100,seed=0]+coco` gives two."""
    return tuple(_parse_part(part.strip(), text) for part in _split(text, "+"))


def parse_list(text: str) -> list[Spec]:
    """The specs of a comma-separated list, in order.

    Commas inside brackets belong to their spec. A name without `@` takes the dataset of the next
    spec to its right that has one, so `knn,linear@x` evaluates both on `x`; options are not shared.
    """
    items = [item.strip() for item in _split(text, ",")]
    if not all(items):
        raise SpecError(f"{text!r}: found an empty item; separate specs with single commas")
    specs: list[Spec] = []
    dataset: tuple[DatasetPart, ...] = ()
    for item in reversed(items):
        spec = parse(item)
        dataset = spec.dataset or dataset
        specs.append(dataclasses.replace(spec, dataset=dataset))
    return specs[::-1]


def bind(cls: type[T], options: Mapping[str, str], preset: Mapping[str, Any] | None = None) -> T:
    """An instance of the dataclass `cls` with text options converted by each field's annotation.

    Known annotations: `int`, `float`, `bool`, `str`, `Literal`, `X | None` (written `none`) and
    tuples of these (`lr=0.1:0.01`; nothing behind the `=` is the empty tuple). `preset` holds
    values that the options override. Numbers must be finite. A `ValueError` that the class raises
    while checking its fields becomes a `SpecError`.
    """
    kinds = _settable(cls)
    values: dict[str, Any] = {}
    for key, value in {**(preset or {}), **options}.items():
        if key not in kinds:
            raise SpecError(f"{cls.__name__} has no option {key!r}; {nearest(key, kinds)}")
        try:
            values[key] = _convert(value, kinds[key])
        except ValueError as error:
            raise SpecError(f"{cls.__name__}: {key}={value}: {error}") from None
    missing = [f.name for f in _fields(cls) if _default(f) is dataclasses.MISSING]
    missing = [key for key in missing if key not in values]
    if missing:
        raise SpecError(f"{cls.__name__} needs {', '.join(missing)}; write ?{missing[0]}=VALUE")
    try:
        return cls(**values)
    except ValueError as error:
        raise SpecError(f"{cls.__name__}: {error}") from error


def non_default(instance: Any) -> dict[str, Any]:
    """The fields that differ from their defaults, as JSON values: what enters an identity.

    A `float` field that holds `1` counts as `1.0`, so equal protocols have equal JSON; tuples
    become lists and nested dataclasses their own non-default fields.
    """
    kinds = _settable(type(instance))
    found: dict[str, Any] = {}
    for field in _fields(type(instance)):
        value, default = getattr(instance, field.name), _default(field)
        plain = _plain(_canonical(value, kinds[field.name]), field.name)
        if default is dataclasses.MISSING or plain != _plain(
            _canonical(default, kinds[field.name]), field.name
        ):
            found[field.name] = plain
    return found


def unbind(instance: Any) -> Pairs:
    """The non-default fields as option pairs: `bind(cls, dict(unbind(x))) == x`."""
    return _sorted_pairs(
        tuple((key, to_text(value)) for key, value in non_default(instance).items()), "&", "option"
    )


# Reading text


def _parse_part(text: str, whole: str) -> DatasetPart:
    if not text:
        raise SpecError(f"{whole!r}: found an empty dataset; write DATASET or DATASET+DATASET")
    name, bracket, rest = text.partition("[")
    if bracket and not rest.endswith("]"):
        raise SpecError(
            f"{whole!r}: found {rest.rpartition(']')[2]!r} behind ']'; write NAME[key=value]"
        )
    return DatasetPart(name.strip(), _pairs(rest[:-1], ",", "modifier") if bracket else ())


def _pairs(text: str, mark: str, what: str) -> Pairs:
    pairs = []
    for item in _split(text, mark):
        key, equals, value = item.partition("=")
        if not equals:
            raise SpecError(f"{what} {item.strip()!r} has no value; write {item.strip()}=VALUE")
        pairs.append((key.strip(), value.strip()))
    return tuple(pairs)


def _cut(text: str, mark: str) -> tuple[str, str, str]:
    """`str.partition` at the first mark outside brackets."""
    pieces = _split(text, mark)
    if len(pieces) == 1:
        return text, "", ""
    return pieces[0], mark, text[len(pieces[0]) + 1 :]


def _split(text: str, mark: str) -> list[str]:
    """The pieces of the text between marks that stand outside brackets."""
    pieces, start, depth = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if depth < 0:
            raise SpecError(f"{text!r}: found ']' without '['; write NAME[key=value,key=value]")
        if letter == mark and not depth:
            pieces.append(text[start:position])
            start = position + 1
    if depth:
        raise SpecError(f"{text!r}: found '[' that is never closed; add ']'")
    return [*pieces, text[start:]]


def _check_name(name: str, what: str) -> None:
    if _NAME.fullmatch(name):
        return
    if not name:
        raise SpecError(f"found no {what} name; write NAME@DATASET, such as knn@imagenet1k")
    advice = "names are letters, digits, '_', '-' and '.'"
    if what == "dataset" and "/" in name:
        advice = f"a folder of images is written folder[path={name}]"
    raise SpecError(f"found {name!r} as the {what} name; {advice}")


def _sorted_pairs(pairs: Pairs, mark: str, what: str) -> Pairs:
    """The pairs sorted by key, case aside; refuses what could not be parsed back."""
    seen = set()
    for key, value in pairs:
        if not _KEY.fullmatch(key):
            raise SpecError(
                f"found {key!r} as {what} key; write key=value with a plain word as key"
            )
        if key in seen:
            raise SpecError(f"found {what} {key!r} twice; keep one")
        seen.add(key)
        if not value and what == "modifier":
            raise SpecError(f"modifier {key!r} has no value; write {key}=VALUE, or drop it")
        marks = (mark,) if mark == "," else (mark, ",")
        if value != value.strip() or any(len(_split(value, m)) > 1 for m in marks):
            raise SpecError(
                f"{what} {key}={value!r} cannot be written in a spec: outside [] a value holds "
                f"neither {' nor '.join(map(repr, marks))}, and no space at its ends"
            )
    return tuple(sorted(pairs, key=lambda pair: (pair[0].casefold(), pair[0])))


# Converting values


def _fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.init]


def _settable(cls: type[Any]) -> dict[str, Any]:
    """Field name -> annotation, for every field that the constructor takes."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in _fields(cls)}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _convert(value: Any, kind: Any) -> Any:
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
            return _convert(value, arm)
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
            converted.append(_convert(item, kind))
        except ValueError as error:
            raise ValueError(f"item {item!r}: {error}; items are separated by ':'") from None
    return tuple(converted)


def _canonical(value: Any, kind: Any) -> Any:
    """The value in the type its field declares, where that is one a spec can set."""
    if isinstance(value, str):
        return value
    try:
        return _convert(value, kind)
    except ValueError:
        return value


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(item, where) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
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

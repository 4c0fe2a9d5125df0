"""Spec strings: what to train or evaluate, on what, with which options.

    NAME[@DATASET][?key=value&key=value]          slotmim@coco_plus?epochs=800
    DATASET = PART[+PART...]                      imagenet1k[n=241000,seed=0]+coco
    PART    = NAME[[key=value,key=value]]         folder[path=/data/photographs]

Specs are data: parsed by hand, converted by a field's declared type, never evaluated. Every spec
has one canonical text (keys sorted), and `parse(str(spec)) == spec` for every `Spec` there is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.errors import SpecError, nearest
from bench.values import (
    convert,
    default_of,
    fields_of,
    non_default,
    settable,
    to_text,
)

T = TypeVar("T")
Pairs = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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
    kinds = settable(cls)
    values: dict[str, Any] = {}
    for key, value in {**(preset or {}), **options}.items():
        if key not in kinds:
            raise SpecError(f"{cls.__name__} has no option {key!r}; {nearest(key, kinds)}")
        try:
            values[key] = convert(value, kinds[key])
        except ValueError as error:
            raise SpecError(f"{cls.__name__}: {key}={value}: {error}") from None
    missing = [f.name for f in fields_of(cls) if default_of(f) is dataclasses.MISSING]
    missing = [key for key in missing if key not in values]
    if missing:
        raise SpecError(f"{cls.__name__} needs {', '.join(missing)}; write ?{missing[0]}=VALUE")
    try:
        return cls(**values)
    except ValueError as error:
        raise SpecError(f"{cls.__name__}: {error}") from error


def with_options(text: str, pairs: Pairs) -> str:
    """The spec with options added; later ones win over those that it has."""
    spec = parse(text)
    return str(Spec(spec.name, spec.dataset, tuple({**dict(spec.options), **dict(pairs)}.items())))


def pairs_of(texts: Sequence[str]) -> Pairs:
    """Options from `KEY=VALUE` texts, as `--set` takes them."""
    for text in texts:
        if "=" not in text:
            raise SpecError(f"--set {text}: write --set KEY=VALUE")
    return tuple(
        (key.strip(), value.strip()) for key, _, value in (t.partition("=") for t in texts)
    )


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

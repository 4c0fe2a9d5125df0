"""What can be set of an entry: options and presets; of a data set its layout and modifiers."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from bench import registry
from bench.errors import SpecError
from bench.values import settable, to_text


@dataclass(frozen=True)
class Options:
    """One entry of the registry in detail.

    Attributes:
        about: docstring of its class, without what it says of attributes.
        defaults: option -> default as it is written in a spec, in the order of declaration.
        choices: option -> the words that it takes, where no others are taken.
        texts: option -> what it means, where the class says so under "Attributes".
        presets: preset -> the options that it sets, as they are written in a spec.
    """

    about: str
    defaults: Mapping[str, str]
    choices: Mapping[str, tuple[str, ...]]
    texts: Mapping[str, str]
    presets: Mapping[str, Mapping[str, str]]

    def text(self, width: int = 100) -> str:
        """For reading in a terminal of `width` columns."""
        lines = [*self.about.splitlines(), "", "options"]
        for name, value in self.defaults.items():
            short = len(f"  {name}={value}") <= width
            lines.append(f"  {name}={value}" if short else f"  {name}={_ends(value)}")
            if name in self.choices:
                lines += _wrapped("one of " + ", ".join(self.choices[name]), width)
            lines += _wrapped(self.texts.get(name, ""), width)
        if self.presets:
            lines += ["", "presets, which combine as preset=A:B"]
        for name, values in self.presets.items():
            lines.append(f"  {name}")
            written = " ".join(f"{key}={value}" for key, value in values.items())
            lines += _wrapped(written, width)
        return "\n".join(lines).replace("``", "`")


@dataclass(frozen=True)
class Layout:
    """A data set in detail.

    Attributes:
        about: docstring of its class.
        tree: how it lies on the disk.
        splits: split -> its images, None where that is not one number.
        modifiers: what it takes in brackets, `NAME[key=value]`: its own, then those of all.
    """

    about: str
    tree: str
    splits: Mapping[str, int | None]
    modifiers: tuple[str, ...]

    def text(self, width: int = 100) -> str:
        """For reading in a terminal of `width` columns."""
        lines = [
            *self.about.splitlines(),
            "",
            "layout",
            *textwrap.indent(self.tree, "  ").split("\n"),
        ]
        lines += ["", "splits"]
        width_of_names = max(map(len, self.splits))
        for name, count in self.splits.items():
            samples = "" if count is None else f"{count:,} samples"
            lines.append(f"  {name:<{width_of_names}}  {samples}".rstrip())
        lines += ["", "modifiers in brackets", *_wrapped(", ".join(self.modifiers), width)]
        return "\n".join(lines).replace("``", "`")


_ATTRIBUTES = re.compile(r"\nAttributes:\n(    .*\n?|\n)*")
_INDENT = " " * 6


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width - len(_INDENT),
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_on_hyphens=False,
    )


def _ends(value: str) -> str:
    """The first and the last items of a long tuple."""
    items = value.split(":")
    return f"{':'.join(items[:3])}:...:{items[-1]} ({len(items)} values)"


def layout_of(name: str) -> Layout:
    """The layout of a data set; imports it."""
    from bench.dataset import MODIFIERS

    cls = registry.load("dataset", name)
    return Layout(
        about=(inspect.getdoc(cls) or "").rstrip(),
        tree=textwrap.dedent(cls.tree).strip(),
        splits={split: cls.counts.get(split) for split in cls.splits},
        modifiers=(*cls.modifiers, *MODIFIERS),
    )


def options_of(kind: str, name: str) -> Options:
    """The options of a registered entry; imports it. SpecError where its kind has none."""
    cls = registry.load(kind, name)
    settings = getattr(cls, "recipe", cls)  # of a method: its recipe
    if not dataclasses.is_dataclass(settings) or kind not in ("method", "task", "figure"):
        raise SpecError(f"a {kind} has no options to list; those of methods, tasks and figures do")
    fields = [field for field in dataclasses.fields(settings) if field.init]
    presets: Mapping[str, Mapping[str, Any]] = getattr(cls, "presets", {})
    return Options(
        about=_ATTRIBUTES.sub("", inspect.getdoc(cls) or "").rstrip(),  # told with the options
        defaults={field.name: _default(field) for field in fields},
        choices={
            name: words for name, kind in settable(settings).items() if (words := _words(kind))
        },
        texts=_texts(settings),
        presets={
            preset: {key: to_text(value) for key, value in values.items()}
            for preset, values in presets.items()
        },
    )


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return to_text(field.default)
    factory = field.default_factory
    return to_text(factory()) if factory is not dataclasses.MISSING else "(needed)"


def _words(kind: Any) -> tuple[str, ...]:
    """What an annotation of literals takes, or of literals and None; nothing for any other."""
    if kind is type(None):
        return ("none",)
    if get_origin(kind) is Literal:
        return tuple(map(to_text, get_args(kind)))
    if get_origin(kind) not in (Union, types.UnionType):
        return ()
    arms = [_words(arm) for arm in get_args(kind)]
    return tuple(dict.fromkeys(word for arm in arms for word in arm)) if all(arms) else ()


def _texts(cls: type[Any]) -> dict[str, str]:
    """The entries under "Attributes:" of a class and its bases; the nearest class wins."""
    found: dict[str, str] = {}
    for base in cls.__mro__:
        _, _, rest = (inspect.cleandoc(base.__doc__ or "")).partition("\nAttributes:\n")
        section = re.split(r"\n(?=\S)", rest)[0]
        for entry in re.split(r"\n(?=    \S)", "\n" + section):
            name, colon, text = entry.strip().partition(": ")
            if colon and name.isidentifier():
                found.setdefault(name, " ".join(text.split()))
    return found

"""What there is, found by file name: methods, tasks, datasets, families, figures, papers' tables.

A file `trainers/methods/dino.py` *is* the method `dino`. Names and one-line descriptions are read
from the folders without importing anything; a file is imported when its name is asked for. Files
whose names start with an underscore, and sub-packages, are not entries. Other distributions join
through the entry-point groups `sslbench.methods`, `.tasks`, `.datasets`, `.families`,
`.figures` and `.tables`, single files through `load_plugin`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import SpecError, nearest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # what bench.spec accepts as a name
_SKIPPED_TOKENS = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENCODING)


@dataclass(frozen=True)
class Kind:
    """Where entries of one kind lie, and the class that each of them extends.

    `grouped` kinds lie one level deeper, in every sub-package of `package`.
    """

    plural: str
    package: str
    base: str
    grouped: bool = False

    @property
    def entry_point_group(self) -> str:
        """The entry-point group through which other distributions add entries."""
        return f"sslbench.{self.plural}"


KINDS: dict[str, Kind] = {
    "method": Kind("methods", "trainers.methods", "trainers.method:Method"),
    "task": Kind("tasks", "tasks", "bench.task:Task", grouped=True),
    "dataset": Kind("datasets", "bench.data", "bench.dataset:Dataset"),
    "family": Kind("families", "bench.checkpoints", "bench.checkpoint:Family"),
    "figure": Kind("figures", "bench.figures", "bench.figure:Figure"),
    "table": Kind("tables", "leaderboards.papers", "leaderboards.paper:Paper"),
}


@dataclass(frozen=True)
class _Entry:
    origin: str  # shown when two entries claim one name
    module: str
    file: Path | None = None
    attribute: str | None = None  # entry points may name the class


_plugins: dict[Path, ModuleType] = {}
_plugin_entries: dict[tuple[str, str], _Entry] = {}


def names(kind: str) -> list[str]:
    """The registered names of a kind, sorted; nothing is imported."""
    return sorted(_entries(kind))


def groups(kind: str) -> dict[str, str]:
    """Name -> the sub-package that it lies in ("image", "dense"); "" where kinds have none."""
    packages = {name: entry.module.split(".") for name, entry in sorted(_entries(kind).items())}
    own = KINDS[kind].package
    return {
        name: parts[-2] if KINDS[kind].grouped and ".".join(parts[:-2]) == own else ""
        for name, parts in packages.items()
    }


def describe(kind: str) -> dict[str, str]:
    """Name -> first line of the file's docstring (else its first class's), without importing."""
    found = _entries(kind)
    return {
        name: _first_line(entry.file) if entry.file else f"(from {entry.origin})"
        for name, entry in sorted(found.items())
    }


def load(kind: str, name: str) -> type[Any]:
    """The concrete class that the named file defines; `SpecError` with the nearest name if none."""
    found = _entries(kind)
    if name not in found:
        raise SpecError(f"there is no {kind} {name!r}; {nearest(name, found)}")
    entry = found[name]
    module = sys.modules.get(entry.module) or importlib.import_module(entry.module)
    if entry.attribute:
        return _checked_attribute(module, entry, kind)
    classes = _concrete(module, attribute(KINDS[kind].base))
    if len(classes) != 1:
        listed = ", ".join(cls.__name__ for cls in classes) or "none"
        raise SpecError(
            f"{entry.origin} must define exactly one concrete {_base_name(kind)}, found {listed}; "
            "a file of shared code takes a name with a leading underscore"
        )
    return classes[0]


def load_plugin(path: str | Path) -> list[tuple[str, str]]:
    """Imports a file and registers what it defines under its stem; returns (kind, name) pairs.

    The file is code and runs with the user's rights. Loading the same file again changes nothing.
    """
    file = Path(path).resolve()
    if not file.is_file() or file.suffix != ".py":
        raise SpecError(f"plugin {path} is not a Python file; give the path of a .py file")
    if not _NAME.fullmatch(file.stem):
        raise SpecError(f"plugin {path}: {file.stem!r} cannot be a name; rename the file")
    if file not in _plugins:
        _register(file, _import_file(file))
    registered = [key for key, entry in _plugin_entries.items() if entry.file == file]
    return sorted(registered)


def plugins() -> tuple[Path, ...]:
    """The plugin files loaded so far, for a worker process that must load them too."""
    return tuple(_plugins)


def attribute(target: str) -> Any:
    """The object at `module:name`, imported now: how `bench` reaches its siblings.

    A missing module or name is a `SpecError` here; what the module itself fails to import is not.
    """
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise SpecError(
            f"{module_name} is not part of this installation; pip install --upgrade sslbench"
        ) from error
    try:
        return getattr(module, name)
    except AttributeError:
        raise SpecError(f"{module_name} has no {name!r}; {nearest(name, vars(module))}") from None


# Finding


def _entries(kind: str) -> dict[str, _Entry]:
    if kind not in KINDS:
        raise SpecError(f"there is no kind {kind!r}; {nearest(kind, KINDS)}")
    found: dict[str, _Entry] = {}
    for package, folder in _folders(KINDS[kind]):
        for file in folder.glob("*.py"):
            if not file.name.startswith("_"):
                entry = _Entry(f"{package}.{file.stem}", f"{package}.{file.stem}", file)
                _add(found, kind, file.stem, entry)
    for name, entry in _entry_points(KINDS[kind].entry_point_group).items():
        _add(found, kind, name, entry)
    for (plugin_kind, name), entry in _plugin_entries.items():
        if plugin_kind == kind:
            _add(found, kind, name, entry)
    return found


def _add(found: dict[str, _Entry], kind: str, name: str, entry: _Entry) -> None:
    if name in found:
        raise SpecError(
            f"{kind} {name!r} is defined twice, by {found[name].origin} and {entry.origin}; "
            "rename one of the files, or leave out one of the distributions"
        )
    found[name] = entry


def _folders(kind: Kind) -> list[tuple[str, Path]]:
    """(package, folder) of each place that may hold entries; a package not there yet has none."""
    try:
        spec = importlib.util.find_spec(kind.package)
    except ModuleNotFoundError:  # the parent package is missing
        return []
    roots = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    if not kind.grouped:
        return [(kind.package, root) for root in roots]
    return [
        (f"{kind.package}.{group.name}", group)
        for root in roots
        for group in sorted(root.iterdir())
        if group.is_dir() and not group.name.startswith(("_", "."))
    ]


def _entry_points(group: str) -> dict[str, _Entry]:
    import importlib.metadata  # 25 ms, which importing this module should not cost

    found = {}
    for point in importlib.metadata.entry_points(group=group):
        origin = point.dist.name if point.dist else point.value
        found[point.name] = _Entry(origin, point.module, attribute=point.attr or None)
    return found


def _first_line(file: Path) -> str:
    """The first docstring line of a file, "" where it has none or does not parse."""
    try:
        with tokenize.open(file) as stream:
            # only the head of the file is read when it starts with a docstring, as ours do
            for token in tokenize.generate_tokens(stream.readline):
                if token.type == tokenize.STRING:
                    text = ast.literal_eval(token.string)
                    return _headline(text) if isinstance(text, str) else ""
                if token.type not in _SKIPPED_TOKENS:
                    break
            stream.seek(0)
            body = ast.parse(stream.read()).body
    except (OSError, SyntaxError, ValueError, tokenize.TokenError):
        return ""
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    return _headline(ast.get_docstring(classes[0]) or "") if classes else ""


def _headline(docstring: str) -> str:
    return docstring.strip().partition("\n")[0].strip()


# Loading


def _concrete(module: ModuleType, base: type[Any]) -> list[type[Any]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]


def _checked_attribute(module: ModuleType, entry: _Entry, kind: str) -> type[Any]:
    found = getattr(module, entry.attribute or "", None)
    base = attribute(KINDS[kind].base)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise SpecError(
            f"{entry.origin} announces {entry.module}:{entry.attribute} as a {kind}, but it is no "
            f"{_base_name(kind)}; upgrade or uninstall {entry.origin}"
        )
    return found


def _base_name(kind: str) -> str:
    return KINDS[kind].base.rpartition(":")[2]


def _import_file(file: Path) -> ModuleType:
    name = f"sslbench_plugin_{file.stem}"
    if name in sys.modules:
        raise SpecError(f"two plugins are called {file.name}; rename one of the files")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise SpecError(f"plugin {file} cannot be imported; give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up while the file runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _register(file: Path, module: ModuleType) -> None:
    added: dict[tuple[str, str], _Entry] = {}
    for kind, place in KINDS.items():
        # a plugin that extends a base has imported it: no base needs importing here
        base_module, _, base_name = place.base.partition(":")
        base = getattr(sys.modules.get(base_module), base_name, None)
        if base is not None and _concrete(module, base):
            added[kind, file.stem] = _Entry(f"plugin {file.name}", module.__name__, file)
    try:
        if not added:
            bases = ", ".join(sorted(map(_base_name, KINDS)))
            raise SpecError(f"plugin {file.name} defines no concrete subclass of any of {bases}")
        for (kind, name), entry in added.items():
            _add(_entries(kind), kind, name, entry)
    except SpecError:
        del sys.modules[module.__name__]
        raise
    _plugin_entries.update(added)
    _plugins[file] = module

"""Nothing that comes from a stranger is run: the rules of reading files, over the source itself."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bench", "trainers", "tasks", "leaderboards")
MACHINE_PATH = re.compile(r"(?<![\w.~$)}*-])/(?:home|root|Users|work|mnt|scratch|opt|srv)/\w")
UNPICKLERS = re.compile(
    r"(_?pickle|cPickle|dill|cloudpickle|joblib)\.(load|loads|Unpickler)|pandas\.read_pickle"
)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def sources(*folders: str) -> list[Path]:
    return sorted(path for name in folders for path in (ROOT / name).rglob("*.py"))


class Call(NamedTuple):
    """One call: "file:line", what it calls with `import x as y` undone, and the node."""

    place: str
    name: str
    node: ast.Call


def calls(*folders: str) -> Iterator[Call]:
    for path in sources(*folders):
        origin = {}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                origin |= {a.asname or a.name: f"{base}{a.name}" for a in node.names}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                first, dot, rest = ast.unparse(node.func).partition(".")
                name = f"{origin.get(first, first)}{dot}{rest}"
                yield Call(f"{path.relative_to(ROOT)}:{node.lineno}", name, node)


def test_torch_load_reads_tensors_only() -> None:
    wrong = []
    for place, name, call in calls(*PACKAGES, "tests"):
        flags = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
        unsafe = flags.get("weights_only", True) is not True
        if unsafe or (name == "torch.load" and "weights_only" not in flags):
            wrong.append(place)
    assert not wrong, f"write torch.load(..., weights_only=True): {wrong}"


def test_pickles_pass_the_restricted_unpickler_only() -> None:
    wrong = [f"{c.place} {c.name}" for c in calls(*PACKAGES) if UNPICKLERS.fullmatch(c.name)]
    assert not wrong, f"a pickle from a stranger runs its code; use bench.safe_pickle: {wrong}"


def test_every_unpickler_decides_which_classes_it_makes() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sources(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and any("Unpickler" in ast.unparse(base) for base in node.bases)
        and "find_class" not in {getattr(item, "name", "") for item in node.body}
    ]
    assert not wrong, f"override find_class with a list of what is allowed: {wrong}"


def test_arrays_are_read_without_pickle() -> None:
    wrong = [
        call.place
        for call in calls(*PACKAGES)
        for keyword in call.node.keywords
        if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is not False
    ]
    assert not wrong, f"leave allow_pickle at False: {wrong}"


def test_nothing_evaluates_text() -> None:
    wrong = [c.place for c in calls(*PACKAGES) if c.name in ("eval", "exec", "compile")]
    assert not wrong, f"specs, recipes and TOML are data: {wrong}"


def written_files() -> list[Path]:
    named = ["pyproject.toml", "constraints.txt", "Makefile", ".ci/run"]
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [*(ROOT / name for name in named), *documents, *sources(*PACKAGES, "tests")]


def test_nothing_names_a_place_on_somebodys_machine() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in written_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not wrong, f"take it from an argument or an environment variable: {wrong}"

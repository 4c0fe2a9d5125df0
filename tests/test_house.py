"""The rules of the house (CONTRIBUTING.md), each as a test over the source itself."""

import ast
import graphlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bench", "trainers", "tasks", "leaderboards")
SIBLINGS = ("trainers", "tasks", "leaderboards")
HEAVY = {
    *("torch", "torchvision", "timm", "lightning_fabric", "ray", "faiss", "tensorboard"),
    *("pandas", "matplotlib", "sklearn", "skimage", "scipy"),
    *("mujoco", "metaworld", "gymnasium", "mmcv", "mmengine", "mmseg", "mmdet", "pycocotools"),
}
TORCH_FAMILY = {"torch", "torchvision", "timm", "lightning_fabric"}
VAGUE_NAMES = re.compile(r"(utils?|utilities|helpers?|commons?|misc|managers?)$")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def sources(*folders: str) -> list[Path]:
    return sorted(path for name in folders for path in (ROOT / name).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Import(NamedTuple):
    """One imported module or name: `late` when it happens inside a function."""

    target: str
    line: int
    late: bool


def imports(path: Path) -> list[Import]:
    """The imports that happen at run time; `from a import b` counts as "a.b"."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]

    def targets(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and called(node) in IMPORT_CALLS:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value

    def walk(node: ast.AST, late: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from walk(child, late)
            return
        for target in targets(node):
            yield Import(target, node.lineno, late)  # type: ignore[attr-defined]
        inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    return list(walk(tree(path), False))


IMPORT_CALLS = {"import_module", "importlib.import_module", "__import__"}


def called(node: ast.Call) -> str:
    """The dotted name of what a call calls, "" when it has none."""
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running `code`."""
    script = f"import sys, json\n{code}\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def command(*arguments: str) -> str:
    """Code that runs the sslbench command in the interpreter at hand."""
    return (
        f"sys.argv = ['sslbench', *{arguments!r}]\n"
        "from bench.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_down(package: str) -> None:
    forbidden = {name for name in SIBLINGS if name != package}
    wrong = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.target}"
        for path in sources(package)
        for found in imports(path)
        if found.target.split(".")[0] in forbidden
    ]
    assert not wrong, f"reach it by name through bench.registry, or move it down to bench: {wrong}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {module_name(path): path for path in sources(*PACKAGES)}
    graph = {
        name: {
            target if target in modules else target.rpartition(".")[0]
            for target, _, late in imports(path)
            if not late
        }
        & modules.keys() - {name}
        for name, path in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_leaderboards_name_no_torch_even_late() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.target}"
        for path in sources("leaderboards")
        for found in imports(path)
        if found.target.split(".")[0] in TORCH_FAMILY
    ]
    assert not wrong


def test_leaderboards_and_the_bench_modules_they_name_load_no_torch() -> None:
    own = [module_name(path) for path in sources("leaderboards")]
    known = {module_name(path) for path in sources("bench")}
    named = {found.target for path in sources("leaderboards") for found in imports(path)}
    below = {t if t in known else t.rpartition(".")[0] for t in named if t.startswith("bench.")}
    code = "\n".join(f"import {name}" for name in [*own, *sorted(below)])
    assert not loaded_by(code) & TORCH_FAMILY


@pytest.mark.parametrize(
    "code",
    ["import bench.cli", command("--help"), command("ls")],
    ids=["import", "help", "ls"],
)
def test_front_door_loads_no_heavy_package(code: str) -> None:
    assert not loaded_by(code) & HEAVY, "import it inside the function that needs it"


@pytest.mark.parametrize("argument", ["--help", "ls"])
def test_front_door_answers_within_half_a_second(argument: str) -> None:
    # Processor time, best of five: a busy machine must not fail a quick command.
    code = f"import sys, time\n{command(argument)}\nprint('\\n' + str(time.process_time()))"
    times = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        times.append(float(done.stdout.split()[-1]))
    assert min(times) < 0.5


def test_no_file_has_a_name_that_says_nothing() -> None:
    everywhere = [*sources(*PACKAGES, "tests")]
    vague = {
        str(path.relative_to(ROOT))
        for path in everywhere
        for part in path.relative_to(ROOT).with_suffix("").parts
        if VAGUE_NAMES.search(part)
    }
    assert not vague, f"name each file after the thing it holds: {sorted(vague)}"

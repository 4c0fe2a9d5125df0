"""What README.md and its pages show can be typed: commands, specs, code, names and links exist.

Blocks under `<!-- tested -->` and all Python blocks are run; of the other bash blocks, which need
data or hours, every command, option, name and key is looked up.
"""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from bench import registry
from bench.dataset import MODIFIERS
from bench.spec import DatasetPart, Spec, bind, parse, parse_dataset, parse_list

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ("docs/image_tasks.md", "docs/dense_tasks.md", "docs/robots.md", "docs/leaderboards.md")
PAGE = "".join((ROOT / page).read_text() for page in PAGES)
FENCE = re.compile(r"(?P<mark><!-- tested -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)
ROW = re.compile(r"^\| (method|task|dataset|family|figure|table) \| `([^`]+)` \|", re.MULTILINE)
MINI = "sslbench mini mini-data --images 200"
LINK = re.compile(r"\]\(([^)#:]+)\)")


class Block(NamedTuple):
    """A fenced block: its language, its text, and whether it is marked as tested."""

    language: str
    code: str
    tested: bool


BLOCKS = [Block(m["language"], m["code"], bool(m["mark"])) for m in FENCE.finditer(README + PAGE)]
RUN = [b.code for b in BLOCKS if b.tested and b.language == "bash"]
PYTHON = [b.code for b in BLOCKS if b.language == "python"]
COMMANDS = [
    line
    for block in BLOCKS
    if block.language == "bash"
    for line in block.code.replace("\\\n", " ").splitlines()
    if line.startswith("sslbench ")
]


def run(command: list[str], folder: Path) -> str:
    """Standard output of a command that finds this environment's `sslbench` first."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SSLBENCH_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment |= {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@cache
def help_of(*command: str) -> str:
    return run(["sslbench", *command, "--help"], ROOT)


def specs_in(words: list[str]) -> list[tuple[str, Spec]]:
    """(kind, spec) of what a command line asks to train, to evaluate or to draw."""
    if words[1] == "train":
        return [("method", parse(words[2]))]
    if words[1] == "eval":
        return [("task", spec) for spec in parse_list(words[words.index("--tasks") + 1])]
    if words[1] == "figure":
        return [("figure", parse(words[2]))]
    return []


@pytest.fixture(scope="module")
def mini_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages' first command writes, once for all of them."""
    folder = tmp_path_factory.mktemp("readme")
    run(shlex.split(MINI), folder)
    return folder / "mini-data"


def test_readme_has_something_to_run() -> None:
    assert RUN
    assert PYTHON
    assert COMMANDS


@pytest.mark.parametrize("code", RUN, ids=lambda code: code.splitlines()[0])
def test_marked_commands_run(code: str, tmp_path: Path, mini_data: Path) -> None:
    if MINI in code:  # what is there is not written again
        shutil.copytree(mini_data, tmp_path / mini_data.name)
    run(["bash", "-euo", "pipefail", "-c", code], tmp_path)


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.splitlines()[0])
def test_python_examples_run(code: str, tmp_path: Path) -> None:
    run([sys.executable, "-W", "error", "-c", compile_checked(code)], tmp_path)


def compile_checked(code: str) -> str:
    compile(code, "README.md", "exec")
    return code


@pytest.mark.parametrize("line", COMMANDS)
def test_command_and_its_options_exist(line: str) -> None:
    words = shlex.split(line, comments=True)
    options = [word for word in words if word.startswith("--")]
    command = () if words[1].startswith("--") else (words[1],)
    shown = help_of(*command)
    missing = [o for o in options if not re.search(rf"{re.escape(o)}(?![\w-])", shown)]
    assert not missing, f"{line!r}: no {missing}"


@pytest.mark.parametrize("line", COMMANDS)
def test_specs_name_what_exists(line: str) -> None:
    for kind, spec in specs_in(shlex.split(line, comments=True)):
        for part in spec.dataset:
            check_dataset(part)
        options = dict(spec.options)
        found = registry.load(kind, spec.name)
        if kind in ("task", "figure"):
            bind(found, options)
            continue
        presets = options.pop("preset", "").split(":")
        assert set(filter(None, presets)) <= found.presets.keys()
        assert options.keys() <= {field.name for field in dataclasses.fields(found.recipe)}


def check_dataset(part: DatasetPart) -> None:
    found = registry.load("dataset", part.name)
    options = dict(part.modifiers)
    assert options.keys() <= {*MODIFIERS, *found.modifiers}
    assert options.get("split", found.splits[0]) in found.splits


def test_dataset_texts_are_understood() -> None:
    texts = re.findall(r"`([a-z0-9_]+(?:[\[+][^`]*))`", README)
    assert any("[" in text for text in texts)
    assert any("+" in text for text in texts)
    for text in texts:
        for part in parse_dataset(text):
            check_dataset(part)


def test_specs_of_the_papers_name_what_exists() -> None:
    """Every `TASK@DATASET?key=value` on the pages, but for those with a placeholder."""
    texts = re.findall(r"`([a-z0-9_]+@[^`]*)`", PAGE)
    whole = [text for text in texts if not re.search(r"\.\.\.|DATASET|[{]", text)]
    assert len(whole) > 20
    for text in whole:
        spec = parse(text)
        for part in spec.dataset:
            check_dataset(part)
        bind(registry.load("task", spec.name), dict(spec.options))


@pytest.mark.parametrize("kind", registry.KINDS)
def test_table_lists_what_there_is(kind: str) -> None:
    listed = [name for row_kind, name in ROW.findall(README) if row_kind == kind]
    assert sorted(listed) == registry.names(kind), "edit the table under What there is"


def test_make_targets_exist_and_are_explained() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(b.code for b in BLOCKS)))
    explained = set(re.findall(r"^make ([a-z-]+) ", run(["make", "help"], ROOT), re.MULTILINE))
    assert shown
    assert shown <= targets
    assert explained == targets - {"help"}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/measured.md", *PAGES])
def test_links_and_pictures_are_there(document: str) -> None:
    path = ROOT / document
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert not missing, f"{document} points at files that are not there: {missing}"

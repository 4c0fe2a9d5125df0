"""The registry finds files by name, imports late, and explains what is wrong."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import registry
from bench.errors import SpecError
from bench.registry import (
    KINDS,
    Kind,
    attribute,
    describe,
    groups,
    load,
    load_plugin,
    names,
    plugins,
)

METHOD = '''"""{line}

More.
"""
from zoo.base import Animal

class {cls}(Animal):
    def speak(self):
        return "{cls}"
'''


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `zoo` with a flat kind `animal` and a grouped kind `plant`."""
    root = tmp_path / "zoo"
    for folder in ("animals", "animals/mini", "plants/trees", "plants/herbs", "plants/_hidden"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").touch()
    (root / "__init__.py").touch()
    (root / "plants" / "__init__.py").touch()
    (root / "base.py").write_text(
        "import abc\nclass Animal(abc.ABC):\n    @abc.abstractmethod\n    def speak(self): ...\n"
    )
    (root / "animals" / "cat.py").write_text(METHOD.format(line="Cats purr.", cls="Cat"))
    (root / "animals" / "_shared.py").write_text("raise RuntimeError")
    (root / "animals" / "mini" / "mouse.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        registry,
        "KINDS",
        {
            "animal": Kind("animals", "zoo.animals", "zoo.base:Animal"),
            "plant": Kind("plants", "zoo.plants", "zoo.base:Animal", grouped=True),
            "ghost": Kind("ghosts", "zoo.ghosts", "zoo.base:Animal"),
        },
    )
    monkeypatch.setattr(registry, "_plugins", {})
    monkeypatch.setattr(registry, "_plugin_entries", {})
    yield root
    for name in [n for n in sys.modules if n.split(".")[0] == "zoo" or "sslbench_plugin" in n]:
        del sys.modules[name]


def add(root: Path, place: str, text: str) -> None:
    (root / place).write_text(text)
    importlib.invalidate_caches()


def test_a_new_file_is_an_entry_and_helper_files_are_not(zoo: Path) -> None:
    assert names("animal") == ["cat"]
    add(zoo, "animals/dog.py", METHOD.format(line="Dogs bark.", cls="Dog"))
    assert names("animal") == ["cat", "dog"]
    assert describe("animal") == {"cat": "Cats purr.", "dog": "Dogs bark."}
    assert load("animal", "dog").__name__ == "Dog"


def test_a_package_that_is_not_there_yet_has_no_entries(zoo: Path) -> None:
    assert names("ghost") == []
    assert describe("ghost") == {}
    with pytest.raises(SpecError, match="no ghost 'x'; there are none"):
        load("ghost", "x")


def test_grouped_kinds_are_found_in_every_sub_package(zoo: Path) -> None:
    add(zoo, "plants/trees/oak.py", METHOD.format(line="Oaks.", cls="Oak"))
    add(zoo, "plants/herbs/sage.py", METHOD.format(line="Sage.", cls="Sage"))
    add(zoo, "plants/_hidden/weed.py", "")
    add(zoo, "plants/flat.py", "")
    assert names("plant") == ["oak", "sage"]
    assert load("plant", "sage").__module__ == "zoo.plants.herbs.sage"
    assert groups("plant") == {"oak": "trees", "sage": "herbs"}
    assert groups("animal") == {"cat": ""}


def test_one_name_in_two_groups_is_refused(zoo: Path) -> None:
    add(zoo, "plants/trees/oak.py", "")
    add(zoo, "plants/herbs/oak.py", "")
    with pytest.raises(SpecError, match=r"'oak' is defined twice, by zoo\.plants\.\w+\.oak and"):
        names("plant")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('# licence\n\n"""First.\n\nSecond.\n"""\nraise RuntimeError', "First."),
        ('r"""\nStarts on the second line.\n"""', "Starts on the second line."),
        ("import os\nclass A:\n    '''Of the class.'''\n", "Of the class."),
        ("class A:\n    pass\n", ""),
        ("", ""),
        ('"""Never closed', ""),
        ("class A(:\n", ""),
        ("b'bytes'", ""),
    ],
)
def test_describe_reads_the_first_line_without_importing(zoo: Path, text: str, line: str) -> None:
    add(zoo, "animals/dog.py", text)
    assert describe("animal")["dog"] == line
    assert "zoo.animals.dog" not in sys.modules


def test_an_unknown_name_gets_the_nearest(zoo: Path) -> None:
    with pytest.raises(SpecError, match="no animal 'catt'; did you mean 'cat'"):
        load("animal", "catt")
    with pytest.raises(SpecError, match="no kind 'animals'; did you mean 'animal'"):
        names("animals")


def test_only_the_concrete_class_defined_in_the_file_counts(zoo: Path) -> None:
    text = METHOD.format(line="Dogs.", cls="Dog")
    text += "from zoo.animals.cat import Cat\nclass Pack(Animal): pass\n"  # Pack stays abstract
    add(zoo, "animals/dog.py", text)
    assert load("animal", "dog").__name__ == "Dog"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found none"),
        (METHOD.format(line="", cls="A") + "class B(A): pass\n", "found A, B"),
    ],
)
def test_a_file_defines_exactly_one_entry(zoo: Path, text: str, found: str) -> None:
    add(zoo, "animals/dog.py", text)
    with pytest.raises(SpecError, match=rf"zoo\.animals\.dog must .* one concrete Animal, {found}"):
        load("animal", "dog")


def test_a_plugin_file_is_registered_under_its_stem(zoo: Path, tmp_path: Path) -> None:
    file = tmp_path / "fox.py"
    file.write_text(METHOD.format(line="Foxes.", cls="Fox"))
    # the zoo's two kinds share one base, so the file counts for each of them
    expected = [("animal", "fox"), ("ghost", "fox"), ("plant", "fox")]
    assert load_plugin(file) == expected
    assert load_plugin(str(file)) == expected
    assert describe("animal") == {"cat": "Cats purr.", "fox": "Foxes."}
    assert load("animal", "fox")().speak() == "Fox"
    assert plugins() == (file,)


def test_a_plugin_may_not_replace_an_entry(zoo: Path, tmp_path: Path) -> None:
    file = tmp_path / "cat.py"
    file.write_text(METHOD.format(line="", cls="Other"))
    with pytest.raises(
        SpecError, match=r"'cat' is defined twice, by zoo.animals.cat and plugin cat"
    ):
        load_plugin(file)
    assert plugins() == ()
    assert load("animal", "cat").__name__ == "Cat"


def test_a_plugin_that_cannot_serve_is_explained(zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="not a Python file"):
        load_plugin(tmp_path / "missing.py")
    (tmp_path / "idle.py").write_text("x = 1")
    for _ in range(2):  # a failed plugin can be mended and loaded again
        with pytest.raises(SpecError, match="no concrete subclass of any of Animal"):
            load_plugin(tmp_path / "idle.py")
    (tmp_path / "crash.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        load_plugin(tmp_path / "crash.py")
    assert "sslbench_plugin_crash" not in sys.modules


def test_other_distributions_join_by_entry_points(zoo: Path, tmp_path: Path) -> None:
    info = tmp_path / "farm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: farm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sslbench.animals]\ncow = farm:Cow\npig = farm\nrock = farm:rock\n"
    )
    (tmp_path / "farm.py").write_text(METHOD.format(line="", cls="Cow") + "rock = 1\n")
    importlib.invalidate_caches()
    assert names("animal") == ["cat", "cow", "pig", "rock"]
    assert describe("animal")["cow"] == "(from farm)"
    assert "farm" not in sys.modules
    try:
        assert load("animal", "cow") is load("animal", "pig")
        with pytest.raises(SpecError, match="farm announces farm:rock as a animal"):
            load("animal", "rock")
    finally:
        sys.modules.pop("farm", None)


def test_attribute_reaches_a_sibling_by_name(zoo: Path) -> None:
    assert attribute("zoo.base:Animal").__name__ == "Animal"
    with pytest.raises(SpecError, match=r"zoo.missing is not part of this installation"):
        attribute("zoo.missing:x")
    with pytest.raises(SpecError, match="no 'Animl'; did you mean 'Animal'"):
        attribute("zoo.base:Animl")
    add(zoo, "needy.py", "import no_such_package_at_all")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        attribute("zoo.needy:x")


# The real registry


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_there_has_a_description(kind: str) -> None:
    for name, line in describe(kind).items():
        assert line, f"{kind} {name} needs a docstring that says what it is"


def test_listing_imports_nothing_heavy_and_answers_at_once() -> None:
    code = (
        "import sys, bench.registry as r\n"
        "for kind in r.KINDS: r.describe(kind)\n"
        "print([m for m in sys.modules if m.split('.')[0] in {'torch', 'numpy', 'timm', 'scipy'}])"
    )
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - start)
        assert done.stdout.strip() == "[]"
    assert min(seconds) < 0.5


def test_importing_the_ground_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import bench.errors, bench.spec, bench.registry, bench.progress, bench.provenance\n"
        "assert 'numpy' not in sys.modules\n"
        "import bench.records, bench.store, bench.stats\n"
        "heavy = {'torch', 'timm', 'pandas', 'scipy', 'rich', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

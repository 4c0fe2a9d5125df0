"""The wheel holds what the source tree holds, and works from another folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bench", "trainers", "tasks", "leaderboards")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD_INPUTS = ("pyproject.toml", "README.md", "LICENSE")


def shipped_files() -> set[str]:
    """Every file of the four packages that an installed copy needs, relative to the root."""
    found = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file())
    return {
        path.relative_to(ROOT).as_posix()
        for path in found
        if "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def run(command: list[str | Path], folder: Path, **env: str) -> str:
    """The command's standard output; fails the test with both streams when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built through the source distribution from a copy of the tree.

    A copy, because setuptools leaves build/ behind, and a stale build/ puts files that were
    removed from the tree into the next wheel.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILD_INPUTS:
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source]
    run(build, folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment that holds the wheel and sees our dependencies.

    The dependencies come through a path in a .pth file. Python appends such a folder to
    sys.path but does not read the .pth files in it, so an editable install of this project
    that lives there stays out of reach.
    """
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "--python", scripts / "python", *install, wheel], home)
    return scripts


def test_package_list_names_every_folder_that_is_a_package() -> None:
    folders = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for name in PACKAGES
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders, (
        "edit [tool.setuptools] packages in pyproject.toml"
    )


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {(ROOT / name).parent for name in shipped_files() if name.endswith(".py")}
    bare = sorted(str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").is_file())
    assert not bare, f"add an empty __init__.py to {bare}"


@pytest.mark.xdist_group("wheel")
def test_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if ".dist-info/" not in name}
    differing = sorted(inside ^ shipped_files())
    assert not differing, f"edit [tool.setuptools.package-data] in pyproject.toml: {differing}"


@pytest.mark.xdist_group("wheel")
def test_wheel_carries_the_licence_and_the_readme(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (licence,) = (n for n in archive.namelist() if n.endswith(".dist-info/licenses/LICENSE"))
    (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    text = archive.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert (ROOT / "README.md").read_text().strip() in text


@pytest.mark.xdist_group("wheel")
def test_installed_packages_do_not_come_from_the_source_tree(
    installed: Path, tmp_path: Path
) -> None:
    names = ", ".join(PACKAGES)
    code = f"import json, {names}; print(json.dumps([m.__file__ for m in ({names})]))"
    files = json.loads(run([installed / "python", "-c", code], tmp_path))
    assert len(files) == len(PACKAGES)
    strangers = [file for file in files if not Path(file).is_relative_to(installed.parent)]
    assert not strangers, f"not the installed copy: {strangers}"


@pytest.mark.xdist_group("wheel")
@pytest.mark.parametrize(
    ("group", "kind"),
    [("methods", "method"), ("tasks", "task"), ("datasets", "dataset"), ("families", "family")],
)
def test_installed_command_lists_what_the_source_tree_holds(
    installed: Path, tmp_path: Path, group: str, kind: str
) -> None:
    from bench import registry

    expected = registry.names(kind)
    assert expected, f"the source tree holds no {kind}"
    listed = run([installed / "sslbench", "ls", group], tmp_path, COLUMNS="200", NO_COLOR="1")
    missing = [name for name in expected if not re.search(rf"\b{re.escape(name)}\b", listed)]
    assert not missing, f"sslbench ls {group} does not list {missing}:\n{listed}"


def pins() -> dict[str, str]:
    """constraints.txt as {canonical name: version}; fails on a line of any other form."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        text = line.split("#")[0].strip()
        if text:
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.+!]*)", text)
            assert match, f"constraints.txt: expected NAME==VERSION and nothing else, found {line}"
            found[canonicalize_name(match[1])] = match[2]
    return found


def test_constraints_name_versions_and_no_place_to_get_them() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert pins()
    assert not re.findall(r"://|--\w+|\s@\s|sha256|file:|/\w+/", text)


def test_constraints_leave_what_torch_pins_to_torch() -> None:
    assert not [n for n in pins() if n.startswith(("nvidia-", "cuda-")) or n == "triton"]


def test_constraints_pin_every_direct_requirement_to_an_allowed_version() -> None:
    project, pinned = PROJECT["project"], pins()
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wrong = []
    for text in (text for group in groups for text in group):
        need = Requirement(text)
        name = canonicalize_name(need.name)
        if name in ("sslbench", "faiss-gpu-cu12"):  # ourselves; needs a GPU that CI lacks
            continue
        if name not in pinned or not need.specifier.contains(pinned[name]):
            wrong.append(f"{text} (pinned: {pinned.get(name)})")
    assert not wrong, f"add the tested version to constraints.txt, or mend the range: {wrong}"

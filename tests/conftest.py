"""What many tests share: a small mini benchmark, simulators that run here, and silence."""

import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import gl
from bench.data.mini.write import write_mini
from bench.errors import DataError


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the mini benchmark at a twentieth of its size."""
    root = tmp_path_factory.mktemp("mini")
    write_mini(root, "small", seed=0, images=300)
    return root


@pytest.fixture(scope="module")
def simulation() -> Iterator[str]:
    """The back-end of MuJoCo, which reads it when it is imported; `disabled` where none draws."""
    for package in ("mujoco", "metaworld", "gymnasium_robotics"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install 'sslbench[robot]'")
    try:
        backend = gl.backend()
    except DataError:
        backend = "disabled"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(gl.VARIABLE, backend)
        yield backend


@pytest.fixture(scope="module")
def drawing(simulation: str) -> str:
    """The back-end that draws, in this process and in those of the tests."""
    if simulation == "disabled":
        pytest.skip("no OpenGL back-end draws here: see sslbench doctor")
    return simulation


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress lines in test output."""
    monkeypatch.setenv("SSLBENCH_PROGRESS", "none")


def pytest_configure() -> None:
    """Ctrl-C reaches tests also where a shell started them in the background and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole commands come first: at the end, one process would wait for the other's last."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")

"""Data that many tests share: a small mini benchmark, written once a test process."""

from pathlib import Path

import pytest

from bench.data.mini.write import write_mini


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the mini benchmark at a twentieth of its size."""
    root = tmp_path_factory.mktemp("mini")
    write_mini(root, "small", seed=0, images=300)
    return root


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress lines in test output."""
    monkeypatch.setenv("SSLBENCH_PROGRESS", "none")

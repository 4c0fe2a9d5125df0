"""Tests of the demo's parts; the whole of it is what `make demo` runs."""

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

from bench import demo, gl


def test_the_curve_takes_as_many_steps_on_each_subset() -> None:
    specs = demo.training_runs()
    assert len(specs) == len(demo.METHODS) + len(demo.CURVE_SIZES)
    steps = set()
    for name, spec in specs.items():
        if name.startswith(demo.CURVE):
            images = int(name.rpartition("-")[2]) if "-" in name else 6000
            epochs = float(spec.partition("&epochs=")[2].partition("&")[0])
            steps.add(round(epochs * (images // demo.BATCH)))
    assert len(steps) == 1


def test_robots_are_left_out_where_nothing_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("metaworld") is None:  # to import it would settle how MuJoCo draws
        pytest.skip("needs the extra robot")
    monkeypatch.setenv(gl.VARIABLE, "nothing")
    told = demo.robots(tmp_path, tmp_path / "run")
    assert told.startswith("left out: no OpenGL back-end draws an image (nothing: ")
    assert told.endswith("set MUJOCO_GL to egl or osmesa")
    assert not list(tmp_path.iterdir())


def test_robots_are_left_out_where_they_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    told = demo.robots(tmp_path, tmp_path / "run")
    assert told.startswith("left out: ")
    assert told.endswith("pip install 'sslbench[robot]'")

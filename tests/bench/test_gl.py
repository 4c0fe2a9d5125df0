"""OpenGL back-ends: which one draws, why one does not, and what is to be done about it."""

import os
import re
import sys

import pytest

from bench import doctor, gl
from bench.errors import DataError


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The back-ends that draw; a test says which."""
    working: set[str] = set()
    monkeypatch.setattr(gl, "_settled", set())
    monkeypatch.delenv(gl.VARIABLE, raising=False)
    monkeypatch.setattr(gl, "failure", lambda name: "" if name in working else f"no lib{name}.so")
    return working


@pytest.mark.parametrize(
    ("variable", "expected"),
    [(None, ("egl", "osmesa")), ("", ("egl", "osmesa")), ("osmesa", ("osmesa",)), ("x", ("x",))],
)
def test_the_back_end_that_is_named_is_the_only_one_to_try(
    variable: str | None, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gl, "_settled", set())
    monkeypatch.delenv(gl.VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(gl.VARIABLE, variable)
    assert gl.candidates() == expected


def test_what_was_chosen_here_leaves_the_others_to_be_tried(
    draws: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws |= {"egl", "osmesa"}
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.setenv(gl.VARIABLE, "")
    gl.choose()
    assert os.environ[gl.VARIABLE] == "egl"
    assert gl.candidates() == ("egl", "osmesa")
    gl.settle("osmesa")
    assert os.environ[gl.VARIABLE] == "egl"


@pytest.mark.parametrize(
    ("working", "expected"),
    [({"egl", "osmesa"}, "egl"), ({"osmesa"}, "osmesa"), ({"egl"}, "egl")],
)
def test_the_first_that_draws_is_taken(working: set[str], expected: str, draws: set[str]) -> None:
    draws |= working
    assert gl.backend() == expected


def test_where_none_draws_each_is_told_with_what_mends_it(draws: set[str]) -> None:
    with pytest.raises(DataError) as caught:
        gl.backend()
    assert str(caught.value) == (
        "no OpenGL back-end draws an image (egl: no libegl.so; osmesa: no libosmesa.so): "
        "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri or apt-get install libosmesa6"
    )


def test_a_named_back_end_is_not_replaced_by_one_that_draws(
    draws: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws.add("egl")
    monkeypatch.setenv(gl.VARIABLE, "glfw")
    with pytest.raises(DataError, match=r"\(glfw: no libglfw.so\): set MUJOCO_GL to egl or osmesa"):
        gl.backend()


@pytest.mark.usefixtures("simulation")
@pytest.mark.parametrize("named", ["egl", "glfw"])
def test_the_doctor_says_the_same(
    named: str, draws: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gl.VARIABLE, named)
    (check,) = [check for check in doctor._rendering() if check.name != "mujoco"]
    assert (check.name, check.status, check.found) == (named, "broken", f"no lib{named}.so")
    with pytest.raises(DataError, match=re.escape(check.mend)):
        gl.backend()
    assert check.mend
    draws.add(named)
    (check,) = [check for check in doctor._rendering() if check.name != "mujoco"]
    assert (check.name, check.status, check.mend) == (named, "ok", "")


# ---------------------------------------------------------------- real drivers


@pytest.mark.usefixtures("simulation")
def test_a_back_end_that_does_not_exist_is_told_by_mujoco() -> None:
    assert gl.failure("nonsense").endswith("MUJOCO_GL: nonsense")


@pytest.mark.usefixtures("simulation")
def test_the_reason_is_the_drivers_and_not_that_of_what_cleans_up_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if reason := gl.failure("egl"):
        pytest.skip(reason)
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "4096")
    told = gl.failure.__wrapped__("egl")
    assert "MUJOCO_EGL_DEVICE_ID" in told
    assert "4096" in told

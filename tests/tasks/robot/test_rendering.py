"""The renderer: drivers that fail are told in one line, and pictures that change are noticed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from bench import gl
from tasks.robot.simulators.rendering import OTHER_LEVELS, difference

MADE = """
import sys
from bench import gl
from bench.errors import DataError
from tasks.robot.simulators.rendering import FrameRenderer

def made():
    gl.choose()
    mujoco = gl.mujoco()
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/></worldbody></mujoco>")
    renderer = FrameRenderer(model, 32, "fast")
    return renderer, renderer.frame(mujoco.MjData(model), -1)
"""
NO_WINDOWS = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
REFUSED = (
    MADE
    + """
try:
    made()
except DataError as error:
    print(error)
"""
)


def spoken(code: str, **environment: str) -> str:
    """What a fresh interpreter prints; nobody hears anything on stderr, as long as it lives."""
    variables = {**os.environ, **environment}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


# ---------------------------------------------------------------- drivers


@pytest.mark.parametrize(
    ("environment", "why", "mend"),
    [
        ({gl.VARIABLE: "elg"}, "elg: RuntimeError: ", "set MUJOCO_GL to egl or osmesa"),
        ({gl.VARIABLE: "egl", "PYOPENGL_PLATFORM": "glx"}, "egl: ImportError: ", "libegl1"),
        ({gl.VARIABLE: "egl", "MUJOCO_EGL_DEVICE_ID": "99"}, "egl: ", "libegl1"),
        ({gl.VARIABLE: "disabled"}, "disabled: ", "set MUJOCO_GL to egl or osmesa"),
        (NO_WINDOWS | {gl.VARIABLE: "glfw"}, "glfw: ", "set MUJOCO_GL to egl or osmesa"),
    ],
)
def test_a_back_end_that_does_not_load_or_draw_is_told_in_one_line_with_its_mend(
    environment: dict[str, str], why: str, mend: str, simulation: str
) -> None:
    told = spoken(REFUSED, **environment)
    assert told.startswith(f"no OpenGL back-end draws an image ({why}")
    assert mend in told
    assert told.count("\n") == 1


def test_a_simulator_says_the_same_of_a_back_end_that_does_not_load(simulation: str) -> None:
    code = """
from bench.errors import DataError
from tasks.robot.simulators.simulator import rules_of, simulate
for suite, task in (("franka_kitchen", "light_on"), ("metaworld", "hammer")):
    try:
        simulate(rules_of(suite, task))
    except DataError as error:
        print(error)
"""
    told = spoken(code, **{gl.VARIABLE: "elg"}).splitlines()
    assert len(told) == 2
    assert all(line.startswith("no OpenGL back-end draws an image (elg: ") for line in told)


def test_a_renderer_that_nobody_closed_is_closed_before_the_driver_ends(drawing: str) -> None:
    code = MADE + "renderer, frame = made(); print(frame.shape, frame.dtype)"
    assert spoken(code, **{gl.VARIABLE: ""}) == "(32, 32, 3) uint8\n"  # and a back-end was chosen


def test_a_driver_that_is_gone_is_not_heard_of_when_a_renderer_is_closed(drawing: str) -> None:
    if drawing != "egl":
        pytest.skip("ends the driver of EGL")
    code = """
renderer, _ = made()
import mujoco.egl
mujoco.egl.EGL.eglTerminate(mujoco.egl.EGL_DISPLAY)
renderer.close()
renderer.close()
print("closed", sys.unraisablehook is sys.__unraisablehook__)
"""
    assert spoken(MADE + code) == "closed True\n"


# ---------------------------------------------------------------- pictures


def test_a_picture_that_changed_is_told_by_how_much() -> None:
    frame = np.full((32, 32, 3), 100, np.uint8)
    assert difference(frame, frame.copy()).same
    rounded = frame.copy()
    rounded[:8, :, 1] += 3  # a quarter of the pixels, in one of three channels
    found = difference(frame, rounded)
    assert not found.same
    assert not found.other
    assert found.text == (
        "this machine draws a little otherwise (0.25 grey levels on average, 25 % of the pixels)"
    )
    dark = frame - np.uint8(OTHER_LEVELS + 1)
    assert difference(frame, dark).other
    assert difference(dark, frame) == difference(frame, dark), "no byte may wrap around"
    assert difference(frame, dark).text == (
        "this machine shows another picture (5.00 grey levels on average, 100 % of the pixels)"
    )
    assert difference(frame, frame[:16, :16]).other

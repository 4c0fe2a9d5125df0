"""Whether MuJoCo can draw on this machine, and with which OpenGL back-end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType

from bench.errors import DataError, MissingPackage, require

VARIABLE = "MUJOCO_GL"
BACKENDS = ("egl", "osmesa")
#: What each back-end needs of the system, on Debian and Ubuntu.
PACKAGES = {
    "egl": "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri",
    "osmesa": "apt-get install libosmesa6",
}
_SECONDS = 120
#: What this process chose by itself; whoever starts it has then named none.
_settled: set[str] = set()
# A failure ends without destructors, which would complain last, of what was never made.
_RENDER = """
import os, sys
try:
    import mujoco
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    renderer = mujoco.Renderer(model, 16, 16)
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
    renderer.close()
except Exception as error:
    print(" ".join(f"{type(error).__name__}: {error}".split()), file=sys.stderr, flush=True)
    os._exit(1)
"""


@cache
def failure(backend: str) -> str:
    """Why a back-end draws no image, in a line; "" when it does.

    It is tried in a process of its own: drivers crash, and hang.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RENDER],
            env={**os.environ, VARIABLE: backend},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no image after {_SECONDS} s"
    if done.returncode == 0:
        return ""
    return done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"


def candidates() -> tuple[str, ...]:
    """The back-ends to try: the one that `MUJOCO_GL` names, or all."""
    chosen = os.environ.get(VARIABLE)
    return (chosen,) if chosen and chosen not in _settled else BACKENDS


def backend() -> str:
    """The first back-end that draws: EGL, which uses a GPU where there is one, else OSMesa.

    Raises:
        DataError: none does; says why not, and what mends it.
    """
    failures = {}
    for name in candidates():
        failures[name] = failure(name)
        if not failures[name]:
            return name
    raise no_image(failures)


def choose() -> None:
    """Has MuJoCo draw here with `backend()`, where `MUJOCO_GL` does not say with what.

    It reads the variable when it is imported: later, this changes nothing.
    """
    if "mujoco" not in sys.modules and not os.environ.get(VARIABLE):
        settle(backend())


def settle(name: str) -> None:
    """The same with the back-end that the caller has found, or with `disabled`."""
    if "mujoco" not in sys.modules and not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = name
        _settled.add(name)


def mujoco() -> ModuleType:
    """MuJoCo, imported: with it comes the OpenGL library that `MUJOCO_GL` names.

    Raises:
        MissingPackage: it is not installed.
        DataError: that library does not load; says what mends it.
    """
    reason: Exception
    try:
        return require("mujoco", extra="robot")
    except MissingPackage as error:
        if not isinstance(error.__cause__, ImportError) or error.__cause__.name is not None:
            raise  # a module that is missing or broken; those about OpenGL name none
        reason = error.__cause__
    except Exception as error:  # of whichever kind the binding of the back-end raises
        reason = error
    raise cannot_draw(reason) from reason


def cannot_draw(error: Exception) -> DataError:
    """The advice for an error of the back-end that MuJoCo has in this process."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return no_image({os.environ.get(VARIABLE) or "glfw": reason})


def no_image(failures: Mapping[str, str]) -> DataError:
    """Back-ends and why none of them draws, as an error that names what mends it."""
    why = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    mends = " or ".join(mend(name) for name in failures)
    return DataError(f"no OpenGL back-end draws an image ({why}): {mends}")


def mend(backend: str) -> str:
    """What to do about a back-end that does not draw."""
    return PACKAGES.get(backend, f"set {VARIABLE} to {' or '.join(BACKENDS)}")

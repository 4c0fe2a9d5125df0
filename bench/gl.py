"""Whether MuJoCo can draw on this machine, and with which OpenGL back-end."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

from bench.errors import DataError

VARIABLE = "MUJOCO_GL"
BACKENDS = ("egl", "osmesa")
#: What each back-end needs of the system, on Debian and Ubuntu.
PACKAGES = {
    "egl": "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri",
    "osmesa": "apt-get install libosmesa6",
}
_SECONDS = 120
_RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(mujoco.MjData(model))
renderer.render()
renderer.close()
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
    return (chosen,) if chosen else BACKENDS


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
    why = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
    mends = [PACKAGES[name] for name in failures if name in PACKAGES]
    mend = " or ".join(mends) if mends else f"unset {VARIABLE}, or set it to egl or osmesa"
    raise DataError(f"no OpenGL back-end draws an image ({why}): {mend}")

"""Frames of a MuJoCo simulation: our own renderer, several times faster than gymnasium's."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import gl
from tasks.robot.simulators.rules import Profile
from tasks.robot.simulators.simulator import Frame

#: Mean grey levels beyond which it is no longer the same picture.
OTHER_LEVELS = 4.0


class FrameRenderer:
    """Square frames of one model.

    `fast` draws no shadows, reflections or antialiasing: the shadow map alone is most of the time
    where no GPU draws. The two profiles give other pixels, so results of one are never those of
    the other.

    Raises:
        DataError: OpenGL does not draw here; says what mends it.
    """

    def __init__(self, model: Any, side_px: int, profile: Profile) -> None:
        mujoco = gl.mujoco()
        visual = model.vis
        visual.global_.offwidth = visual.global_.offheight = side_px
        if profile == "fast":
            visual.quality.offsamples = 0  # before the renderer is built
        self._renderer = _built(mujoco, model, side_px)
        atexit.register(self.close)  # later than what ends the driver, so that it is done before
        off = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)
        self._off = off if profile == "fast" else ()

    def frame(self, data: Any, camera: Any) -> Frame:
        """What a camera (a name or an `MjvCamera`) sees, a copy."""
        self._renderer.update_scene(data, camera=camera)
        for flag in self._off:
            self._renderer.scene.flags[flag] = 0
        return np.array(self._renderer.render())

    def close(self) -> None:
        """Frees the GL context; may be called twice, and is when the process ends."""
        atexit.unregister(self.close)
        with _unheard():
            with suppress(Exception):  # of a driver that is gone
                self._renderer.close()
            self._renderer = None


def _built(mujoco: Any, model: Any, side_px: int) -> Any:
    # Objects that could not be built would complain, when they are freed, of what they never had.
    mujoco.Renderer._gl_context = mujoco.Renderer._mjr_context = None
    with suppress(AttributeError):  # no back-end, no context
        mujoco.gl_context.GLContext._context = None
    try:
        return mujoco.Renderer(model, side_px, side_px)
    except Exception as error:  # of whichever kind the back-end raises
        raise gl.cannot_draw(error) from error


@contextmanager
def _unheard() -> Iterator[None]:
    """Within, nobody hears from objects that cannot be freed."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook


@dataclass(frozen=True)
class Difference:
    """How two pictures of one state differ.

    Attributes:
        levels: mean absolute difference, in grey levels of 255.
        share: of the pixels that differ at all.
    """

    levels: float
    share: float

    @property
    def same(self) -> bool:
        """Whether they are equal to the bit."""
        return self.share == 0

    @property
    def other(self) -> bool:
        """Whether it is another picture, and not only another driver's rounding."""
        return self.levels > OTHER_LEVELS

    @property
    def text(self) -> str:
        """In words."""
        what = "shows another picture" if self.other else "draws a little otherwise"
        return (
            f"this machine {what} ({self.levels:.2f} grey levels on average, "
            f"{100 * self.share:.0f} % of the pixels)"
        )


def difference(before: Frame, now: Frame) -> Difference:
    """How a frame differs from one of the same state that was drawn earlier, or elsewhere."""
    if before.shape != now.shape:
        return Difference(255.0, 1.0)
    gap = np.abs(before.astype(np.int16) - now.astype(np.int16))
    return Difference(float(gap.mean()), float((gap > 0).any(axis=-1).mean()))

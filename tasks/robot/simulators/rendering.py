"""Frames of a MuJoCo simulation: our own renderer, several times faster than gymnasium's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.robot.simulators.rules import Profile
from tasks.robot.simulators.simulator import Frame


class FrameRenderer:
    """Square frames of one model; `close` it before the process ends.

    `fast` draws no shadows, reflections or antialiasing: the shadow map alone is most of the time
    where no GPU draws. The two profiles give other pixels, so results of one are never those of
    the other.
    """

    def __init__(self, model: Any, side_px: int, profile: Profile) -> None:
        import mujoco

        visual = model.vis
        visual.global_.offwidth = visual.global_.offheight = side_px
        if profile == "fast":
            visual.quality.offsamples = 0  # before the renderer is built
        self._renderer = mujoco.Renderer(model, side_px, side_px)
        off = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION)
        self._off = off if profile == "fast" else ()

    def frame(self, data: Any, camera: Any) -> Frame:
        """What a camera (a name or an `MjvCamera`) sees, a copy."""
        self._renderer.update_scene(data, camera=camera)
        for flag in self._off:
            self._renderer.scene.flags[flag] = 0
        return np.array(self._renderer.render())

    def close(self) -> None:
        """Frees the GL context; may be called twice."""
        self._renderer.close()

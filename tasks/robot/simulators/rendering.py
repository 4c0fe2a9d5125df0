"""Frames of a MuJoCo simulation: our own renderer, several times faster than gymnasium's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.robot.simulators.rules import Profile
from tasks.robot.simulators.simulator import Frame

#: Mean grey levels beyond which it is no longer the same picture.
OTHER_LEVELS = 4.0


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

"""The rules of one robot task: everything that changes an episode or a pixel of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.errors import SpecError

Profile = Literal["fast", "full"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """One task of a suite, as it is simulated, seen and judged.

    Attributes:
        suite: `franka_kitchen` or `metaworld`.
        name: of the task, such as `light_on` or `drawer-close`.
        camera: that the frames are taken with.
        upright: whether frames are flipped so that up is up (Meta-World's old cameras are not).
        horizon: steps of the simulator in an episode.
        repeat: steps of the simulator that an action is held for; together they are a decision.
        needed: solved decisions that make an episode a success.
        stay: solved decisions after which a demonstration ends, or `needed` where that is more; 0
            runs to the horizon.
        reset_noise: width of the uniform noise on the arm's pose at reset, as a share of each
            joint's range.
        frame_px: side of a frame.
        profile: `fast` draws without shadows, reflections and antialiasing, `full` with all.
    """

    suite: str
    name: str
    camera: str
    horizon: int
    needed: int
    upright: bool = False
    repeat: int = 1
    stay: int = 0
    reset_noise: float = 0.0
    frame_px: int = 224
    profile: Profile = "fast"

    def __post_init__(self) -> None:
        wrong = [
            (self.horizon < 1, f"horizon={self.horizon}: expected at least 1"),
            (self.repeat < 1, f"repeat={self.repeat}: expected at least 1"),
            (
                not 1 <= self.needed <= self.decisions,
                f"needed={self.needed} solved decisions of the {self.decisions} that an episode "
                "has: expected at least 1 and at most all",
            ),
            (self.frame_px < 16, f"frame_px={self.frame_px}: expected at least 16"),
            (self.reset_noise < 0, f"reset_noise={self.reset_noise:g}: expected 0 or more"),
        ]
        for is_wrong, why in wrong:
            if is_wrong:
                raise SpecError(f"{self.suite} {self.name}: {why}")

    @property
    def decisions(self) -> int:
        """Actions of an episode; the last one is held shorter where `repeat` does not divide."""
        return -(-self.horizon // max(self.repeat, 1))

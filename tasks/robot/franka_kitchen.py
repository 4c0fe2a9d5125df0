"""Behaviour cloning on Franka-Kitchen's five tasks with a frozen encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tasks.robot.cloning.task import CloningTask


@dataclass(frozen=True, kw_only=True)
class FrankaKitchen(CloningTask):
    """The five tasks of R3M and of Hu et al. (ICML 2023), trained as SlotMIM does (its A.1.2).

    Each task turns, pushes or pulls one thing, seen by one camera from behind the left or the right
    shoulder. An episode is solved at a step when that joint is within 15 % of its range from its
    goal and no other has moved by as much; more than five solved steps are a success. Arm joints
    start at random, the kitchen does not. The simulator is gymnasium-robotics' FrankaKitchen-v1,
    which moves three times slower than the literature's: episodes are 60 to 120 steps.

    Attributes:
        reset_noise: width of the uniform noise on each of the robot's joints at the start, as a
            share of its range.
    """

    suite: ClassVar[str] = "franka_kitchen"
    mini: ClassVar[str] = "franka_kitchen[demos=1,rollouts=2,tasks=light_on]"
    mini_options: ClassVar[str] = "steps=20&batch=16&policies=1&horizon=40&frame_px=32"

    reset_noise: float = 0.05

    def known(self) -> tuple[str, ...]:
        """The five tasks."""
        from bench.data.franka_kitchen import TASKS

        return TASKS

    def own_rules(self) -> dict[str, Any]:
        """The noise of the arm's pose."""
        return {"reset_noise": self.reset_noise}

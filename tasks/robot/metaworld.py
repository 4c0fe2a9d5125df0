"""Behaviour cloning on eight tasks of Meta-World with a frozen encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tasks.robot.cloning.task import CloningTask


@dataclass(frozen=True, kw_only=True)
class MetaWorld(CloningTask):
    """The eight tasks of Hu et al. (ICML 2023) in Meta-World v3, trained as SlotMIM does (A.1.2).

    Every start has its own goal. An action is held for two steps; more than ten solved decisions
    are a success, one for lever-pull, whose expert does not stay at the goal.

    Attributes:
        goals: rollouts have goals that no demonstration can have (`held_out`), or the 50 of the
            demonstrations (`shared`, as in the literature).
    """

    suite: ClassVar[str] = "metaworld"
    mini: ClassVar[str] = "metaworld[demos=1,rollouts=2,tasks=button-press-topdown]"
    mini_options: ClassVar[str] = "steps=20&batch=16&policies=1&horizon=100&frame_px=32"

    goals: Literal["held_out", "shared"] = "held_out"

    def known(self) -> tuple[str, ...]:
        """The eight tasks."""
        from bench.data.metaworld import TASKS

        return TASKS

    def own_rules(self) -> dict[str, Any]:
        """Nothing: goals follow from the seeds."""
        return {}

    def start_seed(self, number: int) -> int:
        """Seeds of the demonstrations' goals are 0 to 49."""
        return number % 50 if self.goals == "shared" else super().start_seed(number)

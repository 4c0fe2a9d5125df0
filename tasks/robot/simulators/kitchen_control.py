"""How the kitchen's experts move: phases of a recipe, each with feedback, turned into velocities.

Where a phase ends is decided from where hand and object are, and by a count of steps only where
they get stuck: a policy that sees one frame must be able to tell the phases apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.robot.simulators.kitchen_arm import (
    JOINTS,
    Arm,
    Pose,
    Vector,
    rotated_towards,
)
from tasks.robot.simulators.simulator import Action

if TYPE_CHECKING:
    from tasks.robot.simulators.kitchen import Kitchen

OPEN, SHUT = 0.04, 0.0  # metres of a finger
_STEP_SECONDS = 0.08
_SCALE = 2.0 * _STEP_SECONDS  # radians of a step at action 1.0
#: Of the position servos: in a step a joint covers 1 - exp(-gain dt / damping) of what is commanded
#: and sags by gravity / gain, so that commands must reach further and higher than the goal.
_GAIN = np.array([870.0, 870, 870, 870, 120, 120, 120])
_DAMPING = np.array([100.0, 100, 100, 100, 10, 10, 10])
_LAG = 1.0 - np.exp(-_GAIN * _STEP_SECONDS / _DAMPING)
#: Radians of a step that every joint can follow.
_RATE = np.array([0.075] * 4 + [0.095] * 3)
_MOST_TURN = 0.25  # radians by which the hand's goal turns in a step
_MOST_SOLVED = 0.15  # radians by which the joints' goal moves in a step

Weights = tuple[float, float, float]
Goal = Callable[[], Pose]


@dataclass(frozen=True)
class Reach:
    """All joints go to one pose in step, and arrive together.

    Attributes:
        goal: of the hand; asked once.
        posture: (7,) joints near which the solution is looked for.
        near: largest joint error, in radians, at which the phase ends.
        blend: how far from the joints of the moment to `posture` the search begins.
        steps: after which it ends in any case.
        grip: of each finger, in metres.
        weights: of errors about the hand's axes.
    """

    goal: Goal
    posture: tuple[float, ...]
    near: float = 0.08
    blend: float = 1.0
    steps: int = 1000
    grip: float = SHUT
    weights: Weights = (0.3, 0.3, 0.1)


@dataclass(frozen=True)
class Follow:
    """The hand follows a goal through space, which may move with the object.

    Attributes:
        goal: of the hand; asked at every step.
        near: metres to the goal at which the phase ends; none never.
        when: also ends it.
        steps: after which it ends in any case.
        grip: of each finger, in metres.
        speed: metres of a step, given where the object is.
        lead: metres by which the reference may be ahead of the hand.
        weights: of errors about the hand's axes.
        together: joints are slowed alike, so that the path is straight; else each pushes with what
            it has.
    """

    goal: Goal
    near: float | None = 0.02
    when: Callable[[], bool] | None = None
    steps: int = 1000
    grip: float = SHUT
    speed: Callable[[], float] = lambda: 0.05
    lead: float = 0.10
    weights: Weights = (0.3, 0.3, 0.1)
    together: bool = True


class KitchenExpert:
    """The controller of one episode; `act` looks at the simulation and moves nothing."""

    def __init__(self, kitchen: Kitchen) -> None:
        from tasks.robot.simulators.kitchen_recipes import RECIPES

        self._kitchen, self._data = kitchen, kitchen.data
        self._arm = Arm(kitchen.model)
        self._arm.load(self._data.qpos)
        self._phases = RECIPES[kitchen.rules.name](kitchen)
        self._phase = self._steps = 0
        self._goal: Vector | None = None  # joints of a Reach
        self._held: Vector | None = None  # joints since the task is solved
        self._reference = self._data.qpos[:JOINTS].copy()
        self._hand: Pose = self._arm.pose(self._reference)

    def act(self) -> Action:
        """(9,) velocities now; once the task is solved, those that hold the arm where it is."""
        q = self._data.qpos[:JOINTS].copy()
        if self._kitchen.solved():
            self._held = q if self._held is None else self._held
            return self._action(self._held - q, self._phases[self._phase].grip, 0.9)
        self._held = None
        self._arm.load(self._data.qpos)
        at, _ = self._arm.pose(q)
        while self._phase < len(self._phases) - 1 and self._over(q, at):
            self._phase, self._steps, self._goal = self._phase + 1, 0, None
        phase = self._phases[self._phase]
        self._steps += 1
        if isinstance(phase, Reach):
            return self._action(self._reach(phase, q), phase.grip, 0.95)
        return self._action(self._follow(phase, q, at), phase.grip, 0.9)

    def _over(self, q: Vector, at: Vector) -> bool:
        """Whether the phase has ended."""
        phase = self._phases[self._phase]
        if self._steps >= phase.steps:
            return True
        if isinstance(phase, Reach):
            return self._goal is not None and bool(np.abs(self._goal - q).max() < phase.near)
        if phase.when is not None and phase.when():
            return True
        return phase.near is not None and bool(np.linalg.norm(phase.goal()[0] - at) < phase.near)

    def _reach(self, phase: Reach, q: Vector) -> Vector:
        if self._goal is None:
            begin = q + phase.blend * (np.asarray(phase.posture) - q)
            self._goal = self._arm.solve(begin, phase.goal(), phase.weights, iterations=100)
        change = _in_step(self._goal - q)
        self._reference = q + change
        self._hand = self._arm.pose(self._reference)
        return change

    def _follow(self, phase: Follow, q: Vector, at: Vector) -> Vector:
        position, frame = phase.goal()
        reference, turned = self._hand
        way = position - reference
        distance = max(float(np.linalg.norm(way)), 1e-9)
        reference = reference + way * min(1.0, phase.speed() / distance)
        gap = reference - at
        if (length := np.linalg.norm(gap)) > phase.lead:
            reference = at + gap * phase.lead / length
        self._hand = reference, rotated_towards(turned, frame, _MOST_TURN)
        self._reference = self._arm.solve(
            self._reference, self._hand, phase.weights, cap=_MOST_SOLVED
        )
        change = self._reference - q
        return _in_step(change) if phase.together else change

    def _action(self, change: Vector, grip: float, gain: float) -> Action:
        """Velocities that move the arm by `change` (7,) in a step, and the fingers to `grip`."""
        lift = self._arm.gravity(self._data.qpos) / _GAIN
        arm = (gain * change / _LAG + lift) / _SCALE
        fingers = (grip - self._data.qpos[JOINTS : JOINTS + 2]) / _SCALE
        action: Action = np.clip(np.concatenate([arm, fingers]), -1.0, 1.0)
        return action


def _in_step(change: Vector) -> Vector:
    """(7,) the change, made smaller until the slowest joint can follow."""
    slowest = max(float(np.max(np.abs(change) / _RATE)), 1e-9)
    return change * min(1.0, 1.0 / slowest)

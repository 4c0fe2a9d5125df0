"""How the kitchen's five tasks are done: way-points relative to handles, hinges and their angles.

All lengths are metres, all angles radians; x is to the right of who stands before the kitchen, y
into it, z up. Doors turn by negative angles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tasks.robot.simulators.kitchen_arm import Pose, Vector, ahead, finger_axis, hand, turned
from tasks.robot.simulators.kitchen_control import OPEN, Follow, Goal, Reach

if TYPE_CHECKING:
    from tasks.robot.simulators.kitchen import Kitchen

Recipe = Callable[["Kitchen"], Sequence[Reach | Follow]]


def _site(kitchen: Kitchen, name: str) -> Vector:
    return np.array(kitchen.data.site_xpos[kitchen.model.site(name).id])


def _hinge(kitchen: Kitchen, joint: str) -> Vector:
    """(2,) where the vertical axis of a door stands."""
    return np.array(kitchen.data.xanchor[kitchen.model.joint(joint).id][:2])


def slide_door(kitchen: Kitchen) -> Sequence[Reach | Follow]:
    """Closed fingers left of the vertical bar push it to the right."""
    bar = _site(kitchen, "slide_site") - [0, 0, 0.067]

    def beside(x: float, y: float, yaw: float = 0.0) -> Goal:
        return lambda: (bar + [x, y, 0], hand(yaw))

    posture = (-0.70, -0.34, 0.71, -1.85, -1.14, 1.59, 1.35)
    return [
        Reach(beside(-0.075, 0.015), posture, near=0.12),
        Follow(beside(-0.065, 0.02), near=0.03, steps=6),
        Follow(beside(0.45, 0.02, -0.2), near=None, speed=lambda: 0.06, lead=0.12),
    ]


def light(kitchen: Kitchen) -> Sequence[Reach | Follow]:
    """Closed fingers come in slowly from the right of the lever and push it to the left."""
    lever = _site(kitchen, "light_site")

    def beside(x: float, y: float) -> Goal:
        return lambda: (lever + [x, y, 0], hand())

    posture = (-1.02, -1.24, 1.29, -2.44, -0.21, 1.92, 1.35)
    return [
        Reach(beside(0.08, -0.07), posture, near=0.06),
        Follow(beside(0.052, -0.008), near=0.012, steps=8, speed=lambda: 0.03, lead=0.05),
        Follow(beside(-0.11, -0.005), near=None),
    ]


def knob(kitchen: Kitchen) -> Sequence[Reach | Follow]:
    """Closed fingers push the upper half of the knob's bar along its arc.

    Past a quarter of a radian they press outwards too, else they slip to the hub; every joint
    pushes with all it has.
    """
    centre = np.array(kitchen.data.body("knob 1").xpos) - [0, 0.046, 0]

    def beside(x: float, y: float, z: float) -> Goal:
        return lambda: (centre + [x, y, z], hand())

    def push() -> Pose:
        angle = -kitchen.opening()
        outwards = np.array([np.sin(angle), 0, np.cos(angle)])
        along = np.array([np.cos(angle), 0, -np.sin(angle)])
        late = np.clip((angle - 0.25) / 0.5, 0, 1)
        reach = (0.036 + 0.049 * late) * outwards + (0.04 + 0.01 * late) * along
        return centre + reach, hand()

    return [
        Follow(beside(-0.045, -0.08, 0.03), near=0.03),
        Follow(beside(-0.042, 0, 0.03), near=0.012, steps=10),
        Follow(push, near=None, speed=lambda: 0.04, together=False),
    ]


def microwave(kitchen: Kitchen) -> Sequence[Reach | Follow]:
    """The gripper closes on the handle and leads it along its arc, turning with the door.

    It begins slowly: at 6 cm a step the grip slips before the door moves.
    """
    hinge = _hinge(kitchen, "microwave")
    handle = _site(kitchen, "microhandle_site")[:2] - hinge
    weights = (0.5, 0.2, 0.3)

    def at(angle: float) -> Vector:
        return np.append(hinge + turned(handle, angle), 1.86)

    def before() -> Pose:
        return at(0.0) - 0.09 * ahead(0.0), hand()

    def grasp() -> Pose:
        return at(0.0) + 0.01 * ahead(0.0), hand()

    def pull() -> Pose:
        angle = max(kitchen.opening() - 0.2, -1.12)
        yaw = float(np.interp(-angle, [0.0, 0.35, 0.7, 1.0], [0.0, 0.2, 0.5, 0.8]))
        return at(angle) + 0.01 * ahead(yaw), hand(yaw)

    def speed() -> float:
        return 0.04 if kitchen.opening() > -0.25 else 0.06

    posture = (-1.08, -1.62, 2.01, -1.46, -0.57, 0.85, 2.27)
    return [
        Reach(before, posture, near=0.12, grip=OPEN, weights=weights),
        Follow(grasp, steps=8, grip=OPEN, weights=weights, speed=lambda: 0.06),
        Follow(grasp, near=None, steps=3, weights=weights),
        Follow(pull, near=None, weights=weights, speed=speed, lead=0.12),
    ]


def left_door(kitchen: Kitchen) -> Sequence[Reach | Follow]:
    """One finger hooks the bar and draws; then the hand goes round the edge and pushes from inside.

    The gripper stays open: a finger against its stop is rigid, and there is no closing that one
    frame could not tell from opening.
    """
    hinge = _hinge(kitchen, "left_hinge_cabinet")
    bar = _site(kitchen, "hinge_site1")[:2] - hinge  # along the door, and in front of it
    drawing, inside = (0.15, 0.1, 0.1), (0.15, 0.1, 0.02)
    above, below = 2.525, 2.418  # of the lower bracket, and of the other door's handle
    pitch = 0.4

    def at(angle: float, along: float, front: float, height: float) -> Vector:
        return np.append(hinge + turned(np.array([along, -front]), angle), height)

    def hook(angle: float, yaw: float) -> Pose:
        middle = at(angle, bar[0], -bar[1], above)
        return middle + 0.008 * ahead(yaw, pitch) - 0.012 * finger_axis(yaw), hand(yaw, pitch)

    def before() -> Pose:
        position, frame = hook(0.0, 0.45)
        return position - 0.10 * ahead(0.45, pitch), frame

    def draw() -> Pose:
        angle = max(kitchen.opening() - 0.2, -0.5)
        return hook(angle, float(np.interp(-angle, [0.0, 0.5], [0.45, 0.7])))

    def retreat() -> Pose:
        middle = at(kitchen.opening(), bar[0], -bar[1], above)
        return middle - 0.085 * ahead(0.7, pitch), hand(0.7, pitch)

    def behind(along: float, front: float) -> Goal:
        return lambda: (at(kitchen.opening(), along, front, below), hand(0.5, 0.15))

    def push() -> Pose:
        angle = kitchen.opening()
        yaw = float(np.interp(-angle, [0.4, 1.1], [0.5, 0.6]))
        return at(max(angle - 0.35, -1.35), 0.355, -0.02, below), hand(yaw, 0.15)

    first = (-1.32, -1.18, 1.21, -1.38, -0.57, 1.70, 1.86)
    around = (-1.38, -0.95, 1.55, -1.66, -0.19, 2.08, 1.18)
    inner = (-1.90, -1.12, 1.76, -0.90, -0.13, 1.82, 1.20)
    return [
        Reach(before, first, near=0.06, grip=OPEN, weights=drawing),
        Follow(
            lambda: hook(0.0, 0.45),
            steps=12,
            grip=OPEN,
            weights=drawing,
            speed=lambda: 0.04,
            lead=0.08,
        ),
        Follow(
            draw,
            near=None,
            when=lambda: kitchen.opening() < -0.40,
            steps=30,
            grip=OPEN,
            weights=drawing,
            speed=lambda: 0.045,
        ),
        Reach(retreat, around, blend=0.3, near=0.15, steps=8, grip=OPEN, weights=inside),
        Reach(behind(0.44, 0.02), around, near=0.15, steps=14, weights=inside),
        # Nearer than elsewhere: with noise, some hands cut this corner and push the door shut.
        Reach(behind(0.44, -0.06), inner, near=0.1, steps=10, weights=inside),
        Reach(behind(0.355, -0.05), inner, near=0.2, steps=10, weights=inside),
        Follow(push, near=None, speed=lambda: 0.06, lead=0.15, weights=inside),
    ]


RECIPES: dict[str, Recipe] = {
    "knob1_on": knob,
    "light_on": light,
    "sdoor_open": slide_door,
    "ldoor_open": left_door,
    "micro_open": microwave,
}

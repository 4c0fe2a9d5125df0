"""The five tasks of Franka-Kitchen in R3M and Hu et al. (ICML 2023): goals, cameras, horizons."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.robot.simulators.rules import Rules


@dataclass(frozen=True)
class Goal:
    """When a task is solved: its joint is nearer to `value` than 15 % of the joint's range.

    Attributes:
        joint: of the kitchen's model.
        value: of the joint, in radians or metres.
    """

    joint: str
    value: float


@dataclass(frozen=True)
class View:
    """A camera that looks from a point at a body of the kitchen.

    Attributes:
        eye: in metres.
        target: name of the body.
    """

    eye: tuple[float, float, float]
    target: str


#: Share of a joint's range within which it counts as being at its goal, or where it was.
TOLERANCE = 0.15

#: Range of every joint that must stay where it was, but for the task's own.
RANGES = {
    **{f"knob_Joint_{number}": 1.57 for number in range(1, 5)},
    "light_switch": 0.7,
    "slide_cabinet": 0.44,
    "left_hinge_cabinet": 1.57,
    "right_hinge_cabinet": 1.57,
    "microwave": 2.094,
}

#: The same of the kettle, which is free here: ranges of the slides (metres) and hinges (radians)
#: along and about x, y and z that it has in mj_envs.
KETTLE = (3.0, 3.0, 3.0, 6.28, 6.28, 6.28)

GOALS = {
    "knob1_on": Goal("knob_Joint_1", -1.57),
    "light_on": Goal("light_switch", -0.7),
    "sdoor_open": Goal("slide_cabinet", 0.44),
    "ldoor_open": Goal("left_hinge_cabinet", -1.25),
    "micro_open": Goal("microwave", -1.25),
}

#: mj_envs' cameras, which gymnasium-robotics' model does not have.
VIEWS = {
    "left_cap2": View((-1.4, -1.0, 1.8), "knob 1"),
    "right_cap2": View((1.3, -0.7, 3.4), "microwave"),
}


def _rules(name: str, camera: str, horizon: int) -> Rules:
    """More than five solved steps are a success; a demonstration ends after eight."""
    return Rules(
        suite="franka_kitchen",
        name=name,
        camera=camera,
        horizon=horizon,
        needed=6,
        stay=8,
        reset_noise=0.05,
    )


#: Horizons are about 1.5 times what the slowest expert takes: the literature's 50 steps are of a
#: simulator that moves three times faster.
RULES = {
    rules.name: rules
    for rules in (
        _rules("knob1_on", "left_cap2", 60),
        _rules("light_on", "right_cap2", 60),
        _rules("sdoor_open", "right_cap2", 60),
        _rules("ldoor_open", "left_cap2", 120),
        _rules("micro_open", "left_cap2", 80),
    )
}

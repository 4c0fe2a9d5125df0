"""The eight Meta-World tasks of Hu et al. (ICML 2023): cameras, horizons, successes."""

from __future__ import annotations

from tasks.robot.simulators.rules import Rules

#: Of the tasks' models, as far as they look at the table.
CAMERAS = ("corner", "corner2", "corner3", "corner4", "topview", "behindGripper", "gripperPOV")


def _rules(name: str, camera: str = "corner", horizon: int = 125, needed: int = 11) -> Rules:
    """Actions are held for two steps; more than ten solved decisions are a success."""
    return Rules(
        suite="metaworld",
        name=name,
        camera=camera,
        upright=True,
        horizon=horizon,
        repeat=2,
        needed=needed,
    )


#: The expert of lever-pull does not stay at the goal: there a single solved decision is enough.
RULES = {
    rules.name: rules
    for rules in (
        _rules("hammer", camera="corner3"),
        _rules("drawer-close"),
        _rules("door-open", camera="corner3"),
        _rules("bin-picking", horizon=175),
        _rules("button-press-topdown"),
        _rules("window-close"),
        _rules("lever-pull", horizon=175, needed=1),
        _rules("coffee-pull"),
    )
}

"""Frames a second of the robots' renderer against gymnasium's own `render()`.

    python tests/speed/robot_rendering.py

One environment of each suite, the same state, in one process. Nothing is stepped between frames, so
that this is drawing alone: at the literature's 224 px, and gymnasium's also at the size that it has
by default. Medians of rounds that take turns. At least 10 times is expected of the kitchen and 5 of
Meta-World, where no GPU draws.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench import gl
from tasks.robot.simulators.simulator import rules_of, simulate

SIDE, ROUNDS, SECONDS = 224, 5, 2.0
WANTED = {"franka_kitchen": 10, "metaworld": 5}
TASKS = {"franka_kitchen": "light_on", "metaworld": "hammer"}


def rate(draw: Callable[[], Any]) -> float:
    """Frames a second over about two seconds, at least two frames."""
    began, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - began < SECONDS:
        draw()
        count += 1
    return count / (time.perf_counter() - began)


def gymnasiums(suite: str, side: int | None) -> Any:
    """The environment as its package makes it, with its own renderer; None is its own side."""
    size = {} if side is None else {"width": side, "height": side}
    if suite == "franka_kitchen":
        from gymnasium_robotics.envs.franka_kitchen import KitchenEnv

        return KitchenEnv(tasks_to_complete=["light switch"], render_mode="rgb_array", **size)
    import metaworld

    goals = metaworld.MT1(f"{TASKS[suite]}-v3", seed=0)
    env = goals.train_classes[f"{TASKS[suite]}-v3"](
        render_mode="rgb_array", camera_name="corner3", **size
    )
    env.set_task(goals.train_tasks[0])
    return env


def compare(suite: str) -> None:
    """Prints the rates of one suite, and the ratio to gymnasium's."""
    ways: dict[str, Callable[[], Any]] = {}
    for profile in ("fast", "full"):
        rules = replace(rules_of(suite, TASKS[suite]), frame_px=SIDE, profile=profile)
        simulator = simulate(rules)
        simulator.reset(0)
        ways[profile] = simulator.frame
    for label, side in ((f"gymnasium, {SIDE} px", SIDE), ("gymnasium, its own size", None)):
        env = gymnasiums(suite, side)
        env.reset(seed=0)
        ways[label] = env.render
    for draw in ways.values():
        draw()  # builds its renderer
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, draw in ways.items():  # in turns: a busy machine slows all
            found[name].append(rate(draw))
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    told = ", ".join(f"{name} {value:.1f}" for name, value in medians.items())
    ratio = medians["fast"] / medians[f"gymnasium, {SIDE} px"]
    print(f"{suite}: frames/s: {told}; fast {ratio:.1f}x (wanted {WANTED[suite]}x)")


def main() -> None:
    """Prints one line a suite."""
    gl.choose()
    print(f"{gl.backend()}, {SIDE} px")
    for suite in TASKS:
        compare(suite)


if __name__ == "__main__":
    main()

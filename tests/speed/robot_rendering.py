"""Frames a second of the robots' renderer against gymnasium's own `render()`.

    python tests/speed/robot_rendering.py

One environment of each suite, the start of an episode, in one process. Nothing is stepped between
frames, so that this is drawing alone: at the literature's 224 px, and gymnasium's also at the size
that it has by default. The cameras are the task's own, but for gymnasium's kitchen, which has one.
Medians of rounds that take turns; every way must still draw its first picture after them. At least
10 times is expected of the kitchen and 5 of Meta-World, where no GPU draws.
"""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from bench import gl
from bench.errors import require
from tasks.robot.simulators.rendering import difference
from tasks.robot.simulators.rules import Profile
from tasks.robot.simulators.simulator import Frame, rules_of, simulate

SIDE, ROUNDS, SECONDS = 224, 5, 2.0
PROFILES: tuple[Profile, Profile] = ("fast", "full")
PLAIN, LARGE = f"gymnasium at {SIDE} px", "gymnasium at its own size"
WANTED = {"franka_kitchen": 10, "metaworld": 5}
TASKS = {"franka_kitchen": "light_on", "metaworld": "hammer"}


def rate(draw: Callable[[], Frame]) -> float:
    """Frames a second over about two seconds, at least two frames."""
    began, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - began < SECONDS:
        draw()
        count += 1
    return count / (time.perf_counter() - began)


def gymnasiums(suite: str, side: int | None, ends: ExitStack) -> Callable[[], Frame]:
    """`render()` of the environment as its package makes it; None is its own side."""
    env = environment(suite, {} if side is None else {"width": side, "height": side})
    ends.callback(env.close)
    env.reset(seed=0)
    env.render()  # builds its renderer
    viewer = getattr(env, "robot_env", env).mujoco_renderer.viewer

    def draw() -> Frame:
        viewer.make_context_current()  # else it draws into the context of whoever drew last
        frame: Frame = env.render()
        return frame

    return draw


def environment(suite: str, size: dict[str, int]) -> Any:
    """The environment with gymnasium's renderer, not yet reset."""
    if suite == "franka_kitchen":
        kitchen = require("gymnasium_robotics.envs.franka_kitchen", extra="robot").KitchenEnv
        return kitchen(tasks_to_complete=["light switch"], render_mode="rgb_array", **size)
    rules = rules_of(suite, TASKS[suite])
    goals = require("metaworld", extra="robot").MT1(f"{rules.name}-v3", seed=0)
    sawyer = goals.train_classes[f"{rules.name}-v3"]
    env = sawyer(render_mode="rgb_array", camera_name=rules.camera, **size)
    env.set_task(goals.train_tasks[0])
    return env


def ours(suite: str, profile: Profile, ends: ExitStack) -> Callable[[], Frame]:
    """The simulator's frames."""
    rules = replace(rules_of(suite, TASKS[suite]), frame_px=SIDE, profile=profile)
    simulator = ends.enter_context(simulate(rules))
    simulator.reset(0)
    return simulator.frame


def compare(suite: str) -> None:
    """Prints the rates of one suite, and the ratios to gymnasium's."""
    found: dict[str, list[float]] = {}
    with ExitStack() as ends:
        ways: dict[str, Callable[[], Frame]] = {p: ours(suite, p, ends) for p in PROFILES}
        ways |= {PLAIN: gymnasiums(suite, SIDE, ends), LARGE: gymnasiums(suite, None, ends)}
        pictures = {name: draw() for name, draw in ways.items()}
        for _ in range(ROUNDS):
            for name, draw in ways.items():  # in turns: a busy machine slows all
                found.setdefault(name, []).append(rate(draw))
        for name, draw in ways.items():
            assert not difference(pictures[name], draw()).other, f"{name} draws another picture"
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    told = ", ".join(f"{name} {value:.1f}" for name, value in medians.items())
    fast, full = (medians[profile] / medians[PLAIN] for profile in PROFILES)
    print(f"{suite}: {told} frames/s")
    print(
        f"{suite}: fast {fast:.1f}x gymnasium (wanted {WANTED[suite]}x), full {full:.1f}x, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    """Prints rates and ratios of each suite."""
    gl.choose()
    print(f"{gl.backend()}, {SIDE} px")
    for suite in TASKS:
        compare(suite)


if __name__ == "__main__":
    main()

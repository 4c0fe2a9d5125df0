"""Rollouts of a frozen encoder and of a state policy, with two worker processes against one.

    python tests/speed/robot_rollouts.py

Whole episodes of Meta-World's hammer at 224 px. The encoder is the smallest ViT at 32 px, so that
simulating and drawing bound it; the state policy draws nothing, so that messages between processes
weigh most. Crews are warm: their processes have played an episode. Rounds take turns, medians; at
least 1.7 times is expected of frames on two cores that are otherwise idle.
"""

import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from bench.checkpoint import load_model
from tasks.robot.cloning.crew import Crew
from tasks.robot.cloning.operator import Sight
from tasks.robot.cloning.policy import frozen_policy, state_policy
from tasks.robot.cloning.rollouts import Actor, roll_out
from tasks.robot.simulators.rules import Rules
from tasks.robot.simulators.simulator import rules_of

MODEL, ROUNDS = "random:vit_mini_patch4_32?seed=0", 3
EPISODES = {"frame": 6, "state": 24}
RULES = rules_of("metaworld", "hammer")


def seeing() -> Actor:
    """Frames through a frozen encoder and an untrained attentive policy."""
    backbone = load_model(MODEL).backbone.eval()
    policy = frozen_policy("map", 96, 6, 4, 0).eval()

    def act(frames: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
            small = torch.nn.functional.interpolate(pixels.float(), (32, 32), mode="area").byte()
            tokens = backbone.features(backbone.input.normalise(small), ["tokens"])["tokens"]
            found: np.ndarray = policy(tokens.view(len(frames), -1, 96)).numpy()
        return found

    return act


def knowing() -> Actor:
    """States through an untrained policy."""
    states = np.random.default_rng(0).normal(size=(100, 39))
    policy = state_policy(states, 4, 0).eval()

    def act(seen: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = policy(torch.from_numpy(seen).float()).numpy()
        return found

    return act


def compare(sight: Sight, make: Callable[[], Actor], rules: Rules) -> None:
    """Prints episodes a second of one worker and of two."""
    act, count = make(), EPISODES[sight]
    rates: dict[int, list[float]] = {1: [], 2: []}
    with Crew(rules, sight, 1) as one, Crew(rules, sight, 2) as two:
        for crew in (one, two):
            list(roll_out(crew, range(crew.count), act))
        for _ in range(ROUNDS):
            for crew in (one, two):
                began = time.perf_counter()
                list(roll_out(crew, range(count), act))
                rates[crew.count].append(count / (time.perf_counter() - began))
    single, double = (statistics.median(rates[n]) for n in (1, 2))
    print(
        f"{sight}: {single * rules.decisions:.0f} decisions/s with one worker, "
        f"{double * rules.decisions:.0f} with two, {double / single:.2f}x"
    )


def main() -> None:
    """Prints both kinds of policy, and how busy the machine was."""
    os.environ["SSLBENCH_PROGRESS"] = "none"
    torch.set_num_threads(1)
    print(f"hammer, {RULES.decisions} decisions an episode, load {os.getloadavg()[0]:.1f} before")
    compare("frame", seeing, RULES)
    compare("state", knowing, RULES)


if __name__ == "__main__":
    main()

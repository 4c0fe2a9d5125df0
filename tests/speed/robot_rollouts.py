"""Rollouts of a frozen encoder and of a state policy, with two worker processes against one.

    python tests/speed/robot_rollouts.py

Whole episodes of one task of each suite, seen at 224 px. The encoder is the smallest ViT on 32 px,
so that simulating and drawing bound it, not the encoder (its share of the time is printed); the
state policy draws nothing, so that messages between processes weigh most. Both workers are warm:
each has played an episode; one of them waits while the other plays alone. Rounds take turns,
medians; at least 1.7 times is expected of frames on two cores that are otherwise idle.
"""

import os
import statistics
import time

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from bench.checkpoint import load_model
from bench.transforms import SquareTransform
from tasks.robot.cloning.crew import Crew
from tasks.robot.cloning.operator import Sight
from tasks.robot.cloning.policy import frozen_policy, state_policy
from tasks.robot.cloning.rollouts import Actor, roll_out
from tasks.robot.simulators.rules import Rules
from tasks.robot.simulators.simulator import rules_of

MODEL, ROUNDS, WANTED = "random:vit_mini_patch4_32?seed=0", 3, 1.7
EPISODES: dict[Sight, int] = {"frame": 2, "state": 6}
SIZES = {"franka_kitchen": (9, 30), "metaworld": (4, 39)}  # of an action and a state
TASKS = {"franka_kitchen": "light_on", "metaworld": "hammer"}


def seeing(actions: int) -> Actor:
    """Frames through a frozen encoder and an untrained attentive policy."""
    backbone = load_model(MODEL).backbone.eval()
    squeeze = SquareTransform(backbone.input)
    tokens, dim = backbone.token_shape(backbone.input.size_px)
    policy = frozen_policy("map", dim, 2 * backbone.num_heads, actions, 0).eval()

    def act(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        pixels = torch.stack([squeeze(Image.fromarray(frame)) for frame in frames])
        with torch.inference_mode():
            seen = backbone.features(backbone.input.normalise(pixels), ["tokens"])["tokens"]
            found: npt.NDArray[np.float32] = policy(seen.view(len(frames), tokens, dim)).numpy()
        return found

    return act


def knowing(actions: int, size: int) -> Actor:
    """States through an untrained policy."""
    states = np.random.default_rng(0).normal(size=(100, size))
    policy = state_policy(states, actions, 0).eval()

    def act(seen: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = policy(torch.from_numpy(seen).float()).numpy()
        return found

    return act


def compare(sight: Sight, rules: Rules) -> None:
    """Prints decisions a second of one worker and of two."""
    actions, size = SIZES[rules.suite]
    policy = seeing(actions) if sight == "frame" else knowing(actions, size)
    acted: list[float] = []

    def act(seen: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        began = time.perf_counter()
        found = policy(seen)
        acted.append(time.perf_counter() - began)
        return found

    seeds = list(range(EPISODES[sight]))
    turns = {1: [[seed] for seed in seeds], 2: [seeds]}  # one seed keeps one worker busy
    took: dict[int, list[float]] = {1: [], 2: []}  # seconds of a decision
    with Crew(rules, sight, 2) as crew:
        list(roll_out(crew, seeds[:2], act))
        for _ in range(ROUNDS):
            for workers, parts in turns.items():
                began = time.perf_counter()
                for part in parts:
                    list(roll_out(crew, part, act))
                spent = time.perf_counter() - began
                took[workers].append(spent / (len(seeds) * rules.decisions))
    single, double = (statistics.median(took[workers]) for workers in (1, 2))
    print(
        f"{rules.name}, {sight}: {1 / single:.0f} decisions/s with one worker (the policy "
        f"{100 * statistics.median(acted) / single:.0f} % of the time), {1 / double:.0f} with two, "
        f"{single / double:.2f}x{f' (wanted {WANTED}x)' if sight == 'frame' else ''}, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    """Prints every suite with both kinds of policy, and how busy the machine was."""
    os.environ["SSLBENCH_PROGRESS"] = "none"
    torch.set_num_threads(1)
    print(f"load {os.getloadavg()[0]:.1f} before")
    for suite, task in TASKS.items():
        for sight in EPISODES:
            compare(sight, rules_of(suite, task))


if __name__ == "__main__":
    main()

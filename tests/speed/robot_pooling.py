"""Attentive pooling of robot policies: folded against plain; and a step of each policy's training.

    python tests/speed/robot_pooling.py

Both forms are one function of the same parameters. A pass is forward and backward of 128 images of
196 tokens; the ways run in turns, medians. On a processor seconds are of one thread and of the
processor, so that other work on the machine does not count. At least 8 times is expected at width
384. Steps of training gather 128 rows of what is stored (tokens in half precision), pass forward
and backward and move the weights; with attentive pooling they are set against those of the plain
form.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from bench.snapshot import Snapshot
from tasks.robot.cloning.policy import PIXELS, frozen_policy, pixel_policy, state_policy
from tasks.robot.cloning.pooling import AttentivePooling
from tasks.robot.cloning.training import Plan, Samples, train

BATCH, TOKENS = 128, 196
WIDTHS = {192: 6, 384: 12, 768: 24}  # of ViT-Ti, S and B, with twice their heads
MOMENTS, ACTIONS, STATES = 1000, 9, 30
REPEATS = {"cpu": 5, "cuda": 20}
STEPS = {"cpu": 15, "cuda": 500}


def seconds(device: str) -> float:
    """A clock, after the device has done all its work."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def passed(form: Callable[[Tensor], Tensor], tokens: Tensor, pooling: nn.Module) -> Tensor:
    """All gradients after a forward and a backward, in one vector."""
    pooling.zero_grad()
    form(tokens).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in pooling.parameters() if p.grad is not None])


def compare(width: int, heads: int, device: str) -> None:
    """Prints both forms of the pooling and their ratio."""
    torch.manual_seed(0)
    pooling = AttentivePooling(width, heads).to(device)
    tokens = torch.randn(BATCH, TOKENS, width, device=device)
    forms = {"folded": pooling.forward, "plain": pooling.plain}
    found = {name: passed(form, tokens, pooling) for name, form in forms.items()}
    apart = float((found["folded"] - found["plain"]).abs().max() / found["plain"].abs().max())
    took: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(REPEATS[device]):
        for name, form in forms.items():  # alternating: a busy machine slows both
            began = seconds(device)
            passed(form, tokens, pooling)
            took[name].append(1e3 * (seconds(device) - began))
    folded, plain = (statistics.median(took[name]) for name in forms)
    print(
        f"pooling, width {width}, {heads} heads: folded {folded:.2f} ms, plain {plain:.2f} ms, "
        f"{plain / folded:.1f}x; gradients differ by {apart:.0e}"
    )


def step(policy: nn.Module, observations: Tensor, device: str) -> float:
    """Milliseconds of one step of training."""
    labels = torch.rand(MOMENTS, ACTIONS, generator=torch.Generator().manual_seed(0)) * 2 - 1
    samples = Samples(observations, labels, np.array([MOMENTS // 2, MOMENTS // 2])).to(device)
    nowhere = Snapshot(None, "")
    train(policy, samples, Plan(2, BATCH), device, nowhere, "")
    few, many = Plan(STEPS[device] // 5, BATCH), Plan(STEPS[device] // 5 + STEPS[device], BATCH)
    times = []
    for plan in (few, many):  # what a training costs beside its steps is in both
        began = seconds(device)
        train(policy, samples, plan, device, nowhere, "")
        times.append(seconds(device) - began)
    return 1e3 * (times[1] - times[0]) / STEPS[device]


def steps(device: str) -> None:
    """Prints a step of every policy, and what 20,000 of them take."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(MOMENTS, STATES))
    frames = torch.from_numpy(rng.integers(0, 256, (MOMENTS, PIXELS, PIXELS, 3), dtype=np.uint8))
    took = {
        "state": step(state_policy(states, ACTIONS, 0), torch.from_numpy(states).float(), device),
        "end to end": step(pixel_policy(ACTIONS, 0), frames, device),
    }
    for width, heads in WIDTHS.items():
        tokens = torch.randn(MOMENTS, TOKENS, width).half()
        took[f"cls or mean, {width}"] = step(
            frozen_policy("cls", width, heads, ACTIONS, 0), tokens[:, 0].contiguous(), device
        )
        took[f"map, {width}"] = step(frozen_policy("map", width, heads, ACTIONS, 0), tokens, device)
    for name, ms in took.items():
        print(f"step, {name:16} {ms:8.2f} ms, 20,000 in {ms * 20 / 60:6.1f} min")


def main() -> None:
    """Prints the comparison at every width, then the steps."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"batch {BATCH}, {TOKENS} tokens, float32, {device}")
    for width, heads in WIDTHS.items():
        compare(width, heads, device)
    steps(device)


if __name__ == "__main__":
    main()

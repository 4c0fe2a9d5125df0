"""Training a robot's policy on stored tokens against encoding the frames of every batch anew.

    python tests/speed/robot_tokens.py

ViT-Ti/16 at 224 px and attentive pooling, batches of 128 decisions, on one thread and in seconds of
the processor, so that other work on the machine does not count. A step that encodes its frames
costs their encoding and then the same step. Both are timed over a few steps, and the protocol's
20,000 follow from them; stored tokens also cost one pass over the frames of 25 demonstrations,
however many policies learn from them.
"""

import os
import statistics
import time

import numpy as np
import torch
from torch import Tensor, nn

from bench.checkpoint import LoadedModel, load_model
from bench.snapshot import Snapshot
from tasks.robot.cloning.policy import frozen_policy
from tasks.robot.cloning.training import Plan, Samples, train

MODEL, SIDE = "random:vit_tiny_patch16_224?seed=0", 224
PLAN, POLICIES = Plan(), (1, 3)
LENGTHS = np.full(25, 36)  # decisions of 25 demonstrations of light_on
ACTIONS = 9
ENCODINGS, STEPS, ROUNDS = 3, 20, 3


def encode(model: LoadedModel, frames: Tensor) -> Tensor:
    """(b, t, d) tokens of frames (b, 3, p, p)."""
    backbone = model.backbone
    with torch.inference_mode():
        found = backbone.features(backbone.input.normalise(frames), ["tokens"])["tokens"]
    return found.view(len(frames), *backbone.token_shape(SIDE))


def encoding(model: LoadedModel, frames: Tensor) -> float:
    """Seconds to encode the frames of a batch."""
    took = []
    for _ in range(ENCODINGS):
        began = time.process_time()
        encode(model, frames)
        took.append(time.process_time() - began)
    return statistics.median(took)


def step(policy: nn.Module, samples: Samples) -> float:
    """Seconds of a step on stored tokens."""
    took = []
    for _ in range(ROUNDS):
        times = []
        for steps in (2, 2 + STEPS):  # what a training costs beside its steps is in both
            began = time.process_time()
            train(policy, samples, Plan(steps, PLAN.batch), "cpu", Snapshot(None, ""), "")
            times.append(time.process_time() - began)
        took.append((times[1] - times[0]) / STEPS)
    return statistics.median(took)


def main() -> None:
    """Prints a step of each way, and what a policy and three take."""
    os.environ["SSLBENCH_PROGRESS"] = "none"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = load_model(MODEL)
    model.backbone.eval()
    frames = torch.randint(0, 256, (PLAN.batch, 3, SIDE, SIDE), dtype=torch.uint8)
    moments = int(LENGTHS.sum())
    rows = torch.arange(moments) % PLAN.batch
    samples = Samples(
        encode(model, frames).half()[rows], torch.rand(moments, ACTIONS) * 2 - 1, LENGTHS
    )
    width, heads = samples.observations.shape[2], 2 * model.backbone.num_heads
    encodes = encoding(model, frames)
    stored = step(frozen_policy("map", width, heads, ACTIONS, 0), samples)
    anew, storing = encodes + stored, encodes * moments / PLAN.batch
    print(f"a step: stored {1e3 * stored:.1f} ms, frames encoded anew {1e3 * anew:.0f} ms")
    print(f"storing the tokens of {moments} frames: {storing:.0f} s")
    for policies in POLICIES:
        steps = policies * PLAN.steps
        whole = storing + steps * stored
        print(
            f"{policies} of {PLAN.steps:,} steps: stored {whole / 60:.1f} min, encoded anew "
            f"{steps * anew / 3600:.0f} h (from {ENCODINGS} batches), {steps * anew / whole:.0f}x, "
            f"load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()

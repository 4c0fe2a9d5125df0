"""Training a robot's policy on stored tokens against encoding the frames of every batch anew.

    python tests/speed/robot_tokens.py

ViT-Ti/16 at 224 px and attentive pooling, batches of 128 decisions, on one thread and in seconds of
the processor, so that other work on the machine does not count. A step that encodes takes
seconds: a few are timed and set against what stored tokens take, with the one pass over the frames
of 25 demonstrations that storing them costs, for the protocol's 20,000 steps.
"""

import statistics
import time

import torch
import torch.nn.functional as F

from bench.checkpoint import load_model
from tasks.robot.cloning.policy import frozen_policy

MODEL, BATCH, STEPS = "random:vit_tiny_patch16_224?seed=0", 128, 20_000
MOMENTS, ACTIONS = 900, 9  # decisions of 25 demonstrations of light_on
ENCODED, STORED = 3, 20


def main() -> None:
    """Prints a step of each way, and what a policy and three take."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = load_model(MODEL).backbone.eval()
    frames = torch.randint(0, 256, (BATCH, 3, 224, 224), dtype=torch.uint8)
    labels = torch.rand(BATCH, ACTIONS) * 2 - 1

    def encoded() -> torch.Tensor:
        with torch.inference_mode():
            found = backbone.features(backbone.input.normalise(frames), ["tokens"])["tokens"]
        return found.view(BATCH, *backbone.token_shape(224)).clone()

    tokens = encoded()
    stored = tokens.half().repeat(-(-MOMENTS // BATCH), 1, 1)[:MOMENTS]
    policy = frozen_policy("map", tokens.shape[2], 2 * backbone.num_heads, ACTIONS, 0)
    optimiser = torch.optim.Adam(policy.parameters(), lr=1e-4, fused=True)

    def step(seen: torch.Tensor) -> None:
        loss = F.mse_loss(policy(seen), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    took: dict[str, list[float]] = {"encoded": [], "stored": []}
    for number in range(STORED):
        began = time.process_time()
        step(stored[torch.randint(0, MOMENTS, (BATCH,))].float())
        took["stored"].append(time.process_time() - began)
        if number < ENCODED:
            began = time.process_time()
            step(encoded())
            took["encoded"].append(time.process_time() - began)
    again, once = (statistics.median(took[name]) for name in ("encoded", "stored"))
    storing = (again - once) * MOMENTS / BATCH
    for policies in (1, 3):
        whole = storing + policies * STEPS * once
        print(
            f"{policies} of {STEPS:,} steps: stored {whole / 60:.1f} min, "
            f"encoded anew {policies * STEPS * again / 3600:.0f} h (from {ENCODED} steps), "
            f"{policies * STEPS * again / whole:.0f}x"
        )
    print(f"a step: stored {1e3 * once:.1f} ms, encoded anew {1e3 * again:.0f} ms")
    print(f"storing {MOMENTS} frames: {storing:.0f} s")


if __name__ == "__main__":
    main()

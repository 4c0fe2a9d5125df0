"""Target normalisers: teacher scores to probabilities, by centring or by optimal transport."""

import torch
from torch import Tensor, nn

from bench import dist


class Centre(nn.Module):
    """Moving average of teacher scores, subtracted before the softmax so that no output dominates.

    ``observe`` collects the mean over the batch and all processes; ``update`` applies what was
    collected, once a step and after use. Nothing is applied if a collected mean is not finite.

    Args:
        count: number of scores K.
        momentum: of the moving average.
    """

    value: Tensor

    def __init__(self, count: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(count))
        self._seen: list[Tensor] = []

    @torch.no_grad()
    def observe(self, scores: Tensor) -> None:
        """Take note of raw teacher scores (..., K)."""
        self._seen.append(dist.all_reduce_mean(scores.float().flatten(0, -2).mean(0)))

    @torch.no_grad()
    def update(self) -> None:
        """Move the centre towards what was observed since the last update."""
        mean = torch.stack(self._seen).mean(0)
        self._seen.clear()
        # torch.where keeps the decision on the device: no synchronisation in the step.
        moved = self.value * self.momentum + mean * (1 - self.momentum)
        self.value.copy_(torch.where(mean.isfinite().all(), moved, self.value))

    def probabilities(self, scores: Tensor, temperature: float) -> Tensor:
        """softmax((scores - centre) / temperature) over the last axis, in float32."""
        return ((scores.float() - self.value) / temperature).softmax(-1)


@torch.no_grad()
def sinkhorn(scores: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Soft assignments with equal total mass per prototype over the batch of all processes.

    ``exp(scores / temperature)``, then alternately columns (prototypes) and rows (samples) are
    normalised.

    Args:
        scores: (n, K) teacher scores; ``n`` may differ between processes and may be 0.
        temperature: softmax temperature.
        iterations: rounds of normalisation.

    Returns:
        (n, K) float32 whose rows sum to 1.
    """
    # A global shift leaves the result as it is and keeps exp in range.
    logits = scores.float() / temperature
    top = logits.max() if len(logits) else logits.new_tensor(-torch.inf)
    q = torch.exp(logits - dist.all_reduce_max(top))
    for _ in range(iterations):
        q = q / dist.all_reduce_sum(q.sum(0, keepdim=True))
        q = q / q.sum(1, keepdim=True)
    return q

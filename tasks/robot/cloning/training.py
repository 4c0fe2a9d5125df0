"""Behaviour cloning: a policy learns the demonstrations' actions, one moment at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import TrainingError
from bench.progress import Progress
from bench.snapshot import Snapshot

_CHUNK = 500  # steps whose batches are drawn together, and after which a state is kept
_TABLES = 32  # losses that are reported of a training

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """How a policy is trained.

    Attributes:
        steps: of Adam.
        batch: decisions of a step.
        lr: learning rate, constant.
        seed: of what the batches hold.
    """

    steps: int = 20_000
    batch: int = 128
    lr: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Samples:
    """What is seen and done at every decision of the demonstrations.

    Attributes:
        observations: (n, ...) tokens in float16, frames in uint8 or states in float32.
        actions: (n, a) float32.
        lengths: (m,) decisions of each demonstration.
    """

    observations: Tensor
    actions: Tensor
    lengths: Rows

    def to(self, device: str) -> Samples:
        """The same on a device, as far as its memory holds them."""
        if device == "cpu":
            return self
        need = self.observations.nbytes
        free, _ = torch.cuda.mem_get_info(device)
        held = self.observations if 2 * need > free else self.observations.to(device)
        return Samples(held, self.actions.to(device), self.lengths)


def batches(plan: Plan, lengths: Rows, start: int) -> Iterator[Rows]:
    """(b,) rows of each step from `start`: any demonstration, then any decision of it.

    Every demonstration counts alike, however long. A step's rows depend on the seed and the step
    alone.
    """
    ends = np.cumsum(lengths)
    for chunk in range(start // _CHUNK, -(-plan.steps // _CHUNK)):
        rng = np.random.default_rng((plan.seed, chunk))
        which = rng.integers(0, len(lengths), (_CHUNK, plan.batch))
        place = (rng.random((_CHUNK, plan.batch)) * lengths[which]).astype(np.int64)
        rows = ends[which] - lengths[which] + place
        first = chunk * _CHUNK
        yield from rows[max(start - first, 0) : plan.steps - first]


def train(
    policy: nn.Module, samples: Samples, plan: Plan, device: str, snapshot: Snapshot, label: str
) -> npt.NDArray[np.float32]:
    """Trains a policy in place by squared error; the mean losses of up to 32 stretches of time.

    The likelihood of a normal distribution of fixed width around the output, which Hu et al.
    maximise, has the same minimum. A killed training goes on from its last snapshot and ends with
    the same bytes.

    Raises:
        TrainingError: the loss is not finite.
    """
    policy.to(device).train()
    samples = samples.to(device)
    optimiser = torch.optim.Adam(policy.parameters(), lr=plan.lr, fused=device != "cpu")
    done, state = snapshot.load()
    losses = torch.zeros(plan.steps, device=device)
    if state:
        policy.load_state_dict(state["policy"])
        optimiser.load_state_dict(state["optimiser"])
        losses[:done] = state["losses"].to(device)

    def kept() -> dict[str, Any]:
        return {
            "policy": policy.state_dict(),
            "optimiser": optimiser.state_dict(),
            "losses": losses[:step],
        }

    step = done
    with Progress(label, plan.steps, done) as progress:
        for rows in batches(plan, samples.lengths, done):
            losses[step] = _step(policy, optimiser, samples, rows, device)
            step += 1
            if step % 100 == 0 or step == plan.steps:
                _watch(losses[step - 1], step, progress)
            if step % _CHUNK == 0 and step < plan.steps:
                snapshot.save(step, kept)
    policy.eval()
    parts = np.array_split(losses.cpu().numpy(), min(_TABLES, plan.steps))
    return np.array([part.mean() for part in parts], dtype=np.float32)


def _step(
    policy: nn.Module, optimiser: torch.optim.Optimizer, samples: Samples, rows: Rows, device: str
) -> Tensor:
    """One update; the loss, not waited for."""
    places = torch.from_numpy(rows)
    seen = samples.observations[places.to(samples.observations.device)].to(device)
    if seen.dtype == torch.float16:
        seen = seen.float()
    wanted = samples.actions[places.to(device)]
    loss = F.mse_loss(policy(seen), wanted)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach()


def _watch(loss: Tensor, step: int, progress: Progress) -> None:
    """Shows the loss; a hundred steps may pass before one that is not finite is seen."""
    value = float(loss)
    if not np.isfinite(value):
        raise TrainingError(
            f"the policy's loss is {value} at step {step}: lower lr, or look for actions that are "
            "not finite"
        )
    progress.advance(100 if step % 100 == 0 else step % 100, loss=value)

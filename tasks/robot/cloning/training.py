"""Behaviour cloning: a policy learns the demonstrations' actions, one moment at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
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
_WATCHED = 100  # steps between looks at the loss, each of which waits for a GPU
_STRETCHES = 32  # of a training, of each of which the mean loss is reported

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
        TrainingError: the loss is not finite, or the snapshot is of another policy.
    """
    policy.to(device).train()
    learner = _Learner(policy, samples.to(device), plan, device)
    losses = torch.zeros(plan.steps, device=device)
    done = _resumed(learner, losses, snapshot)
    if device != "cpu":
        learner.capture()
    step = done
    with Progress(label, plan.steps, done) as progress:
        for rows in batches(plan, samples.lengths, done):
            losses[step] = learner.step(torch.from_numpy(rows))
            step += 1
            if step % _WATCHED == 0 or step == plan.steps:
                progress.advance(step - progress.done, loss=_finite(losses[step - 1], step))
            if step % _CHUNK == 0 and step < plan.steps:
                snapshot.save(step, partial(learner.state, losses[:step]))
    policy.eval()
    parts = np.array_split(losses.cpu().numpy(), min(_STRETCHES, plan.steps))
    return np.array([part.mean() for part in parts], dtype=np.float32)


def _resumed(learner: _Learner, losses: Tensor, snapshot: Snapshot) -> int:
    """Steps that a killed training has done; all is then as it was after them."""
    done, state = snapshot.load()
    if done:
        try:
            learner.load(state)
            losses[:done] = state["losses"].to(losses.device)
        except Exception as error:  # half of it may be back: this policy cannot start anew
            snapshot.drop()
            reason = " ".join(str(error).split())
            raise TrainingError(
                f"the state {snapshot.path} of step {done} does not fit this policy "
                f"({type(error).__name__}: {reason}) and was removed: run the same command again"
            ) from error
    return done


class _Learner:
    """A policy and its optimiser; on a GPU a whole step is one CUDA graph.

    A step of a policy is some seventy small kernels: launched one by one they leave the device
    idle for most of the time.
    """

    def __init__(self, policy: nn.Module, samples: Samples, plan: Plan, device: str) -> None:
        self.policy, self.samples, self.device = policy, samples, device
        gpu = device != "cpu"
        self.optimiser = torch.optim.Adam(
            policy.parameters(), lr=plan.lr, fused=True, capturable=gpu
        )
        self.loss = torch.zeros((), device=device)
        self._rows = torch.zeros(plan.batch, dtype=torch.int64, device=device)
        kept, (_, *shape) = samples.observations.dtype, samples.observations.shape
        dtype = torch.float32 if kept == torch.float16 else kept
        self._seen = torch.empty((plan.batch, *shape), dtype=dtype, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def step(self, rows: Tensor) -> Tensor:
        """One update on rows (b,); the loss, which the next step overwrites, not waited for."""
        self._rows.copy_(rows)
        if self._graph is None:
            self._update()
        else:
            self._graph.replay()
        return self.loss

    def _update(self) -> None:
        places = self._rows.to(self.samples.observations.device)
        # Into the same memory each time: fresh pages cost a processor more than the copy.
        self._seen.copy_(self.samples.observations[places].to(self.device))
        loss = F.mse_loss(self.policy(self._seen), self.samples.actions[self._rows])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.loss.copy_(loss.detach())

    def capture(self) -> None:
        """Records a step as a graph, unless what is learned from does not fit the device.

        The three steps that CUDA wants beforehand are undone.
        """
        if self.samples.observations.device.type == "cpu":
            return
        before = copy.deepcopy(self.state())
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._update()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._update()
        self._undo(before)
        self._graph = graph

    def _undo(self, before: Mapping[str, Any]) -> None:
        """Puts values back into the tensors that the graph works on."""
        with torch.no_grad():
            for name, value in self.policy.state_dict().items():
                value.copy_(before["policy"][name])
            old = before["optimiser"]["state"]
            for index, values in self.optimiser.state_dict()["state"].items():
                for name, value in values.items():
                    value.copy_(old[index][name]) if index in old else value.zero_()

    def state(self, losses: Tensor | None = None) -> dict[str, Any]:
        """All that `load` needs to go on, and the losses so far."""
        state = {"policy": self.policy.state_dict(), "optimiser": self.optimiser.state_dict()}
        return state if losses is None else state | {"losses": losses.clone()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""
        self.policy.load_state_dict(state["policy"])
        self.optimiser.load_state_dict(state["optimiser"])


def _finite(loss: Tensor, step: int) -> float:
    """The loss; up to a hundred steps may pass before one that is not finite is seen."""
    value = float(loss)
    if not np.isfinite(value):
        raise TrainingError(
            f"the policy's loss is {value} at step {step}: lower lr, or look for actions that are "
            "not finite"
        )
    return value

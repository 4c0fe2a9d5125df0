"""One cell of a robot suite: every policy is trained, then every policy is rolled out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.episodes import check_suite, numbers_by_task, recordings_of
from bench.errors import SpecError
from bench.progress import say
from bench.records import Outcome
from bench.snapshot import Snapshot
from tasks.each_image import Kept
from tasks.robot.cloning.crew import Crew
from tasks.robot.cloning.demonstrations import Demonstrations, demonstrations
from tasks.robot.cloning.encoder import FRAMES, Encoder
from tasks.robot.cloning.operator import Sight
from tasks.robot.cloning.policy import (
    TokenPolicy,
    frozen_policy,
    pixel_policy,
    pooled,
    shrunk,
    state_policy,
)
from tasks.robot.cloning.rollouts import Actor, replays, roll_out
from tasks.robot.cloning.training import Plan, Samples, train
from tasks.robot.simulators.rendering import difference

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.task import TaskData
    from tasks.robot.cloning.task import CloningTask

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Place:
    """One policy of one task.

    Attributes:
        task: its name.
        number: of the policy, from 0.
    """

    task: str
    number: int

    @property
    def name(self) -> str:
        """For files and messages."""
        return f"{self.task}-{self.number}"


class SuiteRun:
    """Trains and rolls out; what a killed run has finished is not done again.

    All policies are trained before any simulator draws a rollout: a machine that cannot draw can
    still train them, and another one goes on from its workspace.
    """

    def __init__(self, task: CloningTask, model: LoadedModel, data: TaskData) -> None:
        self.task, self.model, self.data = task, model, data
        train_split, starts = data.open("train"), data.open("val")
        self.names = check_suite(task.suite, starts)
        self.starts = numbers_by_task(starts.ids)
        self.recordings = recordings_of(train_split)
        self.counts = {name: len(n) for name, n in numbers_by_task(train_split.ids).items()}
        self.kept = Kept(data.workspace)
        self.encoder = Encoder(model, data, task.size_px) if task.policy == "frozen" else None
        self.warnings: list[str] = []
        self._policies: dict[str, nn.Module] = {}
        if task.pooling == "cls" and self.encoder and not model.backbone.has_cls:
            self.encoder.refuse_cls()

    def outcome(self) -> tuple[Outcome, list[str]]:
        """Rows of all starts, and what is to be said of them."""
        for name in self.names:
            self._train_all(name)
        for name in self.names:
            self._roll_out_all(name)
        pieces = {
            (name, number): self.kept.pieces[f"rollouts-{name}-{number}"]
            for name in self.names
            for number in range(self.task.policies)
        }
        for piece in pieces.values():
            self.warnings += [text for text in piece["warnings"].tolist() if text]
        outcome = outcome_of(self.task, self.starts, pieces)
        return outcome, list(dict.fromkeys(self.warnings))

    # ---------------------------------------------------------------- training

    def _train_all(self, name: str) -> None:
        places = [Place(name, number) for number in range(self.task.policies)]
        todo = [
            place
            for place in places
            if f"rollouts-{place.name}" not in self.kept.pieces
            and f"policy-{place.name}" not in self.kept.pieces
        ]
        if not todo:
            return
        shown = self._demonstrations(name)
        samples = self._samples(shown)
        for place in todo:
            policy = self._untrained(place, shown)
            plan = Plan(self.task.steps, self.task.batch, self.task.lr, self._seed(place))
            state = Snapshot(self.data.workspace, f"training-{place.name}.pt")
            losses = train(policy, samples, plan, self.data.device, state, f"train {place.name}")
            state.drop()
            found = {k: v.cpu().numpy() for k, v in policy.state_dict().items()}
            self.kept.keep(f"policy-{place.name}", found | {"losses": losses})

    def _demonstrations(self, name: str) -> Demonstrations:
        origin = self.task.origin(name, self.recordings)
        root, workers = self.data.cache.root, self.data.workers
        return demonstrations(origin, self.counts[name], root, workers)

    def _samples(self, shown: Demonstrations) -> Samples:
        """What a policy learns from, in memory."""
        actions = torch.from_numpy(shown.actions)
        observed: Tensor
        if self.encoder is not None:
            observed = self._read(self.encoder.stored(shown.split()))
        elif self.task.policy == "state":
            if not shown.states.shape[1]:
                raise SpecError(
                    f"policy=state: the demonstrations of {shown.name} in {self.recordings} tell "
                    "no states, choose policy=frozen or end_to_end"
                )
            observed = torch.from_numpy(shown.states).float()
        else:
            observed = shrunk(shown.frames())
        return Samples(observed, actions, shown.lengths)

    def _read(self, tokens: Tensor) -> Tensor:
        return pooled(self.task.pooling, tokens, self.model.backbone.has_cls)

    def _seed(self, place: Place) -> int:
        """Other evaluation seeds give other policies."""
        return self.data.seed * self.task.policies + place.number

    def _untrained(self, place: Place, shown: Demonstrations) -> nn.Module:
        actions, seed = shown.actions.shape[1], self._seed(place)
        if self.encoder is not None:
            heads = self.task.heads or 2 * self.model.backbone.num_heads
            dim = self.encoder.shape[1]
            return frozen_policy(self.task.pooling, dim, heads, actions, seed)
        if self.task.policy == "state":
            return state_policy(shown.states, actions, seed)
        return pixel_policy(actions, seed)

    def _trained(self, place: Place, shown: Demonstrations) -> nn.Module:
        policy = self._untrained(place, shown)
        piece = self.kept.pieces[f"policy-{place.name}"]
        policy.load_state_dict({k: torch.from_numpy(v) for k, v in piece.items() if k != "losses"})
        return policy.to(self.data.device).eval()

    # ---------------------------------------------------------------- rollouts

    def _roll_out_all(self, name: str) -> None:
        places = [Place(name, number) for number in range(self.task.policies)]
        todo = [p for p in places if f"rollouts-{p.name}" not in self.kept.pieces]
        if not todo:
            return
        shown, seeds = self._demonstrations(name), self._seeds(name)
        sight: Sight = "state" if self.task.policy == "state" else "frame"
        with Crew(self.task.rules(name), sight, min(self.data.workers, len(seeds))) as crew:
            note = self._drawn_alike(crew, shown) if sight == "frame" else ""
            for place in todo:
                policy = self._trained(place, shown)
                piece = self._rollouts(place, policy, shown, crew)
                losses = self.kept.pieces[f"policy-{place.name}"]["losses"]
                more = {"losses": losses, "warnings": np.array([note], dtype=np.str_)}
                self.kept.keep(f"rollouts-{place.name}", piece | more)

    def _seeds(self, name: str) -> list[int]:
        """The simulator's seed of each start."""
        return [self.task.start_seed(number) for number in self.starts[name]]

    def _rollouts(
        self, place: Place, policy: nn.Module, shown: Demonstrations, crew: Crew
    ) -> dict[str, Array]:
        """Everything that a policy did, in the order of the starts."""
        seeds, batch = self._seeds(place.task), FRAMES[self.data.device.partition(":")[0]]
        with self._actor(policy, shown) as act:
            label = f"rollouts {place.name}"
            played = list(roll_out(crew, list(dict.fromkeys(seeds)), act, batch, label))
        by_seed = {rollout.seed: rollout for rollout in played}
        found = [by_seed[seed] for seed in seeds]
        piece: dict[str, Array] = {
            "seeds": np.array(seeds),
            "actions": np.stack([rollout.actions for rollout in found]),
            "solved": np.stack([rollout.solved for rollout in found]),
        }
        if isinstance(policy, TokenPolicy):
            piece["queries"] = policy.pooling.queries().detach().cpu().numpy()
        return piece

    @contextmanager
    def _actor(self, policy: nn.Module, shown: Demonstrations) -> Iterator[Actor]:
        """What is seen, to what is done, as long as the encoder is ready."""
        see: Callable[[Array], Tensor]
        if self.encoder is None:
            device, state = self.data.device, self.task.policy == "state"

            def look(seen: Array) -> Tensor:
                return (torch.from_numpy(seen).float() if state else shrunk(seen)).to(device)

            see = look
        else:
            encoder = self.encoder

            def encoded(seen: Array) -> Tensor:
                return self._read(encoder.tokens(seen))

            see = encoded

        def act(seen: Array) -> Array:
            with torch.inference_mode():
                found: Array = policy(see(seen)).cpu().numpy()
            return found

        if self.encoder is None:
            yield act
        else:
            with self.encoder.ready(shown.split()):
                yield act

    def _drawn_alike(self, crew: Crew, shown: Demonstrations) -> str:
        """What to say where the frames of today are not those of the demonstrations."""
        name = crew.rules.name
        if self.recordings:
            return f"{name}: the demonstrations are others', and may be drawn in another way"
        nothing = np.zeros((0, shown.actions.shape[1]))
        ((frames, _),) = replays(crew, [(int(shown.seeds[0]), nothing)])
        change = difference(shown.first_frame(), frames[0])
        if change.same:
            return ""
        told = f"{name}: {change.text} than in the demonstrations in {shown.folder}"
        if change.other:
            say(f"{told}: delete that folder, they are made anew")
        return told


def outcome_of(
    task: CloningTask,
    starts: dict[str, list[int]],
    pieces: dict[tuple[str, int], dict[str, Array]],
) -> Outcome:
    """A row a start, with the solved decisions and the first solved one (-1: none) of each policy.

    Extras hold, for each task, `actions:<task>` (policies, starts, T, a), `solved:<task>`
    (policies, starts, T), `losses:<task>` (policies, stretches of the training) and, with
    attentive pooling, `queries:<task>` (policies, heads, d), whose products with tokens are the
    scores of the attention.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "task", "seed", "needed", "value")}
    counts: list[list[Array]] = [[] for _ in range(task.policies)]
    firsts: list[list[Array]] = [[] for _ in range(task.policies)]
    extras: dict[str, Array] = {}
    for name, numbers in starts.items():
        found = [pieces[name, number] for number in range(task.policies)]
        solved = np.stack([piece["solved"] for piece in found])  # (k, n, T)
        needed = task.rules(name).needed
        columns["id"] += [f"{name}/{number}" for number in numbers]
        columns["task"] += [name] * len(numbers)
        columns["seed"] += found[0]["seeds"].tolist()
        columns["needed"] += [needed] * len(numbers)
        columns["value"] += (solved.sum(axis=2) >= needed).mean(axis=0).tolist()
        for number in range(task.policies):
            counts[number].append(solved[number].sum(axis=1))
            first = np.where(solved[number].any(axis=1), solved[number].argmax(axis=1), -1)
            firsts[number].append(first)
        for key in ("actions", "solved", "losses", "queries"):
            if key in found[0]:
                extras[f"{key}:{name}"] = np.stack([piece[key] for piece in found])
    arrays: dict[str, Array] = {
        "id": np.array(columns["id"], dtype=np.str_),
        "task": np.array(columns["task"], dtype=np.str_),
        **{name: np.array(columns[name]) for name in ("seed", "needed", "value")},
    }
    for number in range(task.policies):
        arrays[f"solved_{number}"] = np.concatenate(counts[number])
        arrays[f"first_{number}"] = np.concatenate(firsts[number])
    return Outcome(arrays, extras)

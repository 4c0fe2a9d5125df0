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

from bench import gl
from bench.episodes import check_suite, numbers_by_task, recordings_of
from bench.errors import DataError, SpecError
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
from tasks.robot.cloning.pooling import check_heads
from tasks.robot.cloning.recordings import recording_of, tells_states
from tasks.robot.cloning.rollouts import Actor, replays, roll_out
from tasks.robot.cloning.scoring import outcome_of
from tasks.robot.cloning.training import Plan, Samples, train
from tasks.robot.simulators.rendering import difference
from tasks.robot.simulators.simulator import simulator_class

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
        shown: digest of the demonstrations that it learns. Part of the files' names: what was
            learned from others is not gone on with.
    """

    task: str
    number: int
    shown: str

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.task}-{self.number}"

    def file(self, what: str) -> str:
        """The name of what is kept of it."""
        return f"{what}-{self.label}-{self.shown[:16]}"


class SuiteRun:
    """Trains and rolls out; what a killed run has finished is not done again.

    All policies are trained before any simulator draws a rollout: a machine that cannot draw can
    still train them, and another one goes on from its workspace.

    Raises:
        SpecError: what is asked for does not go together.
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
        self._shown: dict[str, Demonstrations] = {}
        self._refuse()

    def _refuse(self) -> None:
        """What would fail after minutes of work fails now."""
        task, backbone = self.task, self.model.backbone
        if self.encoder is not None and task.pooling == "cls" and not backbone.has_cls:
            self.encoder.refuse_cls()
        if self.encoder is not None and task.pooling == "map":
            check_heads(self.encoder.shape[1], self._heads)
        for name in self.names:
            simulator_class(task.suite).check(task.rules(name))
            seeds = self._seeds(name)
            if len(set(seeds)) < len(seeds):
                raise SpecError(
                    f"{name}: {len(seeds)} rollouts have {len(set(seeds))} starts between them: "
                    f"ask for [rollouts={len(set(seeds))}]"
                )
            if task.policy == "state" and self.recordings is not None:
                file = recording_of(self.recordings, task.rules(name))
                if not tells_states(file):
                    raise SpecError(
                        f"policy=state: {file} tells no states of {name} that are this "
                        "simulator's, choose policy=frozen or end_to_end"
                    )

    def outcome(self) -> tuple[Outcome, list[str]]:
        """Rows of all starts, and what is to be said of them."""
        for name in self.names:
            self._train_all(name)
        for name in self.names:
            self._roll_out_all(name)
        pieces = {
            (place.task, place.number): self.kept.pieces[place.file("rollouts")]
            for name in self.names
            for place in self._places(name)
        }
        for shown in self._shown.values():
            self.warnings += shown.notes
        for piece in pieces.values():
            self.warnings += [text for text in piece["warnings"].tolist() if text]
        outcome = outcome_of(self.task, self.starts, pieces)
        return outcome, list(dict.fromkeys(self.warnings))

    def _places(self, name: str) -> list[Place]:
        shown = self._demonstrations(name).digest
        return [Place(name, number, shown) for number in range(self.task.policies)]

    def _demonstrations(self, name: str) -> Demonstrations:
        if name not in self._shown:
            origin = self.task.origin(name, self.recordings)
            root, workers = self.data.cache.root, self.data.workers
            self._shown[name] = demonstrations(origin, self.counts[name], root, workers)
        return self._shown[name]

    # ---------------------------------------------------------------- training

    def _train_all(self, name: str) -> None:
        done = self.kept.pieces.keys()
        todo = [
            p
            for p in self._places(name)
            if p.file("rollouts") not in done and p.file("policy") not in done
        ]
        if not todo:
            return
        shown = self._demonstrations(name)
        self._check_drawn(name, shown)
        samples = self._samples(shown)
        for place in todo:
            policy = self._untrained(place, shown)
            plan = Plan(self.task.steps, self.task.batch, self.task.lr, self._seed(place))
            state = Snapshot(self.data.workspace, f"{place.file('training')}.pt")
            losses = train(policy, samples, plan, self.data.device, state, f"train {place.label}")
            state.drop()
            found = {k: v.cpu().numpy() for k, v in policy.state_dict().items()}
            self.kept.keep(place.file("policy"), found | {"losses": losses})

    def _samples(self, shown: Demonstrations) -> Samples:
        """What a policy learns from, in memory."""
        actions = torch.from_numpy(shown.actions)
        observed: Tensor
        if self.encoder is not None:
            observed = self._read(self.encoder.stored(shown.split()))
        elif self.task.policy == "state":
            observed = torch.from_numpy(shown.states).float()
        else:
            observed = shrunk(shown.frames())
        return Samples(observed, actions, shown.lengths)

    def _read(self, tokens: Tensor) -> Tensor:
        return pooled(self.task.pooling, tokens, self.model.backbone.has_cls)

    @property
    def _heads(self) -> int:
        """Of the attentive pooling."""
        return self.task.heads or 2 * self.model.backbone.num_heads

    def _seed(self, place: Place) -> int:
        """Other evaluation seeds give other policies."""
        return self.data.seed * self.task.policies + place.number

    def _untrained(self, place: Place, shown: Demonstrations) -> nn.Module:
        actions, seed = shown.actions.shape[1], self._seed(place)
        if self.encoder is not None:
            dim = self.encoder.shape[1]
            return frozen_policy(self.task.pooling, dim, self._heads, actions, seed)
        if self.task.policy == "state":
            return state_policy(shown.states, actions, seed)
        return pixel_policy(actions, seed)

    def _trained(self, place: Place, shown: Demonstrations) -> nn.Module:
        policy = self._untrained(place, shown)
        piece = self.kept.pieces[place.file("policy")]
        policy.load_state_dict({k: torch.from_numpy(v) for k, v in piece.items() if k != "losses"})
        return policy.to(self.data.device).eval()

    # ---------------------------------------------------------------- rollouts

    def _roll_out_all(self, name: str) -> None:
        todo = [p for p in self._places(name) if p.file("rollouts") not in self.kept.pieces]
        if not todo:
            return
        shown, seeds = self._demonstrations(name), self._seeds(name)
        sight: Sight = "state" if self.task.policy == "state" else "frame"
        with Crew(self.task.rules(name), sight, min(self.data.workers, len(seeds))) as crew:
            note = self._drawn_alike(crew, shown) if sight == "frame" else ""
            for place in todo:
                policy = self._trained(place, shown)
                piece = self._rollouts(place, policy, shown, crew)
                losses = self.kept.pieces[place.file("policy")]["losses"]
                notes = np.array([note, *crew.notes], dtype=np.str_)
                self.kept.keep(
                    place.file("rollouts"), piece | {"losses": losses, "warnings": notes}
                )

    def _seeds(self, name: str) -> list[int]:
        """The simulator's seed of each start."""
        return [self.task.start_seed(number) for number in self.starts[name]]

    def _rollouts(
        self, place: Place, policy: nn.Module, shown: Demonstrations, crew: Crew
    ) -> dict[str, Array]:
        """Everything that a policy did, in the order of the starts."""
        seeds, batch = self._seeds(place.task), FRAMES[self.data.device.partition(":")[0]]
        with self._actor(policy, shown) as act:
            played = list(roll_out(crew, seeds, act, batch, f"rollouts {place.label}"))
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

    def _check_drawn(self, name: str, shown: Demonstrations) -> None:
        """DataError where this machine draws other pictures; one that draws none may train."""
        if self.task.policy == "state" or self.recordings:
            return
        try:
            gl.backend()
        except DataError:
            return
        with Crew(self.task.rules(name), "frame", min(self.data.workers, 1)) as crew:
            self._drawn_alike(crew, shown)

    def _drawn_alike(self, crew: Crew, shown: Demonstrations) -> str:
        """What to say where the frames of today are not quite those of the demonstrations.

        Raises:
            DataError: they are other pictures, of which a policy of the demonstrations knows
                nothing.
        """
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
            raise DataError(f"{told}: delete that folder, and they are made anew")
        return told

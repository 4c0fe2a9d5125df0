"""Episodes in worker processes: a policy's rollouts, an expert's demonstrations, and replays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import DataError
from bench.progress import Progress
from tasks.robot.cloning.crew import Crew, Worker
from tasks.robot.cloning.demonstration import Demonstration
from tasks.robot.cloning.operator import Act, Begin, Command, Demonstrate, Seen, Watch

Array = npt.NDArray[Any]
#: (batch, px, px, 3) uint8 or (batch, s) float64 -> (batch, a); rows do not depend on each other.
Actor = Callable[[Array], Array]
_FAILURES = 20  # of an expert that are borne, whatever succeeds


@dataclass(frozen=True, eq=False)
class Rollout:
    """One episode of a policy, to the horizon.

    Attributes:
        seed: of its start.
        actions: (T, a) float32, as they were taken.
        solved: (T,) whether the task was solved after each.
    """

    seed: int
    actions: npt.NDArray[np.float32]
    solved: npt.NDArray[np.bool_]


@dataclass(eq=False)
class _Episode:
    """One that is being played, and by whom."""

    seed: int
    actions: list[npt.NDArray[np.float32]] = field(default_factory=list)
    solved: list[bool] = field(default_factory=list)

    def next(self, worker: Worker, action: npt.NDArray[np.float32] | None = None) -> None:
        """Has the worker take an action, or begin."""
        commands: list[Command] = [Begin(self.seed, tuple(self.actions))]
        if action is not None:
            self.actions.append(action)
            commands.append(Act(action))
        worker.ask(commands)


def roll_out(
    crew: Crew, seeds: Sequence[int], act: Actor, batch: int = 1, label: str = "rollouts"
) -> Iterator[Rollout]:
    """Plays every seed's episode to its horizon; gives each as it ends, in no fixed order.

    The policy acts for all workers that wait, in rows of exactly `batch`, filled up with zeros: the
    shape of a product decides how it rounds, so that the number of workers must not. Meanwhile the
    other workers simulate and draw.

    Args:
        crew: the simulators of the task; what it sees the policy is shown.
        seeds: of the starts.
        act: the policy; its outputs are clipped to [-1, 1].
        batch: rows of one call.
        label: of the progress line.
    """
    rules, waiting = crew.rules, iter(seeds)
    playing: dict[Worker, _Episode] = {}
    successes = 0
    with crew.undisturbed(), Progress(label, len(seeds)) as progress:
        for worker, seed in zip(crew.workers, waiting, strict=False):
            playing[worker] = _Episode(seed)
            playing[worker].next(worker)
        while playing:
            ready: list[tuple[Worker, Seen]] = []
            for worker, seen in crew.answers():
                episode = playing[worker]
                episode.solved += seen.solved[-1:] if episode.actions else ()
                if len(episode.solved) < rules.decisions:
                    ready.append((worker, seen))
                    continue
                solved = np.array(episode.solved, dtype=bool)
                successes += int(solved.sum() >= rules.needed)
                yield Rollout(episode.seed, np.stack(episode.actions), solved)
                progress.advance(1, successes=successes)
                del playing[worker]
                if (coming := next(waiting, None)) is not None:
                    playing[worker] = _Episode(coming)
                    playing[worker].next(worker)
            for start in range(0, len(ready), batch):
                part = ready[start : start + batch]
                for (worker, _), action in zip(part, _acted(act, part, batch), strict=False):
                    playing[worker].next(worker, action)


def _acted(act: Actor, ready: Sequence[tuple[Worker, Seen]], batch: int) -> npt.NDArray[np.float32]:
    """(b, a) the actions of those that are ready."""
    rows = [worker.frame if seen.state is None else seen.state for worker, seen in ready]
    shown = np.zeros((batch, *rows[0].shape), rows[0].dtype)
    shown[: len(rows)] = rows
    return np.clip(np.asarray(act(shown), dtype=np.float32)[: len(rows)], -1.0, 1.0)


def collect(
    crew: Crew,
    seeds: Iterator[int],
    count: int,
    noise: float,
    label: str,
    before: tuple[int, int] = (0, 0),
) -> Iterator[Demonstration]:
    """The expert's first `count` successes, in the order of the seeds, whatever the workers.

    `before` says how many episodes were tried before an interruption, and how many succeeded.

    Raises:
        DataError: 20 episodes fail, and fewer than a quarter succeed.
    """
    done: dict[int, Demonstration | None] = {}  # by place among the seeds
    places: dict[Worker, int] = {}
    rules, ahead = crew.rules, itertools.count()
    tried = good = 0
    with crew.undisturbed(), Progress(label, count) as progress:
        while True:
            for worker in crew.workers:
                hoped = good + len(places) + sum(found is not None for found in done.values())
                if worker not in places and hoped < count:
                    places[worker] = next(ahead)
                    worker.ask([Demonstrate(next(seeds), noise)])
            for worker, found in crew.answers():
                done[places.pop(worker)] = found
            while tried in done:  # in the order of the seeds
                episode = done.pop(tried)
                tried += 1
                if episode is not None:
                    good += 1
                    yield episode
                    progress.advance(1)
                if good == count:
                    return
                all_tried, all_good = tried + before[0], good + before[1]
                if all_tried - all_good >= _FAILURES and 4 * all_good < all_tried:
                    raise DataError(
                        f"{rules.suite} {rules.name}: the expert succeeds in {all_good} of "
                        f"{all_tried} episodes under these rules (horizon {rules.horizon}, needed "
                        f"{rules.needed}, noise {noise:g}): give it a longer horizon or less "
                        "noise, or ask for fewer solved decisions"
                    )


def replays(
    crew: Crew, episodes: Sequence[tuple[int, Array]]
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
    """Frames (T + 1, px, px, 3) and solved (T,) of stored episodes (seed, actions), in order."""
    done: dict[int, Any] = {}
    places: dict[Worker, int] = {}
    todo = enumerate(episodes)
    given = 0
    with crew.undisturbed():
        while given < len(episodes):
            for worker in crew.workers:
                if worker not in places and (job := next(todo, None)) is not None:
                    places[worker] = job[0]
                    worker.ask([Watch(*job[1])])
            for worker, found in crew.answers():
                done[places.pop(worker)] = found
            while given in done:
                yield done.pop(given)
                given += 1

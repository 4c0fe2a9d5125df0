"""What a worker does for its parent: it plays episodes of one task, step by step or whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.robot.cloning.demonstration import Demonstration
from tasks.robot.simulators.rules import Rules
from tasks.robot.simulators.simulator import Frame, Simulator, simulate

Sight = Literal["frame", "state"]
#: Told apart from the seeds of anything else: the noise of a demonstration.
_NOISE = 17


class Begin(NamedTuple):
    """Resets to a seed and takes the actions; answered by `Seen`."""

    seed: int
    actions: tuple[npt.NDArray[Any], ...] = ()


class Act(NamedTuple):
    """Takes one action; answered by `Seen`."""

    action: npt.NDArray[Any]


class Demonstrate(NamedTuple):
    """Lets the expert play a seed's episode; answered by a `Demonstration`, None on a failure."""

    seed: int
    noise: float


class Watch(NamedTuple):
    """Plays actions (T, a) from a seed; answered by frames (T + 1, px, px, 3) and solved (T,)."""

    seed: int
    actions: npt.NDArray[Any]


Command = Begin | Act | Demonstrate | Watch


@dataclass(frozen=True)
class Seen:
    """What is to be seen now.

    Attributes:
        solved: after each of the actions that were taken.
        state: with `Sight` "state"; a frame is written where the parent reads it.
    """

    solved: tuple[bool, ...]
    state: npt.NDArray[np.float64] | None = None


class Operator:
    """A simulator that obeys commands; the same commands give the same answers.

    `canvas` (px, px, 3) is where frames are written.
    """

    def __init__(self, rules: Rules, sight: Sight, canvas: Frame) -> None:
        self.sight, self.canvas = sight, canvas
        self.simulator: Simulator = simulate(rules)

    def obey(self, command: Command) -> Any:
        """The answer to a command."""
        if isinstance(command, Begin):
            self.simulator.reset(command.seed)
            return self._seen(tuple(self.simulator.step(action) for action in command.actions))
        if isinstance(command, Act):
            return self._seen((self.simulator.step(command.action),))
        if isinstance(command, Demonstrate):
            return demonstrate(self.simulator, command.seed, command.noise)
        return watch(self.simulator, command.seed, command.actions)

    def _seen(self, solved: tuple[bool, ...]) -> Seen:
        if self.sight == "state":
            return Seen(solved, self.simulator.state())
        self.canvas[:] = self.simulator.frame()
        return Seen(solved)


def demonstrate(simulator: Simulator, seed: int, noise: float) -> Demonstration | None:
    """The expert's episode of a seed, or None when it fails.

    What is executed is the action with normal noise on the places that bear it; the label is the
    clean action, so that a policy learns the way back. A demonstration ends a little after the
    task is solved (`Rules.stay`), with the expert at rest.
    """
    rules = simulator.rules
    rng = np.random.default_rng((seed, _NOISE))
    shaken = np.isin(np.arange(simulator.action_size), simulator.noisy)
    simulator.reset(seed)
    expert = simulator.expert()
    frames, states, actions = [], [], []
    solved = 0
    for _ in range(rules.decisions):
        frames.append(simulator.frame())
        states.append(simulator.state())
        action = expert.act()
        actions.append(action.astype(np.float32))
        moved = action + noise * shaken * rng.standard_normal(simulator.action_size)
        solved += simulator.step(np.clip(moved, -1.0, 1.0))
        if rules.stay and solved >= max(rules.stay, rules.needed):
            break
    if solved < rules.needed:
        return None
    return Demonstration(seed, np.stack(frames), np.stack(states), np.stack(actions))


def watch(
    simulator: Simulator, seed: int, actions: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """(T + 1, px, px, 3) frames before, between and after stored actions, and (T,) solved."""
    simulator.reset(seed)
    frames, solved = [simulator.frame()], []
    for action in actions:
        solved.append(simulator.step(np.asarray(action, dtype=np.float64)))
        frames.append(simulator.frame())
    return np.stack(frames), np.array(solved, dtype=bool)

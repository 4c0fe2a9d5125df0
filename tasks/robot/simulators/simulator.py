"""The contract of a simulator: seeded episodes of one task, frames, states and an expert."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from functools import cache
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from bench import gl, registry
from bench.errors import MissingPackage
from tasks.robot.simulators.rules import Rules

Action = npt.NDArray[np.float64]  # (action_size,) in [-1, 1]
State = npt.NDArray[np.float64]  # (s,)
Frame = npt.NDArray[np.uint8]  # (frame_px, frame_px, 3)


class Expert(Protocol):
    """A scripted controller of one episode, made after `reset`."""

    def act(self) -> Action:
        """What it does now, clipped to [-1, 1]; looks at the simulator, moves nothing."""


class Simulator(ABC):
    """Episodes of one task; the same seed and actions give the same states and frames.

    Heavy packages are imported by the subclass's constructor. An object belongs to one process and
    is closed before that ends; it renders nothing, and needs no GL, before the first `frame`.
    """

    packages: ClassVar[tuple[str, ...]]  # distributions whose versions change an episode
    action_size: ClassVar[int]
    noisy: ClassVar[tuple[int, ...]]  # the places of an action that noise may be added to

    def __init__(self, rules: Rules) -> None:
        self.check(rules)
        self.rules = rules

    @classmethod
    @abstractmethod
    def check(cls, rules: Rules) -> None:
        """SpecError where no such task can be simulated; imports nothing heavy."""

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Begins the episode of a seed: all that is random in it follows from the seed."""

    @abstractmethod
    def step(self, action: Action) -> bool:
        """Holds an action for one decision; whether the task is solved after it."""

    @abstractmethod
    def state(self) -> State:
        """What a policy without eyes would be told: joints and objects."""

    @abstractmethod
    def frame(self) -> Frame:
        """What the camera sees now, a copy."""

    @abstractmethod
    def expert(self) -> Expert:
        """The scripted controller, for the episode that has just been reset."""

    @abstractmethod
    def close(self) -> None:
        """Frees the renderer and the simulation; may be called twice."""

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


#: Where each suite's rules and simulator are; nothing is imported before it is asked for.
_RULES = {
    "franka_kitchen": "tasks.robot.simulators.kitchen_tasks:RULES",
    "metaworld": "tasks.robot.simulators.metaworld_tasks:RULES",
}
_CLASSES = {
    "franka_kitchen": "tasks.robot.simulators.kitchen:Kitchen",
    "metaworld": "tasks.robot.simulators.metaworld:MetaWorld",
}


def rules_of(suite: str, task: str) -> Rules:
    """The literature's rules of a task."""
    found: dict[str, Rules] = registry.attribute(_RULES[suite])
    return found[task]


def simulator_class(suite: str) -> type[Simulator]:
    """The class of a suite's simulator; its constructor imports the heavy packages."""
    found: type[Simulator] = registry.attribute(_CLASSES[suite])
    return found


def versions_of(suite: str) -> str:
    """The packages that simulate a suite, with their versions: they change episodes and frames.

    Raises:
        MissingPackage: one of them is not installed.
    """
    found = []
    for name in simulator_class(suite).packages:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError as error:
            raise MissingPackage(
                f"{name} is needed here but not installed; pip install 'sslbench[robot]'"
            ) from error
    return ", ".join(found)


def simulate(rules: Rules) -> Simulator:
    """A simulator of the task, not yet reset.

    Raises:
        MissingPackage: the extra `robot` is not installed.
        DataError: its packages are of versions that do not work together.
    """
    return simulator_class(rules.suite)(rules)


def first_frame(suite: str, task: str, seed: int) -> Frame:
    """What the camera sees at the start of a seed's episode, under the task's own rules."""
    simulator = _kept(suite, task)
    simulator.reset(seed)
    return simulator.frame()


@cache
def _kept(suite: str, task: str) -> Simulator:
    """The simulator of a task, kept for its next sample."""
    gl.choose()
    return simulate(rules_of(suite, task))

"""Meta-World v3: one task with goals that follow from the seed, and its shipped expert."""

from __future__ import annotations

import importlib.metadata
import warnings
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from bench import gl
from bench.errors import DataError, SpecError, nearest, require
from tasks.robot.simulators.metaworld_tasks import CAMERAS, RULES
from tasks.robot.simulators.rendering import FrameRenderer
from tasks.robot.simulators.rules import Rules
from tasks.robot.simulators.simulator import Action, Expert, Frame, Simulator, State

GOALS = 50  # of one MT1
LONGEST = 500  # steps, after which the environment refuses to go on


class MetaWorld(Simulator):
    """`MT1(name)`, one of whose 50 goals an episode has.

    Seeds 0 to 49 are the goals of `MT1(name, seed=0)`, which the literature's demonstrations and
    rollouts share; 50 to 99 those of `seed=1`, and so on. `reset(seed=)` of the environment is
    ignored by it, and is not used. An action is a hand's change in x, y, z, and the grip.

    Raises:
        MissingPackage: the extra `robot` is not installed.
        DataError: of a MuJoCo that Meta-World does not run on.
        SpecError: there is no such task or camera, or the horizon is beyond Meta-World's.
    """

    packages: ClassVar[tuple[str, ...]] = ("mujoco", "metaworld", "gymnasium")
    action_size: ClassVar[int] = 4
    noisy: ClassVar[tuple[int, ...]] = (0, 1, 2)

    @classmethod
    def check(cls, rules: Rules) -> None:
        """SpecError where no such task can be simulated."""
        for name, value, known in (("task", rules.name, RULES), ("camera", rules.camera, CAMERAS)):
            if value not in known:
                raise SpecError(f"metaworld has no {name} {value!r}; {nearest(value, known)}")
        if rules.horizon > LONGEST:
            raise SpecError(
                f"metaworld {rules.name}: horizon={rules.horizon}: expected at most {LONGEST}, "
                "where Meta-World's episodes end"
            )

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self._mujoco = gl.mujoco()
        self._env = _environment(f"{rules.name}-v3")
        self._steps = 0
        self._observed = np.zeros(39)
        self._renderer: FrameRenderer | None = None

    def reset(self, seed: int) -> None:
        """The episode of goal `seed` mod 50 among the 50 of block `seed` / 50."""
        block, place = divmod(seed, GOALS)
        with _quiet():
            self._env.set_task(_goals(f"{self.rules.name}-v3", block)[place])
            self._observed, _ = self._env.reset()
        # The last joints that a reset sets (a window pushed open) are not yet where they are drawn;
        # this moves the bodies there and, unlike a whole forward pass, leaves the physics as it is.
        self._mujoco.mj_kinematics(self._env.model, self._env.data)
        self._steps = 0

    def step(self, action: Action) -> bool:
        """Holds an action for `repeat` steps, or for those that are left of the horizon."""
        info: dict[str, Any] = {"success": 0.0}
        held = np.asarray(action, dtype=np.float64)
        with _quiet():
            for _ in range(min(self.rules.repeat, self.rules.horizon - self._steps)):
                self._observed, _, _, _, info = self._env.step(held)
                self._steps += 1
        return bool(info["success"] > 0)

    def state(self) -> State:
        """(39,) MT1's observation, the goal visible: 18 of hand and objects, 18 a step ago, goal.

        What surprises: at reset, window-close tells the handle's place before the window was
        opened, as MT1 does; the frame shows it open.
        """
        return np.array(self._observed, dtype=np.float64)

    def frame(self) -> Frame:
        """What the task's camera sees; turned upright, the scene is mirrored as ever."""
        if self._renderer is None:
            self._renderer = FrameRenderer(self._env.model, self.rules.frame_px, self.rules.profile)
        seen = self._renderer.frame(self._env.data, self.rules.camera)
        return np.ascontiguousarray(seen[::-1]) if self.rules.upright else seen

    def expert(self) -> Expert:
        """The policy that Meta-World ships for the task."""
        return _Scripted(self)

    def close(self) -> None:
        """Frees the renderer and the environment."""
        if self._renderer is not None:
            self._renderer.close()
        self._env.close()


class _Scripted:
    """Meta-World's own policy, clipped: it asks for more than an action can be."""

    def __init__(self, simulator: MetaWorld) -> None:
        policies = require("metaworld.policies", extra="robot").ENV_POLICY_MAP
        self._simulator = simulator
        self._policy = policies[f"{simulator.rules.name}-v3"]()

    def act(self) -> Action:
        with _quiet():
            action = self._policy.get_action(self._simulator.state())
        return np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)


@lru_cache(maxsize=16)
def _goals(name: str, block: int) -> list[Any]:
    """The 50 tasks of one MT1; the global random state stays as it was."""
    metaworld = require("metaworld", extra="robot")
    with _quiet():
        return list(metaworld.MT1(name, seed=block).train_tasks)


def _environment(name: str) -> Any:
    metaworld = require("metaworld", extra="robot")
    try:
        with _quiet():
            return metaworld.ALL_V3_ENVIRONMENTS[name]()
    except ValueError as error:  # equality constraints have another width from 3.17 on
        found = importlib.metadata.version("mujoco")
        raise DataError(
            f"Meta-World does not run on mujoco {found} ({error}): pip install 'mujoco==3.3.0'"
        ) from error


def _quiet() -> Any:
    """Within, warnings of the simulator are not shown: nothing here can mend them."""
    return warnings.catch_warnings(action="ignore")

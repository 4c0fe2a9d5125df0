"""Franka-Kitchen: gymnasium-robotics' model with the literature's tasks, cameras and resets."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import warnings
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench import gl
from bench.errors import DataError, SpecError, nearest, require
from tasks.robot.simulators.kitchen_tasks import GOALS, KETTLE, RANGES, TOLERANCE, VIEWS
from tasks.robot.simulators.rendering import FrameRenderer
from tasks.robot.simulators.rules import Rules
from tasks.robot.simulators.simulator import Action, Expert, Frame, Simulator, State

ROBOT_JOINTS = 9  # seven of the arm, two fingers
_SPANS = {joint: (span,) for joint, span in RANGES.items()} | {"kettle": KETTLE}


class Kitchen(Simulator):
    """FrankaKitchen-v1 as a simulator only: reset, success and cameras are those of `Rules`.

    An action is nine joint velocities, 1.0 being 2 rad/s (m/s for fingers), for 0.08 s. The
    environment commands positions relative to the joints that it read last, with a little noise on
    the reading; both follow from the seed.

    Raises:
        MissingPackage: the extra `robot` is not installed.
        DataError: of a MuJoCo that this kitchen does not run on.
        SpecError: there is no such task or camera.
    """

    packages: ClassVar[tuple[str, ...]] = ("mujoco", "gymnasium", "gymnasium-robotics")
    action_size: ClassVar[int] = ROBOT_JOINTS
    noisy: ClassVar[tuple[int, ...]] = tuple(range(7))

    @classmethod
    def check(cls, rules: Rules) -> None:
        """SpecError where no such task can be simulated."""
        for name, value, known in (
            ("task", rules.name, GOALS),
            ("camera", rules.camera, VIEWS),
        ):
            if value not in known:
                raise SpecError(f"franka_kitchen has no {name} {value!r}; {nearest(value, known)}")

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self.goal = GOALS[rules.name]
        self._mujoco = gl.mujoco()
        self._env = _environment()
        robot = self._env.robot_env
        self.model, self.data, self._robot = robot.model, robot.data, robot
        self._place = int(self.model.joint(self.goal.joint).qposadr[0])
        self._allowed = np.full(self.model.nv, np.inf)  # how far each may be from its start
        for joint, spans in _SPANS.items():
            if joint != self.goal.joint:
                first = int(self.model.joint(joint).dofadr[0])
                self._allowed[first : first + len(spans)] = TOLERANCE * np.array(spans)
        self._start, self._steps = self.data.qpos.copy(), 0
        self._renderer: FrameRenderer | None = None

    def reset(self, seed: int) -> None:
        """The arm at a random pose around the usual one, the kitchen as it always is."""
        self._env.reset(seed=seed)
        rng, pose = np.random.default_rng(seed), self.data.qpos.copy()
        low, high = self.model.jnt_range[:ROBOT_JOINTS].T
        moved = self.rules.reset_noise * (rng.uniform(size=ROBOT_JOINTS) - 0.5) * (high - low)
        pose[:ROBOT_JOINTS] = np.clip(pose[:ROBOT_JOINTS] + moved, low, high)
        self.put(pose, begin=True)

    def step(self, action: Action) -> bool:
        """Joint velocities for `repeat` steps of 0.08 s, or for those left of the horizon."""
        held = np.asarray(action, dtype=np.float64)
        for _ in range(min(self.rules.repeat, self.rules.horizon - self._steps)):
            self._env.step(held)
            self._steps += 1
        return self.solved()

    def put(self, joints: State, begin: bool = False) -> None:
        """All (30,) joints where they are told to be, at rest; `begin` as if after a reset."""
        self._robot.set_state(np.array(joints), np.zeros_like(self.data.qvel))
        self._robot._get_obs()  # the next command is relative to the joints that are read here
        if begin:
            self._start, self._steps = self.data.qpos.copy(), 0

    def solved(self) -> bool:
        """Whether the task's joint is at its goal, and all else of the kitchen where it was."""
        moved = np.zeros(self.model.nv)
        self._mujoco.mj_differentiatePos(self.model, moved, 1.0, self._start, self.data.qpos)
        near = abs(self.opening() - self.goal.value) < TOLERANCE * RANGES[self.goal.joint]
        return bool(near and (np.abs(moved) < self._allowed).all())

    def opening(self) -> float:
        """Where the task's joint is, in radians or metres."""
        return float(self.data.qpos[self._place])

    def state(self) -> State:
        """(30,) all joints: 9 of the robot, 21 of the kitchen."""
        return np.array(self.data.qpos, dtype=np.float64)

    def frame(self) -> Frame:
        """What the task's camera sees."""
        if self._renderer is None:
            self._renderer = FrameRenderer(self.model, self.rules.frame_px, self.rules.profile)
            self._camera = self._free_camera()
        seen = self._renderer.frame(self.data, self._camera)
        return np.ascontiguousarray(seen[::-1]) if self.rules.upright else seen

    def expert(self) -> Expert:
        """The scripted controller of this task."""
        from tasks.robot.simulators.kitchen_control import KitchenExpert

        return KitchenExpert(self)

    def close(self) -> None:
        """Frees the renderer and the environment."""
        if self._renderer is not None:
            self._renderer.close()
        self._env.close()

    def _free_camera(self) -> Any:
        """The camera of the literature, which follows a body that never moves."""
        import mujoco

        view = VIEWS[self.rules.camera]
        target = self.data.body(view.target).xpos.copy()
        ray: npt.NDArray[np.float64] = target - np.asarray(view.eye)
        camera = mujoco.MjvCamera()
        camera.lookat[:], camera.distance = target, np.linalg.norm(ray)
        camera.azimuth = np.degrees(np.arctan2(ray[1], ray[0]))
        camera.elevation = np.degrees(np.arcsin(ray[2] / camera.distance))
        return camera


def _environment() -> Any:
    """The environment without its own tasks, horizon and notices."""
    heard = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(heard):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stderr(heard):  # the notice of another environment
            require("gymnasium_robotics", extra="robot")
            from gymnasium_robotics.envs.franka_kitchen import KitchenEnv

            options = {"terminate_on_tasks_completed": False, "remove_task_when_completed": False}
            try:
                return KitchenEnv(tasks_to_complete=["microwave"], **options)
            except AssertionError as error:  # joint types are told in another way from 3.12 on
                found = importlib.metadata.version("mujoco")
                raise DataError(
                    f"FrankaKitchen-v1 does not run on mujoco {found} (works from 3.3.0 to "
                    "3.11.0): pip install 'mujoco==3.3.0'"
                ) from error

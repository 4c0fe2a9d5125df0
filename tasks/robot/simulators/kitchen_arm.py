"""The kitchen's arm: poses of the hand, and the joints that reach them (inverse kinematics)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Pose = tuple[Vector, Vector]  # grip centre (3,) in metres, hand frame (3, 3)

JOINTS = 7
#: The command is clipped to these; joint 6 must stay above 0, where the environment clips too.
LOWEST = np.array([-2.85, -1.76, -2.85, -3.05, -2.85, 0.02, -2.85])
HIGHEST = np.array([2.85, 1.76, 2.85, -0.41, 2.85, 2.10, 2.85])
GRIP = 0.033  # metres from the end-effector site to between the finger tips
_TURN = 0.3  # metres that a radian of rotation error weighs
_DAMPING = 0.03
_LARGEST = 0.2  # radians that a joint moves in an iteration


def hand(yaw: float = 0.0, pitch: float = 0.0) -> Vector:
    """(3, 3) frame of a hand that looks ahead: columns are up, the fingers' axis, and ahead.

    At yaw 0 it looks at the kitchen (+y), a positive yaw turns it to the robot's left; a positive
    pitch looks up. Radians.
    """
    forward = ahead(yaw, pitch)
    fingers = finger_axis(yaw)
    return np.stack([np.cross(fingers, forward), fingers, forward], axis=1)


def ahead(yaw: float, pitch: float = 0.0) -> Vector:
    """(3,) unit vector in which a hand looks."""
    flat = np.cos(pitch)
    return np.array([-np.sin(yaw) * flat, np.cos(yaw) * flat, np.sin(pitch)])


def finger_axis(yaw: float) -> Vector:
    """(3,) unit vector from the left finger to the right one."""
    return np.array([np.cos(yaw), np.sin(yaw), 0.0])


def turned(point: Vector, angle: float) -> Vector:
    """(2,) a point of the plane turned about the origin."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([c * point[0] - s * point[1], s * point[0] + c * point[1]])


def rotation_vector(rotation: Vector) -> Vector:
    """(3,) axis times angle of a rotation matrix."""
    import mujoco

    quaternion, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).reshape(-1))
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector


def rotated_towards(start: Vector, goal: Vector, most: float) -> Vector:
    """(3, 3) `start` turned towards `goal` by at most so many radians."""
    import mujoco

    vector = rotation_vector(goal @ start.T)
    angle = float(np.linalg.norm(vector))
    if angle < 1e-6:
        return start
    quaternion, matrix = np.zeros(4), np.zeros(9)
    mujoco.mju_axisAngle2Quat(quaternion, vector / angle, min(angle, most))
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3) @ start


class Arm:
    """Kinematics on a copy of the simulation, which it never touches."""

    def __init__(self, model: Any) -> None:
        import mujoco

        self._model, self._data = model, mujoco.MjData(model)
        self._site = model.site("end_effector").id
        self._body = int(model.site_bodyid[self._site])

    def load(self, joints: Vector) -> None:
        """Takes over all joints of the scene, (nq,)."""
        self._data.qpos[:] = joints

    def pose(self, q: Vector) -> Pose:
        """Where the hand is with the arm's joints at q (7,)."""
        import mujoco

        self._data.qpos[:JOINTS] = q
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        frame = self._data.site_xmat[self._site].reshape(3, 3).copy()
        return self._data.site_xpos[self._site] + GRIP * frame[:, 2], frame

    def gravity(self, joints: Vector) -> Vector:
        """(7,) torques that hold the arm still with all joints of the scene as given."""
        import mujoco

        self._data.qpos[:] = joints
        self._data.qvel[:] = 0
        mujoco.mj_fwdPosition(self._model, self._data)
        mujoco.mj_fwdVelocity(self._model, self._data)
        return np.array(self._data.qfrc_bias[:JOINTS])

    def solve(
        self,
        q: Vector,
        pose: Pose,
        weights: tuple[float, float, float],
        iterations: int = 20,
        cap: float | None = None,
    ) -> Vector:
        """(7,) joints near q that bring the hand to a pose, by damped least squares.

        `weights` are how much errors about the hand's own axes count (yaw, pitch, roll). Joints at
        a limit are left out of the solution; none moves by more than `cap` radians in all.
        """
        position, frame = pose
        begin, q, w = np.array(q), np.array(q), np.asarray(weights)
        for _ in range(iterations):
            at, now = self.pose(q)
            turn = frame.T @ rotation_vector(frame @ now.T)
            error = np.concatenate([position - at, _TURN * w * turn])
            change = self._change(q, error, frame, w, at)
            q = np.clip(q + np.clip(change, -_LARGEST, _LARGEST), LOWEST, HIGHEST)
            if cap is not None:
                q = np.clip(q, begin - cap, begin + cap)
            if np.linalg.norm(position - at) < 5e-4 and np.linalg.norm(w * turn) < 5e-3:
                break
        return q

    def _change(self, q: Vector, error: Vector, frame: Vector, w: Vector, at: Vector) -> Vector:
        """(7,) the step against an error (6,) = J dq, without joints that are at a limit."""
        import mujoco

        moves, turns = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        mujoco.mj_jac(self._model, self._data, moves, turns, at, self._body)
        weighted = _TURN * w[:, None] * (frame.T @ turns[:, :JOINTS])
        jacobian = np.concatenate([moves[:, :JOINTS], weighted])  # (6, 7)
        free = np.ones(JOINTS)
        for _ in range(3):
            used = jacobian * free
            square = used @ used.T + _DAMPING**2 * np.eye(6)
            change: Vector = used.T @ np.linalg.solve(square, error)
            low, high = q <= LOWEST + 1e-6, q >= HIGHEST - 1e-6
            stuck = (low & (change < 0)) | (high & (change > 0))
            if not (stuck & (free > 0)).any():
                break
            free[stuck] = 0
        return change

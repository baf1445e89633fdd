"""A body that moves with constant bones, and cameras around it: truth for tests of two-view 3D."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from scipy.spatial.transform import Rotation

from twoview.geometry.cameras import principal_point, project
from twoview.reconstruction.self_calibration import TakeArrays
from twoview.skeleton import H36M17

_OFFSET = {
    "right_hip": (-0.13, 0, 0), "right_knee": (0, 0.42, 0), "right_ankle": (0, 0.42, 0), "left_hip": (0.13, 0, 0),
    "left_knee": (0, 0.42, 0), "left_ankle": (0, 0.42, 0), "spine": (0, -0.22, 0), "thorax": (0, -0.26, 0),
    "nose": (0, -0.12, -0.05), "head": (0, -0.11, 0), "left_shoulder": (0.17, 0, 0), "left_elbow": (0, 0.29, 0),
    "left_wrist": (0, 0.26, 0), "right_shoulder": (-0.17, 0, 0), "right_elbow": (0, 0.29, 0),
    "right_wrist": (0, 0.26, 0),
}  # fmt: skip


def moving_body(frames: int, rng: np.random.Generator, *, rate: float = 30.0, travel: float = 0.3) -> Array:
    """Joints (T, 17, 3) m, y down, of a body that swings its limbs, turns and travels."""
    time = np.arange(frames)[:, None] / rate
    joints = np.zeros((frames, 17, 3))
    turn = np.tile(np.eye(3), (frames, 17, 1, 1))
    slow = rng.uniform(0.2, 0.5, 3)
    joints[:, 0] = travel * np.sin(2 * np.pi * slow * time + rng.uniform(0, 6, 3)) * [1, 0.2, 1]
    turn[:, 0] = _turn(0.5 * np.sin(2 * np.pi * slow[0] * time) * [0.1, 1.0, 0.1])
    for parent, child in H36M17.bones:
        limb = H36M17.joints[child].split("_")[-1] in ("knee", "ankle", "elbow", "wrist")
        size = rng.uniform(0.4, 0.9, 3) if limb else rng.uniform(0.02, 0.1, 3)
        swing = size * np.sin(2 * np.pi * rng.uniform(0.4, 1.0, 3) * time + rng.uniform(0, 6, 3))
        turn[:, child] = turn[:, parent] @ _turn(swing)
        joints[:, child] = joints[:, parent] + turn[:, child] @ np.array(_OFFSET[H36M17.joints[child]])
    return joints


def around(angle_deg: float, distance: float = 4.0) -> tuple[Array, Array]:
    """Rotation and translation of a camera that looks at the origin from so many degrees around it."""
    return _turn(np.array([0.02, np.radians(angle_deg), 0.01])), np.array([0.05, -0.1, distance])


def two_views(
    body: Array,
    rng: np.random.Generator,
    *,
    angles: tuple[float, ...] = (0.0, 90.0),
    noise: float = 0.0,
    delay_frames: float = 0.0,
    turn_deg: float = 12.0,
    error_m: float = 0.08,
    focal: float = 1500.0,
) -> tuple[TakeArrays, Array]:
    """What phones would see of a body (T, 17, 3), and its joints in each camera's axes, (V, T, 17, 3) m.

    noise       sigma as a share of the body's size
    delay       the last view shows the scene so many frames later
    turn, error how wrong the lifter's start is
    """
    frames, size = len(body), np.array([1920.0, 1080.0])
    xy, truth, start = [], [], []
    for index, angle in enumerate(angles):
        rotation, translation = around(angle, 4.0 + 0.7 * index)
        at = np.clip(np.arange(frames) - delay_frames * (index == len(angles) - 1), 0, frames - 1)
        low = np.minimum(at.astype(int), frames - 2)
        share = (at - low)[:, None, None]
        seen = (body[low] * (1 - share) + body[low + 1] * share) @ rotation.T + translation
        pixels = project(seen, focal) + principal_point(size)
        body_px = 1.75 * focal / seen[:, :1, 2:]
        xy.append(pixels + noise * body_px * rng.normal(size=pixels.shape))
        wrong = _turn(np.radians(turn_deg) * _unit(rng))
        lifted = (seen - seen[:, :1]) @ wrong.T + error_m / np.sqrt(3) * rng.normal(size=(1, 17, 3))
        start.append(lifted * rng.uniform(0.7, 1.3))
        truth.append(seen)
    score = np.full((len(angles), frames, 17), 0.9)
    tracks = TakeArrays(np.array(xy), score, np.arange(frames) / 30, np.tile(size, (len(angles), 1)), np.array(start))
    return tracks, np.array(truth)


def _turn(vector: Array) -> Array:
    return Rotation.from_rotvec(vector).as_matrix()


def _unit(rng: np.random.Generator) -> Array:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def error_mm(found: Array, truth: Array) -> float:
    """Mean distance of root-relative joints (T, J, 3) after one scale for the whole take, mm of a body as true."""
    a, b = found - found[:, :1], truth - truth[:, :1]
    return float(1000 * np.linalg.norm(a * (a * b).sum() / (a * a).sum() - b, axis=-1).mean())


def turn_error_deg(found: Array, tracks_angles: tuple[float, float]) -> float:
    """Degrees between a found rotation and that between two cameras of `around`."""
    true = around(tracks_angles[1])[0] @ around(tracks_angles[0])[0].T
    return float(np.degrees(Rotation.from_matrix(found @ true.T).magnitude()))

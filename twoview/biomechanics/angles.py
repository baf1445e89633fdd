"""Joint angles from 3D poses, in degrees: what each is measured between, its zero and its sign stand in ANGLES.

All but the last five need no gravity: they are angles between parts of the body, the same in any axes and units.
`docs/reference/angles.md` shows a picture of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from twoview.poses import Poses3D

SIDES = ("right", "left")
LEAST_SEEN = 0.25  # share of a limb that has to lie in the plane where its flexion is measured: 14 degrees off the axis
LOWEST = -120.0  # flexion of hip and shoulder is told from here up: an arm overhead is 180, and reaches behind beyond


@dataclass(frozen=True)
class Angle:
    """What an angle is.

    between   the parts it is measured between, and the plane
    zero      the pose in which it is 0
    positive  what makes it larger
    joints    joints that it needs, without their side where the angle has one
    sided     whether there is one for each side
    opensim   coordinate of OpenSim's full-body models, without its side, and the sign in it; "" where it has none
    upright   whether it needs to know where up is
    """

    between: str
    zero: str
    positive: str
    joints: tuple[str, ...]
    sided: bool = True
    opensim: tuple[str, int] = ("", 1)
    upright: bool = False


_TRUNK = ("hip", "shoulder")

# Name, without its side -> what it is. Order of columns in files.
ANGLES: dict[str, Angle] = {
    "hip_flexion": Angle(
        "thigh and trunk, in the plane across the hip line", "thigh in line with the trunk",
        "knee forward", (*_TRUNK, "knee"), opensim=("hip_flexion", 1),
    ),
    "hip_abduction": Angle(
        "thigh and the plane across the hip line", "thigh in that plane", "knee outward, away from the other leg",
        (*_TRUNK, "knee"), opensim=("hip_adduction", -1),
    ),
    "knee_flexion": Angle(
        "thigh and shank", "leg straight", "heel towards the seat; overstretching counts as flexion too",
        ("hip", "knee", "ankle"), opensim=("knee_angle", 1),
    ),
    "ankle_dorsiflexion": Angle(
        "shank and foot, from the heel to the toes", "foot at a right angle to the shank",
        "toes up; toes down: negative", ("knee", "ankle", "heel", "big_toe"), opensim=("ankle_angle", 1),
    ),
    "shoulder_flexion": Angle(
        "upper arm and trunk, in the plane across the shoulder line", "arm hanging along the trunk",
        "elbow forward and up; overhead: 180", (*_TRUNK, "elbow"), opensim=("arm_flex", 1),
    ),
    "shoulder_abduction": Angle(
        "upper arm and the plane across the shoulder line", "upper arm in that plane",
        "elbow outward; across the chest: negative", (*_TRUNK, "elbow"), opensim=("arm_add", -1),
    ),
    "shoulder_elevation": Angle(
        "upper arm and the trunk downward, in whatever plane", "arm hanging along the trunk",
        "elbow up in any direction", (*_TRUNK, "elbow"),
    ),
    "elbow_flexion": Angle(
        "upper arm and forearm", "arm straight", "hand towards the shoulder", ("shoulder", "elbow", "wrist"),
        opensim=("elbow_flex", 1),
    ),
    "trunk_side_bend": Angle(
        "trunk and the plane across the hip line", "trunk at a right angle to the hip line", "to the right", _TRUNK,
        sided=False, opensim=("lumbar_bending", 1),
    ),
    "x_factor": Angle(
        "shoulder line and hip line, seen along the trunk", "lines parallel",
        "shoulders turned to the left of the pelvis", _TRUNK, sided=False, opensim=("lumbar_rotation", 1),
    ),
    "trunk_lean": Angle(
        "trunk and up, in the vertical plane across the hip line", "trunk upright", "forward", _TRUNK, sided=False,
        upright=True,
    ),
    "trunk_side_lean": Angle(
        "trunk and the vertical plane across the hip line", "trunk in that plane", "to the right", _TRUNK, sided=False,
        upright=True,
    ),
    "pelvis_list": Angle(
        "hip line and the floor", "hips level", "right hip higher", ("hip",), sided=False, upright=True,
    ),
    "pelvis_turn": Angle(
        "the pelvis's front and the way to the camera, seen from above", "facing the camera",
        "turned to the left; goes on beyond 180 when the athlete does", ("hip",), sided=False, upright=True,
    ),
    "shoulder_turn": Angle(
        "the chest's front and the way to the camera, seen from above", "facing the camera",
        "turned to the left; goes on beyond 180 when the athlete does", ("shoulder",), sided=False, upright=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Motion:
    """How far and how fast a joint moved.

    low, high  degrees, smallest and largest
    speed      degrees per second, the largest change in either direction, with its sign; NaN for a single frame
    speed_at   s, when that was
    """

    low: float
    high: float
    speed: float
    speed_at: float

    @property
    def range(self) -> float:
        """Range of motion in degrees."""
        return self.high - self.low


@dataclass(frozen=True, eq=False)
class Angles:
    """Angles of one person over time.

    time     (T,) s, the view's own clock
    degrees  name, such as "right_knee_flexion" -> (T,) degrees; NaN where unknown
    view, filter  of the poses
    """

    time: Array
    degrees: Mapping[str, Array]
    view: str = ""
    filter: str = ""

    def __len__(self) -> int:
        return len(self.time)

    def velocity(self, name: str) -> Array:
        """Degrees per second (T,): from the frame before to the frame after; NaN beside a gap.

        Noise of the poses grows with the frame rate here: smooth them first (`filter_poses`) to read peaks.
        """
        values = self.degrees[name]
        out = np.full(len(values), np.nan)
        if len(values) > 2:
            out[1:-1] = _shortest(values[2:] - values[:-2]) / (self.time[2:] - self.time[:-2])
            out[1:-1][np.isnan(values[1:-1])] = np.nan
        return out

    def motion(self, name: str) -> Motion:
        """Range of motion and peak angular velocity. Raises ValueError for an angle that no frame shows."""
        values, speed = self.degrees[name], self.velocity(name)
        if not np.isfinite(values).any():
            raise ValueError(f"Angles.motion: no frame shows {name}")
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        if not np.isfinite(speed).any():
            return Motion(low, high, float("nan"), float("nan"))
        peak = int(np.nanargmax(np.abs(speed)))
        return Motion(low, high, float(speed[peak]), float(self.time[peak]))


def angles(poses: Poses3D, *, up: Sequence[float] | Array | None = None) -> Angles:
    """All angles of ANGLES that the poses' joints allow.

    up  where up is, (3,) in the axes of the poses, of any length; without it angles that need it are left out

    Raises ValueError for an `up` that is no direction.
    """
    body = _Body(poses, None if up is None else _direction(up))
    found: dict[str, Array] = {}
    for name, about in ANGLES.items():
        if about.upright and body.up is None:
            continue
        if not all(body.knows(joint) for joint in about.joints):
            continue
        if about.sided:
            found |= {f"{side}_{name}": _SIDED[name](body, side) for side in SIDES}
        else:
            found[name] = _WHOLE[name](body)
    return Angles(poses.time, {name: np.degrees(values) for name, values in found.items()}, poses.view, poses.filter)


def pelvis_frame(poses: Poses3D) -> tuple[Array, Array, Array]:
    """Right, up and forward (T, 3) of the pelvis, by the line of the hips and the trunk; NaN where unknown."""
    return _Body(poses, None).frame("hip")


class _Body:
    """Points and directions of a body over time, (T, 3) each."""

    def __init__(self, poses: Poses3D, up: Array | None) -> None:
        self.poses, self.up = poses, up

    def knows(self, joint: str) -> bool:
        return all(f"{side}_{joint}" in self.poses.skeleton.joints for side in SIDES)

    def at(self, joint: str) -> Array:
        xyz: Array = self.poses.xyz[:, self.poses.skeleton.index(joint)].astype(np.float64)
        return xyz

    def bone(self, side: str, upper: str, lower: str) -> Array:
        """Unit direction from one joint of a side to another."""
        return _unit(self.at(f"{side}_{lower}") - self.at(f"{side}_{upper}"))

    def across(self, joint: str) -> Array:
        """Unit direction from the left to the right hip or shoulder."""
        return _unit(self.at(f"right_{joint}") - self.at(f"left_{joint}"))

    def trunk(self) -> Array:
        """Unit direction from the middle of the hips to the middle of the shoulders."""
        low, high = ((self.at(f"right_{joint}") + self.at(f"left_{joint}")) / 2 for joint in _TRUNK)
        return _unit(high - low)

    def frame(self, joint: str) -> tuple[Array, Array, Array]:
        """Right, up and forward at the hips or the shoulders: their line, and the trunk made square to it."""
        right = self.across(joint)
        trunk = self.trunk()
        up = _unit(trunk - _dot(trunk, right)[:, None] * right)
        return right, up, np.cross(up, right)

    def front(self, joint: str) -> tuple[Array, Array, Array]:
        """Right, up and forward of the hips or the shoulders with `up` for up: right and forward are level."""
        up = np.broadcast_to(np.asarray(self.up), (len(self.poses), 3))
        line = self.across(joint)
        right = _unit(line - _dot(line, up)[:, None] * up)
        return right, up, np.cross(up, right)


def _limb_flexion(body: _Body, side: str, upper: str, lower: str) -> Array:
    _, up, forward = body.frame(upper)
    bone = body.bone(side, upper, lower)
    ahead, down = _dot(bone, forward), -_dot(bone, up)
    seen = np.hypot(ahead, down) > LEAST_SEEN  # else it points along the axis, and turns about it are nothing
    angle = np.where(seen, np.arctan2(ahead, down), np.nan)
    lowest = np.radians(LOWEST)
    return np.asarray((angle - lowest) % (2 * np.pi) + lowest)


def _limb_abduction(body: _Body, side: str, upper: str, lower: str) -> Array:
    outward = body.frame(upper)[0] * (1 if side == "right" else -1)
    return np.asarray(np.arcsin(np.clip(_dot(body.bone(side, upper, lower), outward), -1, 1)))


def _shoulder_elevation(body: _Body, side: str) -> Array:
    return _between(body.bone(side, "shoulder", "elbow"), -body.trunk())


def _bend(body: _Body, side: str, *joints: str) -> Array:
    upper, middle, lower = joints
    return _between(body.bone(side, upper, middle), body.bone(side, middle, lower))


def _ankle(body: _Body, side: str) -> Array:
    toes = [body.at(f"{side}_{toe}") for toe in ("big_toe", "small_toe") if body.knows(toe)]
    foot = _unit(np.mean(toes, axis=0) - body.at(f"{side}_heel"))
    return np.asarray(np.pi / 2 - _between(foot, body.bone(side, "ankle", "knee")))


def _side_bend(body: _Body) -> Array:
    return np.asarray(np.arcsin(np.clip(_dot(body.trunk(), body.across("hip")), -1, 1)))


def _x_factor(body: _Body) -> Array:
    trunk = body.trunk()
    hips, shoulders = (
        line - _dot(line, trunk)[:, None] * trunk for line in (body.across("hip"), body.across("shoulder"))
    )
    return np.asarray(np.arctan2(_dot(np.cross(hips, shoulders), trunk), _dot(hips, shoulders)))


def _lean(body: _Body) -> Array:
    _, up, forward = body.front("hip")
    trunk = body.trunk()
    return np.asarray(np.arctan2(_dot(trunk, forward), _dot(trunk, up)))


def _side_lean(body: _Body) -> Array:
    return np.asarray(np.arcsin(np.clip(_dot(body.trunk(), body.front("hip")[0]), -1, 1)))


def _list(body: _Body) -> Array:
    return np.asarray(np.arcsin(np.clip(_dot(body.across("hip"), body.front("hip")[1]), -1, 1)))


def _turn(body: _Body, joint: str) -> Array:
    _, up, forward = body.front(joint)
    to_camera = np.array([0.0, 0.0, -1.0])
    level = to_camera - _dot(up, to_camera)[:, None] * up
    angle = np.array(np.arctan2(_dot(np.cross(level, forward), up), _dot(level, forward)))
    known = np.isfinite(angle)
    angle[known] = np.unwrap(angle[known])
    return np.asarray(angle)


_SIDED: dict[str, Callable[[_Body, str], Array]] = {
    "hip_flexion": lambda body, side: _limb_flexion(body, side, "hip", "knee"),
    "hip_abduction": lambda body, side: _limb_abduction(body, side, "hip", "knee"),
    "knee_flexion": lambda body, side: _bend(body, side, "hip", "knee", "ankle"),
    "ankle_dorsiflexion": _ankle,
    "shoulder_flexion": lambda body, side: _limb_flexion(body, side, "shoulder", "elbow"),
    "shoulder_abduction": lambda body, side: _limb_abduction(body, side, "shoulder", "elbow"),
    "shoulder_elevation": _shoulder_elevation,
    "elbow_flexion": lambda body, side: _bend(body, side, "shoulder", "elbow", "wrist"),
}
_WHOLE: dict[str, Callable[[_Body], Array]] = {
    "trunk_side_bend": _side_bend,
    "x_factor": _x_factor,
    "trunk_lean": _lean,
    "trunk_side_lean": _side_lean,
    "pelvis_list": _list,
    "pelvis_turn": lambda body: _turn(body, "hip"),
    "shoulder_turn": lambda body: _turn(body, "shoulder"),
}


def _direction(up: Sequence[float] | Array) -> Array:
    value = np.asarray(up, dtype=np.float64)
    length = np.linalg.norm(value) if value.shape == (3,) else np.nan
    if not (np.isfinite(length) and length > 0):
        raise ValueError(f"angles: up should be a direction of three numbers, got {up}")
    return np.asarray(value / length)


def _unit(vectors: Array) -> Array:
    """Vectors (T, 3) of length 1; NaN for one without a length."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, np.nan))


def _dot(a: Array, b: Array) -> Array:
    return np.asarray((a * b).sum(axis=-1))


def _between(a: Array, b: Array) -> Array:
    """Angle (T,) from 0 to pi between vectors (T, 3), exact also where it is small."""
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), _dot(a, b)))


def _shortest(degrees: Array) -> Array:
    """The same turn the short way round: -180 to 180."""
    return np.asarray((degrees + 180) % 360 - 180)

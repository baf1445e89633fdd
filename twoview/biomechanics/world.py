"""The world of an athlete: where up and the floor are, found from cameras, feet and balance.

Three things tell where up is. Phones are held nearly level: the x axis of a picture is nearly horizontal, and the phone
looks slightly down. Feet that stand are on one level floor. And who does not fall has the body's center of mass above
the feet, on average over the time that these stand. Each counts by its sigma, and all sigmas give that of `up`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray as Array

from twoview.biomechanics.contacts import FEET, ankles, smoothed, spans, speed, standing
from twoview.config import AXES
from twoview.errors import FormatError
from twoview.geometry.cameras import principal_point
from twoview.poses import Axes, Poses2D, Poses3D, World
from twoview.skeleton import H36M17, STATURE_M, Skeleton, stature

if TYPE_CHECKING:
    from twoview.reconstruction.triangulation import Triangulation

ROLL_DEG = 2.5  # sigma of a phone's roll
PITCH_DEG, PITCH_SIGMA_DEG = 5.0, 12.0  # how far phones look down
LEVEL_SIGMA_DEG = 0.5  # of a phone that is taken as level
FLOOR_M = 0.03  # sigma of a standing ankle's height over the floor's mean
FLOORS = 8  # standing feet count as so many at most: their errors are alike
BALANCE_M = 0.05  # sigma of the center of mass from the middle of the feet, over a whole recording
SPEED_CHANGE = 0.3  # m/s by which an athlete's speed may differ between start and end
GRAVITY = 9.81
LOWEST_CENTER_M = 0.2  # of the center of mass above the feet, for balance to tell anything
ANKLE_M = 0.11  # height of a standing ankle above the floor, with the shoe's sole, for a stature of 1.75 m
ANKLE_SIGMA_M = 0.03
TOES_AHEAD_M = 0.04  # of the ankle: the middle of a foot's pressure
SLOW = 0.4  # m/s: ankles slower than this may stand
ROUNDS = 4
ONE_VIEW_BLUR = 2.0  # of heights of feet and of balance that a lifter places; contacts count a quarter of the excess
ONE_VIEW_M, ONE_VIEW_SHARE = 0.05, 0.1  # sigma of a path from one view, and its growth with the distance from its start
LEAST_SEEN = 5  # joints of 17
SCALE_SIGMA = 0.02  # of a length that comes from the athlete's height


@dataclass(frozen=True, eq=False)
class KnownCamera:
    """What a solved take tells about a phone that stands where it stood then.

    up        (3,) of length 1, in its camera axes, with its sigma
    focal_px  of the picture's size
    """

    up: Array
    up_sigma_deg: float
    focal_px: float


@dataclass(frozen=True, eq=False)
class Ground:
    """Up and the floor in the axes of points, with their sigmas.

    up      (3,)       of length 1
    level   m          height of the floor along `up`
    contact (T, 2)     whether the right and the left foot stand
    source             what tells it, in words
    """

    up: Array
    level: float
    contact: Array
    up_sigma_deg: float
    floor_sigma_m: float
    source: str


def find_ground(
    points: Array,
    time: Array,
    cameras: Sequence[Array],
    *,
    skeleton: Skeleton = H36M17,
    stature_m: float = STATURE_M,
    level: bool = False,
    known: KnownCamera | None = None,
    blur: float = 1.0,
) -> Ground | None:
    """Where up and the floor are, for an athlete before cameras that stand still; None where no foot is seen.

    points   (T, J, 3) m  in the axes of the first camera; NaN where unknown
    time     (T,) s
    cameras  rotations (3, 3) from these axes to those of every camera
    level    the cameras are level: the picture's up is up, whatever the body says
    known    what is known of the first camera; its sigma counts
    blur     factor to the sigmas of feet and balance, for points that are known less well
    """
    feet = ankles(points, skeleton)
    if not np.isfinite(feet).any():
        return None
    step_s = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    phones = [_Phone(camera, level=level) for camera in cameras]
    up = _unit(sum((phone.camera.T @ [0.0, -1.0, 0.0] for phone in phones), np.zeros(3)))
    slow = feet[speed(time, feet) < SLOW]
    ankle = float(np.median(slow @ up)) if len(slow) else float(np.nanmin(feet @ up))
    contact, places, found = np.zeros(feet.shape[:2], dtype=bool), np.empty((0, 3)), _Normal(up)
    for _ in range(ROUNDS):
        contact = standing(time, feet, up, ankle, blur=(3 + blur) / 4)
        places = np.array([feet[span, foot].mean(axis=0) for foot, span in spans(contact)]).reshape(-1, 3)
        ankle = float(np.median(places @ up)) if len(places) else ankle
        found = _Normal(up)
        for phone in phones:
            phone.add(found)
        if known is not None:
            found.add_direction(known.up, np.radians(known.up_sigma_deg))
        if not level:
            found.add_floor(places, ankle, FLOOR_M * blur)
            found.add_balance(_above_feet(points, contact, up, skeleton), step_s, BALANCE_M * blur)
        up = found.solved()
        lowest = places if len(places) else slow if len(slow) else feet[np.isfinite(feet).all(axis=-1)]
        ankle = float(np.median(lowest @ up))
    spread = float(np.std(places @ up)) / max(len(places), 1) ** 0.5 if len(places) > 1 else FLOOR_M
    below = ANKLE_M * stature_m / STATURE_M
    sigma = float(np.hypot(ANKLE_SIGMA_M, spread)) if len(places) else 0.1
    source = "the phones, taken as level" if level else "how phones are held"
    if not level and len(places):
        source = "how phones are held, standing feet and balance"
    if known is not None and not level:
        source = f"the camera of a solved take, {source}"
    return Ground(up, ankle - below, contact, found.sigma_deg, sigma, source)


def center_of_mass(points: Array, skeleton: Skeleton = H36M17) -> Array:
    """The body's center of mass (T, 3) of points (T, J, 3), by de Leva's shares; NaN where a large part is unknown."""

    def at(joint: str) -> Array:
        return np.asarray(points[:, skeleton.index(joint)], dtype=np.float64)

    def middle(joint: str) -> Array:
        return np.asarray((at(f"right_{joint}") + at(f"left_{joint}")) / 2)

    shoulders, hips = middle("shoulder"), middle("hip")
    total = _HEAD * at("nose") + _TRUNK[0] * (shoulders + _TRUNK[1] * (hips - shoulders))
    mass = _HEAD + _TRUNK[0]
    for side in FEET:
        for (upper, lower), (share, along) in _LIMBS.items():
            start, end = at(f"{side}_{upper}"), at(f"{side}_{lower}")
            total = total + share * (start + along * (end - start))
            mass += share
    return np.asarray(total / mass)


# Shares of the body's mass, and where along the segment their centers lie (de Leva 1996, means of women and men).
_HEAD, _TRUNK = 0.068, (0.430, 0.43)
_LIMBS = {
    ("shoulder", "elbow"): (0.026, 0.575), ("elbow", "wrist"): (0.021, 0.60), ("hip", "knee"): (0.145, 0.385),
    ("knee", "ankle"): (0.046, 0.44), ("ankle", "ankle"): (0.013, 0.0),
}  # fmt: skip


def two_view_worlds(found: Triangulation, *, level: bool = False) -> dict[str, World]:
    """View -> the world of a triangulated take: one for all views, seen from each; {} where it cannot be found.

    Its origin is the floor under the root in the first reliable frame. Cameras that move have no world.
    """
    first = found.views[0]
    points = np.where(found.reliable[:, None, None], found.points[first], np.nan).astype(np.float64)
    known = np.flatnonzero(np.isfinite(points[:, H36M17.root]).all(axis=-1))
    if any(camera.moves for camera in found.cameras.values()) or not len(known):
        return {}
    turns = [found.cameras[view].rotation[0] for view in found.views]
    ground = find_ground(points, found.time, turns, stature_m=float(stature(found.bones_m)), level=level)
    if ground is None:
        return {}
    floor, right = _under(points[known[0], H36M17.root], ground), _right(ground.up)
    hips = [H36M17.index(f"{side}_hip") for side in FEET]
    worlds = {}
    for view, turn in zip(found.views, turns, strict=True):
        root = np.where(found.reliable[:, None], found.points[view][:, H36M17.root], np.nan).astype(np.float64)
        place = turn @ floor + found.cameras[view].translation[0]
        away = SCALE_SIGMA * np.linalg.norm(root - root[known[0]], axis=-1)
        sigma = np.hypot(found.sigma[:, hips].mean(axis=1), away)
        worlds[view] = World(
            turn @ ground.up, turn @ right, place, root, ground.contact, ground.up_sigma_deg, ground.floor_sigma_m,
            sigma, ground.source,
        )  # fmt: skip
    return worlds


def one_view_world(
    poses: Poses3D, seen: Poses2D, *, focal_px: float = 0.0, level: bool = False, known: KnownCamera | None = None
) -> World | None:
    """The world of poses from one view: where the body, in meters, projects onto its pixels; None where it is unseen.

    poses     root-relative, in meters; of a body of common size where the athlete's height is not known
    seen      the same frames in pixels
    focal_px  of the camera; 0: that of `known`, else a phone's usual one
    known     what is known of a camera that has not moved since

    The path is smoothed (6 Hz). The distance from the camera grows with the focal length, the way to the side does not.
    """
    from twoview.geometry.framing import DEFAULT_FOCAL
    from twoview.reconstruction.self_calibration import root_positions

    flat = seen.to(H36M17)
    flat = flat if np.array_equal(flat.time, poses.time) else flat.at(poses.time)
    pose = poses.xyz.astype(np.float64)
    pose = pose - pose[:, [poses.skeleton.root]]
    lifted = np.isfinite(pose).all(axis=(1, 2)) & ((flat.score > 0).sum(axis=1) >= LEAST_SEEN)
    if not lifted.any():
        return None
    focal = focal_px or (known.focal_px if known is not None else DEFAULT_FOCAL * max(seen.size))
    uv = np.nan_to_num(flat.xy[lifted].astype(np.float64) - principal_point(np.array(seen.size, dtype=np.float64)))
    root = np.full((len(poses), 3), np.nan)
    root[lifted] = root_positions(uv, flat.score[lifted].astype(np.float64), pose[lifted], focal)
    root = smoothed(poses.time, root)
    bones = np.linalg.norm([pose[lifted, child] - pose[lifted, parent] for parent, child in H36M17.bones], axis=-1)
    tall = float(stature(np.median(bones, axis=-1)))
    points = pose + root[:, None]
    ground = find_ground(points, poses.time, [np.eye(3)], stature_m=tall, level=level, known=known, blur=ONE_VIEW_BLUR)
    if ground is None:
        return None
    start = root[lifted][0]
    sigma = np.hypot(ONE_VIEW_M, ONE_VIEW_SHARE * np.linalg.norm(root - start, axis=-1))
    return World(ground.up, _right(ground.up), _under(start, ground), root, ground.contact, ground.up_sigma_deg,
                 ground.floor_sigma_m, sigma, ground.source)  # fmt: skip


def _under(place: Array, ground: Ground) -> Array:
    """The point of the floor (3,) under a place."""
    return np.asarray(place - (place @ ground.up - ground.level) * ground.up)


def _right(up: Array) -> Array:
    """Level, and to the right as the camera sees it (3,)."""
    return _unit(_level(np.array([1.0, 0.0, 0.0]), up))


def in_world(poses: Poses3D, axes: Axes = "y-up") -> Poses3D:
    """Poses in meters in the axes of their world, at their place on its floor.

    "y-up"       x right as the first camera sees it, y up, z towards that camera
    "z-up"       x right, y away from the camera, z up
    "x-forward"  x where the athlete faces on average, y up, z to the athlete's right then, as in OpenSim
    "camera"     as they are

    Raises FormatError for poses without a world or without meters.
    """
    if axes not in AXES:
        raise FormatError(f"unknown axes {axes!r}", hint=f"choose one of {', '.join(AXES)}")
    if axes == "camera" or poses.axes == axes:
        return poses
    if poses.world is None or poses.unit != "m":
        lacks = "of no known size" if poses.unit != "m" else "whose place on the floor is not known"
        raise FormatError(f"{axes} axes: these are poses {lacks}", hint="--axes camera, or give the height: --height")
    world = poses.world
    root = poses.xyz[:, [poses.skeleton.root]].astype(np.float64)
    places = poses.xyz - root + world.root[:, None] - world.floor
    turn = _turn(poses, axes)
    return replace(poses, xyz=places @ turn.T, origin="world", axes=axes, world=None)


def _turn(poses: Poses3D, axes: Axes) -> Array:
    """The rotation (3, 3) from camera axes to those of the world; its rows are x, y and z in camera axes."""
    assert poses.world is not None
    up, right = poses.world.up, poses.world.right
    if axes == "y-up":
        return np.stack([right, up, np.cross(right, up)])
    if axes == "z-up":
        return np.stack([right, np.cross(up, right), up])
    line = (
        poses.xyz[:, poses.skeleton.index("right_hip")] - poses.xyz[:, poses.skeleton.index("left_hip")]
    ).astype(np.float64)  # fmt: skip
    line = line[np.isfinite(line).all(axis=-1)]
    aside = _level(line.sum(axis=0), up) if len(line) else right
    aside = aside if np.linalg.norm(aside) > 0 else right  # who turns round faces everywhere
    forward = _unit(np.cross(up, _unit(aside)))
    return np.stack([forward, up, np.cross(forward, up)])


@dataclass(frozen=True, eq=False)
class _Phone:
    """What how a phone is held tells about up, by its rotation (3, 3) from the axes of the points."""

    camera: Array
    level: bool

    def add(self, normal: _Normal) -> None:
        right, ahead = self.camera[0], self.camera[2]
        roll, pitch = (LEVEL_SIGMA_DEG, LEVEL_SIGMA_DEG) if self.level else (ROLL_DEG, PITCH_SIGMA_DEG)
        normal.add(right, 0.0, np.radians(roll))
        normal.add(ahead, 0.0 if self.level else np.sin(np.radians(-PITCH_DEG)), np.radians(pitch))


class _Normal:
    """Normal equations of `up`, which turns by two small angles, and of the floor's level."""

    def __init__(self, up: Array) -> None:
        self.up = up
        aside = np.eye(3)[np.abs(up).argmin()]
        one = _unit(np.cross(up, aside))
        self.tangent = np.stack([one, np.cross(up, one)])  # (2, 3)
        self.left, self.right = np.diag([1e-9, 1e-9, 1e-9]), np.zeros(3)

    def add(self, direction: Array, wanted: float, sigma: float, *, level: float = 0.0, weight: float = 1.0) -> None:
        """`direction @ up` is `wanted`, plus `level` times the change of the floor's level."""
        row = np.array([*(self.tangent @ direction), -level]) / sigma
        self.left += weight * np.outer(row, row)
        self.right += weight * row * (wanted - float(direction @ self.up)) / sigma

    def add_direction(self, up: Array, sigma: float) -> None:
        """`up` is that one, but for `sigma` on each axis together."""
        for axis in self.tangent:
            self.add(axis, float(axis @ up), sigma / 2**0.5)

    def add_floor(self, places: Array, ankle: float, sigma: float) -> None:
        """Standing feet at places (N, 3) have one height; those that do not count less."""
        share = min(1.0, FLOORS / max(len(places), 1))
        for place in places:
            off = (place @ self.up - ankle) / sigma
            self.add(place, ankle, sigma, level=1.0, weight=share / (1 + (off / 2) ** 2))

    def add_balance(self, above: Array, step_s: float, sigma: float) -> None:
        """The center of mass is above the feet, but for what the athlete's speed changed; `above` (N, 3) m, frames."""
        if len(above) < 2:
            return
        rise = above.mean(axis=0)
        height = float(rise @ self.up)
        if height > LOWEST_CENTER_M:
            pushed = SPEED_CHANGE * height / GRAVITY / (len(above) * step_s)
            turned = float(np.hypot(sigma, pushed)) / height
            self.left[:2, :2] += np.eye(2) / turned**2
            self.right[:2] += self.tangent @ rise / height / turned**2

    def solved(self) -> Array:
        """The direction (3,) that fits best."""
        step = np.linalg.solve(self.left, self.right)
        return _unit(self.up + step[:2] @ self.tangent)

    @property
    def sigma_deg(self) -> float:
        """Root mean square of the angle between it and the true one."""
        return float(np.degrees(np.sqrt(np.trace(np.linalg.inv(self.left)[:2, :2]))))


def _above_feet(points: Array, contact: Array, up: Array, skeleton: Skeleton) -> Array:
    """From the middle of the standing feet to the center of mass (N, 3) m, of frames with a standing foot."""
    feet, center = ankles(points, skeleton), center_of_mass(points, skeleton)
    weight = (contact & np.isfinite(feet).all(axis=-1)).astype(float)
    right = points[:, skeleton.index("right_hip")] - points[:, skeleton.index("left_hip")]
    facing = np.cross(np.broadcast_to(up, right.shape), right)
    ahead = np.nan_to_num(TOES_AHEAD_M * facing / np.maximum(np.linalg.norm(facing, axis=-1, keepdims=True), 1e-9))
    standing = weight.sum(axis=1)
    under = (np.nan_to_num(feet) * weight[..., None]).sum(axis=1) / np.maximum(standing, 1.0)[:, None] + ahead
    return np.asarray((center - under)[(standing > 0) & np.isfinite(center).all(axis=-1)])


def _level(vector: Array, up: Array) -> Array:
    """The horizontal part of a vector (3,)."""
    return np.asarray(vector - (vector @ up) * up)


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))

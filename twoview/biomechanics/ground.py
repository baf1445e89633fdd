"""Where up and the floor are, by the phones, the feet and balance, in the axes of the points that were found.

Three things tell where up is. Phones are held nearly level: the x axis of a picture is nearly horizontal, and the phone
looks slightly down. Feet that stand are on one level floor. And who does not fall has the body's center of mass above
the feet, on average over the time that these stand. Each counts by its sigma, and all sigmas give that of `up`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray as Array

from twoview.biomechanics.contacts import FEET, ankles, spans, speed, standing
from twoview.skeleton import H36M17, STATURE_M, Skeleton

ROLL_DEG = 2.5  # sigma of a phone's roll, where it is held with care
ROBUST = 1.1  # rolls beyond so many sigmas count less: not everybody takes care
PITCH_DEG, PITCH_SIGMA_DEG = 5.0, 12.0  # how far phones look down
LEVEL_SIGMA_DEG = 0.5  # of a phone that is taken as level
FLOOR_M = 0.03  # sigma of a standing ankle's height over the floor's mean
FLOOR_ROBUST = 2.0  # as ROBUST, of one standing foot
FLOORS = 8  # standing feet count as so many at most: their errors are alike
BALANCE_M = 0.05  # sigma of the center of mass from the middle of the feet, over a whole recording
BALANCE_ROBUST = 4.0  # as ROBUST, of balance
UPRIGHT = 0.75  # of the legs' length: hips at least so far from a standing foot; who sits or squats is not weighed
SPEED_CHANGE = 0.3  # m/s by which an athlete's speed may differ between start and end
GRAVITY = 9.81
LOWEST_CENTER_M = 0.2  # of the center of mass above the feet, for balance to tell anything
ANKLE_M = 0.11  # height of a standing ankle above the floor, with the shoe's sole, for a stature of 1.75 m
ANKLE_SIGMA_M = 0.03
TOES_AHEAD_M = 0.065  # of the ankle: the middle of a foot's pressure
SLOW = 0.4  # m/s: ankles slower than this may stand
ROUNDS = 6
FREE_ROUNDS, FREE = 2, 12.0  # rounds of the second search in which the phones' sigmas are so many times as large
FARTHEST_DEG = 50.0  # between up and the phones' own; farther off, it is the body that lies


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

    Two searches: from level phones, and from what the body says alone; the likelier of the two counts.
    """
    if not np.isfinite(ankles(points, skeleton)).any():
        return None
    search = _Search(points, time, tuple(cameras), skeleton, level, known, blur)
    fits = [search.fit(free=False)] if level else [search.fit(free=False), search.fit(free=True)]
    best = min(fits, key=lambda fit: fit.normal.cost)
    heights = best.places @ best.up
    spread = float(np.std(heights) / len(heights) ** 0.5) if len(heights) > 1 else FLOOR_M
    sigma = float(np.hypot(ANKLE_SIGMA_M, spread)) if len(heights) else 0.1
    source = "the phones, taken as level" if level else "how phones are held"
    if not level:
        source += ", standing feet and balance" if len(heights) else ""
        source = f"the camera of a solved take, {source}" if known is not None else source
    floor = best.ankle - ANKLE_M * stature_m / STATURE_M
    return Ground(best.up, floor, best.contact, best.normal.sigma_deg, sigma, source)


def center_of_mass(points: Array, skeleton: Skeleton = H36M17) -> Array:
    """The body's center of mass (T, 3) of points (T, J, 3), by de Leva's shares; NaN where a large part is unknown."""
    shoulders, hips = (_middle(points, joint, skeleton) for joint in ("shoulder", "hip"))
    total = _HEAD * points[:, skeleton.index("nose")] + _TRUNK[0] * (shoulders + _TRUNK[1] * (hips - shoulders))
    mass = _HEAD + _TRUNK[0]
    for side in FEET:
        for (upper, lower), (share, along) in _LIMBS.items():
            start, end = (points[:, skeleton.index(f"{side}_{joint}")] for joint in (upper, lower))
            total = total + share * (start + along * (end - start))
            mass += share
    return np.asarray(total / mass)


# Shares of the body's mass, and where along the segment their centers lie (de Leva 1996, means of women and men).
_HEAD, _TRUNK = 0.068, (0.430, 0.43)
_LIMBS = {
    ("shoulder", "elbow"): (0.026, 0.575), ("elbow", "wrist"): (0.021, 0.60), ("hip", "knee"): (0.145, 0.385),
    ("knee", "ankle"): (0.046, 0.44), ("ankle", "ankle"): (0.013, 0.0),
}  # fmt: skip


def unit(vector: Array) -> Array:
    """The vector (3,) with length 1."""
    return np.asarray(vector / np.linalg.norm(vector))


def _middle(points: Array, joint: str, skeleton: Skeleton) -> Array:
    return np.asarray(
        (points[:, skeleton.index(f"right_{joint}")] + points[:, skeleton.index(f"left_{joint}")]) / 2
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Fit:
    """What a search ends with: up, the ankles' usual height, where feet stood (N, 3) and when (T, 2)."""

    up: Array
    ankle: float
    places: Array
    contact: Array
    normal: _Normal


@dataclass(frozen=True, eq=False)
class _Search:
    """Everything that tells where up is; see `find_ground`."""

    points: Array
    time: Array
    cameras: tuple[Array, ...]
    skeleton: Skeleton
    level: bool
    known: KnownCamera | None
    blur: float

    def fit(self, *, free: bool) -> _Fit:
        """Contacts, the floor and up in turns, from level phones; `free`: the body alone counts in the first rounds."""
        feet = ankles(self.points, self.skeleton)
        held = unit(sum((camera.T @ [0.0, -1.0, 0.0] for camera in self.cameras), np.zeros(3)))
        slow = feet[speed(self.time, feet) < SLOW]
        slow = slow if len(slow) else feet[np.isfinite(feet).all(axis=-1)]
        up, ankle = held, float(np.median(slow @ held))
        contact, places, normal = np.zeros(feet.shape[:2], dtype=bool), np.empty((0, 3)), _Normal(held)
        for number in range(ROUNDS):
            contact = standing(self.time, feet, up, ankle, blur=(3 + self.blur) / 4)
            places = np.array([feet[span, foot].mean(axis=0) for foot, span in spans(contact)]).reshape(-1, 3)
            ankle = float(np.median(places @ up)) if len(places) else ankle
            normal = self._normal(up, ankle, places, contact, widened=FREE if free and number < FREE_ROUNDS else 1.0)
            up = normal.solved()
            ankle = float(np.median((places if len(places) else slow) @ up))
        if up @ held < np.cos(np.radians(FARTHEST_DEG)):
            normal.cost = np.inf
        return _Fit(up, ankle, places, contact, normal)

    def _normal(self, up: Array, ankle: float, places: Array, contact: Array, *, widened: float) -> _Normal:
        normal = _Normal(up)
        for camera in self.cameras:
            roll, pitch = (LEVEL_SIGMA_DEG,) * 2 if self.level else (ROLL_DEG * widened, PITCH_SIGMA_DEG * widened)
            ahead = 0.0 if self.level else np.sin(np.radians(-PITCH_DEG))
            normal.add(camera[0], 0.0, np.radians(roll), robust=np.inf if self.level else ROBUST)
            normal.add(camera[2], ahead, np.radians(pitch))
        if self.known is not None:
            normal.add_direction(self.known.up, np.radians(self.known.up_sigma_deg))
        if not self.level:
            share = min(1.0, FLOORS / max(len(places), 1))
            for place in places:
                normal.add(place, ankle, FLOOR_M * self.blur, level=1.0, share=share, robust=FLOOR_ROBUST)
            step_s = float(np.median(np.diff(self.time))) if len(self.time) > 1 else 0.0
            normal.add_balance(self._above_feet(contact, up), step_s, BALANCE_M * self.blur)
        return normal

    def _above_feet(self, contact: Array, up: Array) -> Array:
        """From the middle of the standing feet to the center of mass (N, 3) m, of frames with a extended leg."""
        points, index = self.points, self.skeleton.index
        feet, center = ankles(points, self.skeleton), center_of_mass(points, self.skeleton)
        hips, knees = (points[:, [index(f"{side}_{joint}") for side in FEET]] for joint in ("hip", "knee"))
        leg = np.linalg.norm(hips - knees, axis=-1) + np.linalg.norm(knees - feet, axis=-1)
        weight = (contact & (np.linalg.norm(hips - feet, axis=-1) > UPRIGHT * leg)).astype(float)
        facing = np.cross(np.broadcast_to(up, center.shape), hips[:, 0] - hips[:, 1])
        ahead = TOES_AHEAD_M * facing / np.maximum(np.linalg.norm(facing, axis=-1, keepdims=True), 1e-9)
        weighed = weight.sum(axis=1)
        under = (np.nan_to_num(feet) * weight[..., None]).sum(axis=1) / np.maximum(weighed, 1.0)[:, None] + ahead
        return np.asarray((center - under)[(weighed > 0) & np.isfinite(center + under).all(axis=-1)])


@dataclass(eq=False)
class _Normal:
    """Normal equations of `up`, which turns by two small angles, and of the floor's level; and what `up` costs."""

    up: Array
    cost: float = 0.0
    left: Array = field(default_factory=lambda: 1e-9 * np.eye(3))
    right: Array = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        one = unit(np.cross(self.up, np.eye(3)[np.abs(self.up).argmin()]))
        self.tangent = np.stack([one, np.cross(self.up, one)])  # (2, 3)

    def add(
        self, direction: Array, wanted: float, sigma: float, *, level: float = 0.0, share: float = 1.0,
        robust: float = np.inf,
    ) -> None:  # fmt: skip
        """`direction @ up` is `wanted`, plus `level` times the change of the floor's level.

        share, robust  what it counts, and the sigmas beyond which it counts less (Cauchy)
        """
        row = np.array([*(self.tangent @ direction), -level]) / sigma
        off = (wanted - float(direction @ self.up)) / sigma
        weight = share * self._weight(off, robust, share)
        self.left += weight * np.outer(row, row)
        self.right += weight * row * off

    def _weight(self, off: float, robust: float, share: float) -> float:
        """The weight of something that is so many sigmas off, whose cost is added."""
        if np.isinf(robust):
            self.cost += share * off**2 / 2
            return 1.0
        self.cost += share * robust**2 / 2 * float(np.log1p((off / robust) ** 2))
        return float(1 / (1 + (off / robust) ** 2))

    def add_direction(self, up: Array, sigma: float) -> None:
        """`up` is that one, but for `sigma` on both axes together."""
        for axis in self.tangent:
            self.add(axis, float(axis @ up), sigma / 2**0.5)

    def add_balance(self, above: Array, step_s: float, sigma: float) -> None:
        """The center of mass is above the feet, but for what the athlete's speed changed; `above` (N, 3) m, frames."""
        rise = above.mean(axis=0) if len(above) > 1 else np.zeros(3)
        height = float(rise @ self.up)
        if height > LOWEST_CENTER_M:
            pushed = SPEED_CHANGE * height / GRAVITY / (len(above) * step_s)
            turned = float(np.hypot(sigma, pushed)) / height
            lean = self.tangent @ rise / height / turned
            weight = self._weight(float(np.linalg.norm(lean)), BALANCE_ROBUST, 1.0)
            self.left[:2, :2] += weight * np.eye(2) / turned**2
            self.right[:2] += weight * lean / turned

    def solved(self) -> Array:
        """The direction (3,) that fits best."""
        step = np.linalg.solve(self.left, self.right)
        return unit(self.up + step[:2] @ self.tangent)

    @property
    def sigma_deg(self) -> float:
        """Root mean square of the angle between it and the true one."""
        return float(np.degrees(np.sqrt(np.trace(np.linalg.inv(self.left)[:2, :2]))))

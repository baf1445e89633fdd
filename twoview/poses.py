"""The two arrays that carry everything: 2D poses in pixels and 3D poses in front of a camera, with their own time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy import ndarray as Array

from twoview import plugins
from twoview.config import AXES
from twoview.errors import FormatError
from twoview.skeleton import H36M17, HIPS_TOO_HIGH, HeadRule, Skeleton, to_h36m

LARGEST_SIDE = 65_535  # px of a picture; more than any video has
MAX_GAP_S = 0.1  # a joint is interpolated between two frames that saw it, at most this far apart


@dataclass(frozen=True)
class Source:
    """Origin of poses: the fingerprint of the video, and the detector or model that made them (name and version)."""

    video: str = ""
    made_by: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.video, str) and isinstance(self.made_by, str)):
            raise ValueError(f"Source: expected two texts, got {self.video!r} and {self.made_by!r}")


def _freeze(instance: object, name: str, dtype: type, shape: tuple[int | None, ...]) -> None:
    """Cast, check the shape, and make read-only: a private copy, so that the caller's array can change."""
    given = np.asarray(getattr(instance, name))
    if given.dtype.kind not in "fiub":
        raise ValueError(f"{type(instance).__name__}.{name}: expected numbers, got {given.dtype}")
    value: Array = np.array(given, dtype=dtype)
    ok = value.ndim == len(shape) and all(w is None or w == g for w, g in zip(shape, value.shape, strict=True))
    if not ok:
        wanted = tuple("any" if s is None else s for s in shape)
        raise ValueError(f"{type(instance).__name__}.{name}: expected shape {wanted}, got {value.shape}")
    value.setflags(write=False)
    object.__setattr__(instance, name, value)


def _check_time(time: Array, kind: str) -> None:
    if not np.isfinite(time).all() or (np.diff(time) <= 0).any():
        raise ValueError(f"{kind}.time: expected strictly increasing seconds, got {time[:5]}...")


@dataclass(frozen=True, eq=False)
class Poses2D:
    """One person in one view over time.

    xy     (T, J, 2) float32  pixels of the upright picture; x right, y down, (0, 0) the center of the top left
                              pixel; NaN where unseen
    score  (T, J)    float32  0..1; 0 exactly where xy is NaN
    time   (T,)      float64  seconds on this view's own clock, strictly increasing
    size   (width, height) of the upright picture in pixels
    """

    xy: Array
    score: Array
    time: Array
    skeleton: Skeleton
    size: tuple[int, int]
    view: str = ""
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        joints = len(self.skeleton)
        _freeze(self, "time", np.float64, (None,))
        _freeze(self, "xy", np.float32, (len(self.time), joints, 2))
        _freeze(self, "score", np.float32, (len(self.time), joints))
        _check_time(self.time, "Poses2D")
        unseen = np.isnan(self.xy).any(axis=-1)
        if np.isinf(self.xy).any():
            raise ValueError("Poses2D.xy: a position is infinite")
        if (unseen != (self.score == 0)).any() or not ((self.score >= 0) & (self.score <= 1)).all():
            raise ValueError("Poses2D: expected scores in 0..1, and 0 exactly where xy is NaN")
        whole = len(self.size) == 2 and all(isinstance(side, int | np.integer) for side in self.size)
        if not whole or not 0 < min(self.size) <= max(self.size) <= LARGEST_SIDE:
            raise ValueError(
                f"Poses2D.size: expected (width, height) in pixels, up to {LARGEST_SIDE} each, got {self.size}"
            )

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        size = f"{self.size[0]} x {self.size[1]} px"
        return f"Poses2D({_shown(self.view)}{len(self)} frames, {_span(self.time)}, {self.skeleton.name}, {size})"

    def save(self, path: Path | str) -> Path:
        """Write the poses to an `.npz` file that `twoview.load` and every command read."""
        return _save(self, path)

    def between(self, start: float, end: float) -> Poses2D:
        """The frames with start <= time <= end, in seconds of this view's clock."""
        keep = (self.time >= start) & (self.time <= end)
        return replace(self, xy=self.xy[keep], score=self.score[keep], time=self.time[keep])

    def at(self, time: Array, *, max_gap: float = MAX_GAP_S) -> Poses2D:
        """Interpolated to other times (S,): linear between the two frames around each time that saw a joint.

        Unseen (NaN, 0) outside the poses' time, and where these frames are more than `max_gap` seconds apart.
        """
        time = np.asarray(time, dtype=np.float64)
        values = np.concatenate([self.xy, self.score[..., None]], axis=-1)
        out = _interpolate(self.time, values, self.score > 0, time, max_gap)
        score = np.where(np.isnan(out[..., 0]), 0.0, np.clip(out[..., 2], 0.0, 1.0))
        return replace(self, xy=out[..., :2], score=score, time=time)

    def to(self, skeleton: Skeleton, *, head: HeadRule = "eyes") -> Poses2D:
        """The same poses with another skeleton's joints; today any known skeleton to Human3.6M-17.

        What is known of the systematic errors of the detector that made them is taken out (`HIPS_TOO_HIGH`).
        """
        if skeleton == self.skeleton:
            return self
        if skeleton != H36M17:
            raise ValueError(f"Poses2D.to: expected {H36M17.name}, got {skeleton.name}")
        too_high = HIPS_TOO_HIGH.get(self.source.made_by.partition(" ")[0], 0.0)
        xy, score = to_h36m(self.xy, self.score, self.skeleton, head=head, hips_too_high=too_high)
        return replace(self, xy=xy, score=score, skeleton=skeleton)


@dataclass(frozen=True, eq=False)
class World:
    """Where up and the floor are, and where the athlete is on it, for T poses in one camera's axes.

    up      (3,)            against gravity, of length 1, in camera axes
    right   (3,)            level, of length 1: to the right as the first camera sees it, in camera axes
    floor   (3,) m          a point of the floor in camera axes, the camera at 0: the origin of world axes
    root    (T, 3) m        the root joint in camera axes, the camera at 0; NaN where unknown
    contact (T, 2) bool     whether the right and the left foot stand on the floor
    up_sigma_deg            root mean square of the angle between `up` and the true one
    floor_sigma_m           standard deviation of the floor's height
    root_sigma_m (T,) m     standard deviation of `root` along the floor, as seen from `floor`
    source                  what it was found from, in words
    """

    up: Array
    right: Array
    floor: Array
    root: Array
    contact: Array
    up_sigma_deg: float
    floor_sigma_m: float
    root_sigma_m: Array
    source: str = ""

    def __post_init__(self) -> None:
        for name, dtype, shape in (("up", np.float64, (3,)), ("right", np.float64, (3,)), ("floor", np.float64, (3,)),
                                   ("root", np.float64, (None, 3)), ("contact", bool, (len(self.root), 2)),
                                   ("root_sigma_m", np.float64, (len(self.root),))):  # fmt: skip
            _freeze(self, name, dtype, shape)
        pair = np.stack([self.up, self.right])
        if not np.abs(pair @ pair.T - np.eye(2)).max() < 1e-6:
            raise ValueError(f"World: expected two directions at a right angle, got {self.up} and {self.right}")
        if not np.isfinite(self.floor).all() or np.isinf(self.root).any():
            raise ValueError(f"World: expected finite places, got {self.floor}")

    def __len__(self) -> int:
        return len(self.root)

    def pick(self, frames: Array) -> World:
        """The same of some frames alone, by a mask (T,) or their numbers."""
        return replace(
            self, root=self.root[frames], contact=self.contact[frames], root_sigma_m=self.root_sigma_m[frames]
        )

    def at(self, old: Array, new: Array, *, max_gap: float) -> World:
        """The same at other times (S,) s; `old` (T,) s are those of its frames. Contacts are the nearest frame's."""
        known = np.isfinite(self.root).all(axis=-1)[:, None]
        values = np.concatenate([self.root, self.root_sigma_m[:, None]], axis=1)[:, None]
        moved = _interpolate(old, values, known, new, max_gap)[:, 0]
        contact = np.zeros((len(new), 2), dtype=bool)
        if len(old):
            nearest = np.searchsorted((old[1:] + old[:-1]) / 2, new)
            contact = self.contact[nearest] & np.isfinite(moved[:, :1])
        return replace(self, root=moved[:, :3], contact=contact, root_sigma_m=moved[:, 3])


Axes = Literal["camera", "y-up", "z-up", "x-forward"]


@dataclass(frozen=True, eq=False)
class Poses3D:
    """One person in 3D over time, in the axes of one camera, or of the world.

    xyz   (T, J, 3) float32  camera-aligned: x right, y down, z away from the camera; NaN where unknown
    time  (T,)      float64  seconds on this view's own clock, strictly increasing
    origin "root": the root joint is at 0 in every frame; "camera": the camera is at 0; "world": a point on the floor
    unit   "m" only if a real length was given; "screen": half the picture's width at the root's depth
    adapted_share (T,) float32  0 to 1: how much of each frame's answer is the adapted lifter's, and not the unadapted
                                one's, where a gate decides it; else None
    filter  what smoothed the poses and filled their gaps, in words; "" where nothing did
    sigma (T, J)    float32  standard deviation of each root-relative joint along an axis, in the poses' unit, before
                             any filter; NaN where unknown, None where nothing is known
    world   where up, the floor and the athlete are, in camera axes; None where it is not known
    axes    "camera", or those of the world that `biomechanics.world.in_world` turned the poses to
    """

    xyz: Array
    time: Array
    skeleton: Skeleton = H36M17
    origin: Literal["root", "camera", "world"] = "root"
    unit: Literal["screen", "m"] = "screen"
    view: str = ""
    source: Source = field(default_factory=Source)
    adapted_share: Array | None = None
    filter: str = ""
    world: World | None = None
    axes: Axes = "camera"
    sigma: Array | None = None

    def __post_init__(self) -> None:
        _freeze(self, "time", np.float64, (None,))
        if self.adapted_share is not None:
            _freeze(self, "adapted_share", np.float32, (len(self.time),))
        _freeze(self, "xyz", np.float32, (len(self.time), len(self.skeleton), 3))
        if self.sigma is not None:
            _freeze(self, "sigma", np.float32, (len(self.time), len(self.skeleton)))
            if (self.sigma < 0).any() or np.isinf(self.sigma).any():
                raise ValueError("Poses3D.sigma: expected standard deviations of 0 or more")
        _check_time(self.time, "Poses3D")
        if np.isinf(self.xyz).any():
            raise ValueError("Poses3D.xyz: a position is infinite")
        if self.origin not in ("root", "camera", "world") or self.unit not in ("screen", "m"):
            raise ValueError(
                f"Poses3D: expected origin root|camera|world, unit screen|m; got {self.origin}, {self.unit}"
            )
        if self.axes not in AXES or (self.axes == "camera") == (self.origin == "world"):
            raise ValueError(f"Poses3D: axes {self.axes} do not go with the origin {self.origin}")
        if self.world is not None and len(self.world) != len(self.time):
            raise ValueError(f"Poses3D: {len(self.time)} poses, and a world of {len(self.world)}")

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        unit = "m" if self.unit == "m" else "screen units"
        what = f"{self.skeleton.name}, {unit}, origin {self.origin}"
        return f"Poses3D({_shown(self.view)}{len(self)} frames, {_span(self.time)}, {what})"

    def save(self, path: Path | str) -> Path:
        """Write the poses in the format that the suffix names: `.npz`, or one of `formats.FORMATS` such as `.trc`."""
        return _save(self, path)

    def between(self, start: float, end: float) -> Poses3D:
        """The frames with start <= time <= end, in seconds of this view's clock."""
        keep = (self.time >= start) & (self.time <= end)
        adapted = None if self.adapted_share is None else self.adapted_share[keep]
        world = None if self.world is None else self.world.pick(keep)
        sigma = None if self.sigma is None else self.sigma[keep]
        return replace(self, xyz=self.xyz[keep], time=self.time[keep], adapted_share=adapted, world=world, sigma=sigma)

    def at(self, time: Array, *, max_gap: float = MAX_GAP_S) -> Poses3D:
        """Interpolated to other times (S,), NaN outside the poses' time and over gaps longer than `max_gap` seconds."""
        time = np.asarray(time, dtype=np.float64)
        seen = np.isfinite(self.xyz).all(axis=-1)
        adapted = None if self.adapted_share is None else np.interp(time, self.time, self.adapted_share)
        world = None if self.world is None else self.world.at(self.time, time, max_gap=max_gap)
        xyz, sigma = _interpolate(self.time, self.xyz, seen, time, max_gap), None
        if self.sigma is not None:
            sigma = _interpolate(self.time, self.sigma[..., None], np.isfinite(self.sigma), time, max_gap)[..., 0]
        return replace(self, xyz=xyz, time=time, adapted_share=adapted, world=world, sigma=sigma)


def _shown(view: str) -> str:
    return f"view {view!r}, " if view else ""


def _span(time: Array) -> str:
    return f"{time[0]:.2f} to {time[-1]:.2f} s" if len(time) else "no time"


def _save(poses: Poses2D | Poses3D, path: Path | str) -> Path:
    """Write poses by the suffix; formats come later in the order of imports, and are loaded when they are needed."""
    written: Path = plugins.load("twoview.formats:save", "writer of poses", FormatError)(poses, path)
    return written


def _interpolate(old: Array, values: Array, seen: Array, new: Array, max_gap: float) -> Array:
    """Values (T, J, C) at times old (T,) -> (S, J, C) at times new (S,); NaN where no two frames bracket it."""
    out = np.full((len(new), *values.shape[1:]), np.nan, dtype=np.float64)
    for joint in range(values.shape[1]):
        at = np.flatnonzero(seen[:, joint])
        if not len(at):
            continue
        times, known = old[at], values[at, joint]
        right = np.clip(np.searchsorted(times, new, side="left"), 0, len(at) - 1)
        exact = times[right] == new
        left = np.where(exact, right, np.maximum(right - 1, 0))
        span = times[right] - times[left]
        inside = exact | ((new > times[0]) & (new < times[-1]) & (span <= max_gap))
        share = ((new - times[left]) / np.where(span > 0, span, 1.0))[:, None]
        blended = known[left] * (1 - share) + known[right] * share
        out[:, joint] = np.where(inside[:, None], blended, np.nan)
    return out


def cheapest_course(cost: Array, change: Callable[[int], Array]) -> Array:
    """The states (T,) of least total cost (Viterbi).

    cost    (T, S)  of being in each state in each frame
    change  for a frame but the first, the cost (S, S) of going from a state in the frame before to a state in this one
    """
    best, before = cost[0], np.zeros(cost.shape, dtype=int)
    for t in range(1, len(cost)):
        path = best[:, None] + change(t)
        before[t] = path.argmin(axis=0)
        best = path.min(axis=0) + cost[t]
    course = np.full(len(cost), best.argmin())
    for t in range(len(cost) - 1, 0, -1):
        course[t - 1] = before[t, course[t]]
    return course

"""The world of an athlete: where up, the floor and the pelvis are, from two views and from one; poses in world axes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray as Array

from twoview.biomechanics.contacts import FEET, smoothed
from twoview.biomechanics.ground import Ground, KnownCamera, find_ground, unit
from twoview.config import AXES
from twoview.errors import FormatError
from twoview.geometry.cameras import principal_point
from twoview.poses import Axes, Poses2D, Poses3D, World
from twoview.skeleton import H36M17, stature

if TYPE_CHECKING:
    from twoview.reconstruction.triangulation import Triangulation

ONE_VIEW_BLUR = 2.0  # of heights of feet and of balance that a lifter places; contacts count a quarter of the excess
ONE_VIEW_M, ONE_VIEW_SHARE = 0.05, 0.1  # sigma of a path from one view, and its growth with the distance from its start
LEAST_SEEN = 5  # joints of 17
SCALE_SIGMA = 0.02  # of a length that comes from the athlete's height


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
    return unit(_level(np.array([1.0, 0.0, 0.0]), up))


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
    forward = unit(np.cross(up, unit(aside)))
    return np.stack([forward, up, np.cross(forward, up)])


def _level(vector: Array, up: Array) -> Array:
    """The horizontal part of a vector (3,)."""
    return np.asarray(vector - (vector @ up) * up)

"""Moments of a movement, found in 3D poses: the top of a swing, feet on the floor, jumps, and the way travelled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy import ndarray as Array

from twoview.biomechanics.contacts import FEET, smoothed, spans
from twoview.biomechanics.filtering import filter_poses
from twoview.biomechanics.ground import GRAVITY
from twoview.config import FilterConfig
from twoview.poses import Poses3D

LONGEST_DOWNSWING_S = 1.0  # between the top of a swing and the hands' greatest speed
TURNS = 0.35  # at the top the hands are slower than this share of their greatest speed
SMOOTH_HZ = 8.0  # cutoff for speeds, where the frame rate allows it

SHORTEST_JUMP_S = 0.12  # both feet are off the floor for as long
RISES = 0.3  # least share of what free fall does, of the pelvis; heights from one view are rough
STANDING = 75  # percentile of the pelvis's height with a foot on the floor, which is taken for standing upright
STEADY_HZ = 3.0  # cutoff of the way travelled: steps count, the pelvis's noise does not


@dataclass(frozen=True)
class Contact:
    """A foot, "right" or "left", on the floor from start to end, s on the view's clock."""

    foot: str
    start: float
    end: float


@dataclass(frozen=True)
class Jump:
    """Both feet off the floor.

    start, end  s on the view's clock, the last frame before and the first frame after
    rise_m      highest place of the pelvis above where it is when the athlete stands upright
    """

    start: float
    end: float
    rise_m: float


def find_contacts(poses: Poses3D) -> list[Contact]:
    """Every time that a foot stands on the floor, in order; [] for poses without a world."""
    if poses.world is None:
        return []
    found = [Contact(FEET[foot], float(poses.time[span[0]]), float(poses.time[span[-1]]))
             for foot, span in spans(poses.world.contact)]  # fmt: skip
    return sorted(found, key=lambda contact: contact.start)


def find_jumps(poses: Poses3D) -> list[Jump]:
    """Every time that no foot stands for a while, between two contacts; [] for poses without a world or meters.

    Where the pelvis does not rise as a body in free fall does, above the line from its last contact to its next one by
    gravity / 8 times the square of the time, a contact was missed: there is no jump.
    """
    if poses.world is None or poses.unit != "m":
        return []
    height = _heights(poses)
    down = poses.world.contact.any(axis=1)
    stands = height[down & np.isfinite(height)]
    if not len(stands):
        return []
    upright, at, jumps = float(np.percentile(stands, STANDING)), np.flatnonzero(down), []
    for before, after in pairwise(at):
        known = height[before : after + 1]
        flies = poses.time[after] - poses.time[before] >= SHORTEST_JUMP_S and after - before > 1
        if flies and np.isfinite(known).mean() > 0.5 and _falls_freely(poses.time[before : after + 1], known):
            rise = float(np.nanmax(known)) - upright
            jumps.append(Jump(float(poses.time[before]), float(poses.time[after]), rise))
    return jumps


def _falls_freely(time: Array, height: Array) -> bool:
    """Whether the pelvis rises as high as in a flight of that time; the first and last frames stand."""
    if not np.isfinite(height[[0, -1]]).all():
        return True
    straight = np.interp(time, time[[0, -1]], height[[0, -1]])
    flight = float(time[-1] - time[0]) * (len(time) - 2) / (len(time) - 1)
    return float(np.nanmax(height - straight)) >= RISES * GRAVITY / 8 * flight**2


def travelled(poses: Poses3D) -> float:
    """Meters that the pelvis went along the floor; NaN for poses without a world or meters."""
    if poses.world is None or poses.unit != "m":
        return float("nan")
    known = np.isfinite(poses.world.root).all(axis=-1)
    time, root = poses.time[known], poses.world.root[known]
    if len(time) < 2:
        return 0.0 if len(time) else float("nan")
    along = root - (root @ poses.world.up)[:, None] * poses.world.up
    steps = np.diff(smoothed(time, along, STEADY_HZ), axis=0)  # each stretch without a gap by itself
    return float(np.linalg.norm(steps, axis=-1).sum())


def _heights(poses: Poses3D) -> Array:
    """Height (T,) m of the root above the floor; NaN where unknown."""
    assert poses.world is not None
    return np.asarray((poses.world.root - poses.world.floor) @ poses.world.up)


@dataclass(frozen=True)
class Swing:
    """The moments of a swing, s on the view's clock.

    top      the hands' slowest moment before they are fastest, where the backswing ends
    fastest  the hands' greatest speed, shortly before the hit
    """

    top: float
    fastest: float


def find_swing(poses: Poses3D) -> Swing | None:
    """The fastest swing of both hands, relative to the pelvis; None where the hands do not stop before it.

    Smoothed copies of the poses are measured. A person who only walks swings too: ask for it where there is a swing.
    """
    speed = hand_speed(poses)
    if not np.isfinite(speed).any():
        return None
    time, fastest = poses.time, int(np.nanargmax(speed))
    before = np.flatnonzero((time < time[fastest]) & (time >= time[fastest] - LONGEST_DOWNSWING_S))
    slow = before[speed[before] < TURNS * speed[fastest]]
    if not len(slow):
        return None
    # The last time that the hands are slow: from there back as long as they become slower.
    top = int(slow[-1])
    while top > 0 and speed[top - 1] < speed[top]:
        top -= 1
    return Swing(float(time[top]), float(time[fastest])) if top > 0 else None


def hand_speed(poses: Poses3D) -> Array:
    """Speed (T,) of the middle of both wrists relative to the hips, in the poses' unit per second; NaN: unknown."""
    if len(poses) < 3:
        return np.full(len(poses), np.nan)
    rate = 1 / float(np.median(np.diff(poses.time)))
    smooth = filter_poses(poses, FilterConfig(kind="butterworth", cutoff_hz=min(SMOOTH_HZ, 0.4 * rate)))
    hands, hips = (
        np.mean([smooth.xyz[:, poses.skeleton.index(f"{side}_{joint}")] for side in ("left", "right")], axis=0)
        for joint in ("wrist", "hip")
    )
    moved = (hands - hips).astype(np.float64)
    speed = np.full(len(poses), np.nan)
    far = np.linalg.norm(moved[2:] - moved[:-2], axis=-1)
    speed[1:-1] = far / (poses.time[2:] - poses.time[:-2])
    return speed

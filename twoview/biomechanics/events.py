"""Moments of a movement, found in 3D poses: the top of a swing and its fastest moment, by the speed of the hands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from twoview.biomechanics.filtering import filter_poses
from twoview.config import FilterConfig
from twoview.poses import Poses3D

LONGEST_DOWNSWING_S = 1.0  # between the top of a swing and the hands' greatest speed
TURNS = 0.35  # at the top the hands are slower than this share of their greatest speed
SMOOTH_HZ = 8.0  # cutoff for speeds, where the frame rate allows it


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

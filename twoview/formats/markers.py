"""What marker files (TRC, C3D) share: marker names, axes with y up, and an even frame rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy import ndarray as Array

from twoview.poses import Poses3D
from twoview.skeleton import Skeleton

_UNEVEN = 0.02  # frame intervals by which times may differ from an even grid
_NAMES = {"pelvis": "Hip", "thorax": "Neck"}  # Pose2Sim's names, which OpenSim setups for markerless data use


def marker_names(skeleton: Skeleton) -> list[str]:
    """The names that Pose2Sim and its OpenSim setups use: RHip, LKnee, Neck, ..."""

    def marker(joint: str) -> str:
        side, _, rest = joint.rpartition("_")
        return _NAMES.get(joint, f"{side[:1].upper()}{rest.capitalize()}")

    return [marker(joint) for joint in skeleton.joints]


def y_up(xyz: Array) -> Array:
    """Turn camera axes (..., 3) (x right, y down, z away) to x right, y up, z towards the camera; right-handed."""
    return np.asarray(xyz * np.array([1.0, -1.0, -1.0]))


def at_even_rate(poses: Poses3D) -> tuple[Poses3D, float]:
    """The poses at an even rate, and that rate in frames per second, which may be fractional.

    Poses whose times are even keep their values; others are interpolated at their mean rate.
    """
    if len(poses) < 2:
        return poses, 1.0
    span = float(poses.time[-1] - poses.time[0])
    rate = 1.0 / float(np.median(np.diff(poses.time)))
    grid = poses.time[0] + np.arange(round(span * rate) + 1) * (span / round(span * rate))
    if len(grid) == len(poses) and np.abs(grid - poses.time).max() <= _UNEVEN / rate:
        return replace(poses, time=grid), round(span * rate) / span
    return poses.at(grid), round(span * rate) / span

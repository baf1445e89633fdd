"""What files of markers and joints (TRC, C3D, BVH) share: marker names, and axes with y up."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from twoview.skeleton import Skeleton

_NAMES = {"pelvis": "Hip", "thorax": "Neck"}  # Pose2Sim's names, which OpenSim setups for markerless data use

_SIDES = {"left": "L", "right": "R"}


def marker_names(skeleton: Skeleton) -> list[str]:
    """The names that Pose2Sim and its OpenSim setups use: RHip, LBigToe, Neck, ..."""

    def marker(joint: str) -> str:
        return _NAMES.get(joint, "".join(_SIDES.get(word, word.capitalize()) for word in joint.split("_")))

    return [marker(joint) for joint in skeleton.joints]


def y_up(xyz: Array) -> Array:
    """Turn camera axes (..., 3) (x right, y down, z away) to x right, y up, z towards the camera; right-handed."""
    return np.asarray(xyz * np.array([1.0, -1.0, -1.0]))

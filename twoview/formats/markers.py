"""What files of poses share: marker names, and their axes in words."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from twoview.poses import Poses3D
from twoview.skeleton import Skeleton

_NAMES = {"pelvis": "Hip", "thorax": "Neck"}  # Pose2Sim's names, which OpenSim setups for markerless data use

_SIDES = {"left": "L", "right": "R"}


def marker_names(skeleton: Skeleton) -> list[str]:
    """The names that Pose2Sim and its OpenSim setups use: RHip, LBigToe, Neck, ..."""

    def marker(joint: str) -> str:
        return _NAMES.get(joint, "".join(_SIDES.get(word, word.capitalize()) for word in joint.split("_")))

    return [marker(joint) for joint in skeleton.joints]


IN_WORDS = {
    "camera": "camera: x right, y down, z away",
    "y-up": "world: x right, y up, z towards the camera; a point on the floor is at 0",
    "z-up": "world: x right, y away from the camera, z up; a point on the floor is at 0",
    "x-forward": "world: x where the athlete faces, y up, z to the athlete's right; a point on the floor is at 0",
}


def y_up(xyz: Array) -> Array:
    """Turn camera axes (..., 3) (x right, y down, z away) to x right, y up, z towards the camera; right-handed."""
    return np.asarray(xyz * np.array([1.0, -1.0, -1.0]))


def marker_places(poses: Poses3D) -> Array:
    """Places (T, J, 3) for programs without an axis for down: in the world's axes, or the camera's with y up."""
    return y_up(poses.xyz) if poses.axes == "camera" else poses.xyz

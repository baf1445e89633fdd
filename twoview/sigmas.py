"""How far 3D joints are usually off: what a computation does not see of its own errors, measured on rendered people.

A sigma here is the standard deviation of a root-relative joint along one axis, for a body of common size (1.75 m). Two
views see how well they agree, and one view how well a lifter agrees with itself; neither sees that a detector always
marks a joint in the wrong place, or that a lifter always leans. `python tests/benchmarks/sigmas.py` prints these
numbers and how well they hold on scenes that they were not taken from.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from twoview.skeleton import Skeleton

# Two views: the detector's constant error, by kind of joint, m.
CONSTANT_M: dict[str, float] = {
    "hip": 0.006, "knee": 0.012, "ankle": 0.018, "spine": 0.0, "thorax": 0.016, "nose": 0.026, "head": 0.027,
    "shoulder": 0.021, "elbow": 0.026, "wrist": 0.024,
}  # fmt: skip

# One view: what is left where score, mirror image and windows say nothing, by kind of joint, m.
LIFTED_M: dict[str, float] = {
    "hip": 0.008, "knee": 0.027, "ankle": 0.038, "spine": 0.007, "thorax": 0.02, "nose": 0.036, "head": 0.035,
    "shoulder": 0.027, "elbow": 0.034, "wrist": 0.04,
}  # fmt: skip
FLIP = 0.991  # sigmas per half the distance between the answers to the picture and to its mirror image
WINDOW = 1.014  # sigmas per standard deviation of the answers of overlapping windows
SCORE_M = 0.034  # m, times what the detector's score lacks of 1
USUAL_FLIP_M = 0.008  # that distance, where the mirror image was not asked

_ALIKE = {"toe": "ankle", "heel": "ankle", "eye": "head", "ear": "head", "neck": "thorax", "hand": "wrist"}


def constant_sigma(skeleton: Skeleton) -> Array:
    """The detector's usual constant error (J,) m in two-view 3D; feet are taken to be as ankles, eyes as heads."""
    return _by_joint(skeleton, CONSTANT_M)


def lifted_sigma(skeleton: Skeleton, *, score: Array, window: Array, flip: Array | None) -> Array:
    """Sigma (T, J) m of joints from one view.

    score   (T, J)    the detector's, 0 to 1
    window  (T, J) m  standard deviation of the answers of overlapping windows, as a distance in 3D
    flip    (T, J) m  half the distance of the answers to the picture and to its mirror image; None where not asked
    """
    distance = np.full(score.shape, USUAL_FLIP_M) if flip is None else flip
    parts = (_by_joint(skeleton, LIFTED_M), FLIP * distance, WINDOW * window, SCORE_M * (1 - score))
    sigma: Array = np.sqrt(sum((part**2 for part in parts), np.zeros(score.shape)))
    sigma[:, skeleton.root] = 0.0
    return sigma


def _by_joint(skeleton: Skeleton, by_kind: dict[str, float]) -> Array:
    kinds = [joint.split("_")[-1] for joint in skeleton.joints]
    usual = max(by_kind.values())
    values = [by_kind.get(kind, by_kind.get(_ALIKE.get(kind, ""), usual)) for kind in kinds]
    values[skeleton.root] = 0.0
    return np.array(values)

"""Skeletons: joint names, bones, left and right, and the conversion of a detector's joints to Human3.6M's.

No other file holds joint numbers. Orders are those of the COCO-17, Halpe-26 and Human3.6M-17 conventions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy import ndarray as Array

from twoview.errors import FormatError

HeadRule = Literal["eyes", "ears"]


@dataclass(frozen=True)
class Skeleton:
    """Named joints in a fixed order.

    parents  index of each joint's parent, -1 for the root
    pairs    (left, right) joint indices, which swap when the picture is mirrored
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Index of a joint by name. Raises KeyError with the known names."""
        if joint not in self.joints:
            raise KeyError(f"{self.name} has no joint {joint!r}; it has {', '.join(self.joints)}")
        return self.joints.index(joint)

    @property
    def root(self) -> int:
        """Index of the joint without a parent."""
        return self.parents.index(-1)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) for every joint but the root, in joint order."""
        return tuple((parent, child) for child, parent in enumerate(self.parents) if parent >= 0)

    @cached_property
    def flip_order(self) -> tuple[int, ...]:
        """Joint order after a mirror: `mirrored = joints[list(flip_order)]`."""
        order = list(range(len(self)))
        for left, right in self.pairs:
            order[left], order[right] = right, left
        return tuple(order)


_COCO_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
_COCO_PAIRS = tuple((left, left + 1) for left in range(1, 17, 2))

COCO17 = Skeleton("coco17", _COCO_JOINTS, (-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14), _COCO_PAIRS)

HALPE26 = Skeleton(
    "halpe26",
    (*_COCO_JOINTS, "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
     "left_heel", "right_heel"),
    (18, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 18, 19, -1, 15, 16, 15, 16, 15, 16),
    (*_COCO_PAIRS, (20, 21), (22, 23), (24, 25)),
)  # fmt: skip

H36M17 = Skeleton(
    "h36m17",
    ("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
     "nose", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist"),
    (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    ((4, 1), (5, 2), (6, 3), (11, 14), (12, 15), (13, 16)),
)  # fmt: skip

SKELETONS: dict[str, Skeleton] = {s.name: s for s in (COCO17, HALPE26, H36M17)}

# For each Human3.6M joint, the detector joints whose mean it is (MotionBERT's "eyes" variant; spec 2.2).
_TO_H36M: dict[str, tuple[tuple[int, ...], ...]] = {
    "coco17": ((11, 12), (12,), (14,), (16,), (11,), (13,), (15,), (11, 12, 5, 6), (5, 6), (0,), (1, 2),
               (5,), (7,), (9,), (6,), (8,), (10,)),
    "halpe26": ((19,), (12,), (14,), (16,), (11,), (13,), (15,), (18, 19), (18,), (0,), (17,),
                (5,), (7,), (9,), (6,), (8,), (10,)),
    "h36m17": tuple((j,) for j in range(17)),
}  # fmt: skip


def single_joints(source: Skeleton) -> dict[int, int]:
    """Human3.6M joint -> the detector's joint that it is, for those that are one joint and no mean of several."""
    return {ours: parts[0] for ours, parts in enumerate(_TO_H36M[source.name]) if len(parts) == 1}


def skeleton(name: str) -> Skeleton:
    """The skeleton of that name. Raises FormatError with the known names."""
    if name not in SKELETONS:
        raise FormatError(f"unknown skeleton {name!r}; known: {', '.join(SKELETONS)}")
    return SKELETONS[name]


HIPS_TOO_HIGH: dict[str, float] = {"movenet": 0.05}
"""How far above the hips a detector, by the first word of its name, marks them: shares of the trunk, shoulders to hips.

Measured on rendered people (`tests/benchmarks/two_view_3d.py --hips 0`): MoveNet's hips are too high in all views of
all of them, by 0 to 5 cm, and no other joint is off by as much or as regularly.
"""


def to_h36m(
    xy: Array, score: Array, source: Skeleton, *, head: HeadRule = "eyes", hips_too_high: float = 0.0
) -> tuple[Array, Array]:
    """Human3.6M-17 joints from a detector's joints.

    xy (T, J, 2) px and score (T, J) in `source` order -> xy (T, 17, 2) and score (T, 17). A joint made of several
    is their mean; its score is the smallest of theirs, so it is unseen (NaN, 0) where any of them is.
    head="ears" puts the head joint above the ears instead of between the eyes (COCO only).
    hips_too_high, a share of the trunk's length, is how far the detector marks hips above where they are: they are put
    back along the trunk, and pelvis and spine with them, where the shoulders are seen.
    """
    if source.name not in _TO_H36M:
        raise FormatError(f"no conversion from skeleton {source.name!r} to h36m17; known: {', '.join(_TO_H36M)}")
    parts = _TO_H36M[source.name]
    out_xy = np.stack([xy[:, list(p)].mean(axis=1) for p in parts], axis=1)
    out_score = np.stack([score[:, list(p)].min(axis=1) for p in parts], axis=1)
    if hips_too_high:
        out_xy = _hips_put_back(out_xy, hips_too_high)
    if head == "ears":
        if source.name == "h36m17":
            raise FormatError("head='ears' needs ears, and h36m17 has none; use head='eyes'")
        out_xy, out_score = _head_from_ears(xy, score, out_xy, out_score)
    return out_xy, np.where(np.isnan(out_xy).any(axis=-1), 0.0, out_score).astype(score.dtype)


_WITH_THE_HIPS = {"pelvis": 1.0, "right_hip": 1.0, "left_hip": 1.0, "spine": 0.5}


def _hips_put_back(h_xy: Array, share: float) -> Array:
    """Hips (T, 17, 2) moved down the trunk by a share of its length; pelvis and spine are means that contain them."""
    middle = {part: h_xy[:, [H36M17.index(f"{side}_{part}") for side in ("left", "right")]].mean(1)
              for part in ("hip", "shoulder")}  # fmt: skip
    down = np.nan_to_num(share * (middle["hip"] - middle["shoulder"]))
    moved = h_xy.copy()
    for joint, part in _WITH_THE_HIPS.items():
        moved[:, H36M17.index(joint)] += part * down
    return moved


def _head_from_ears(xy: Array, score: Array, h_xy: Array, h_score: Array) -> tuple[Array, Array]:
    """Head 0.8 of the ear-to-eye distance beyond the ears, along thorax to ears (spec 2.2, "ears")."""
    ears, eyes, thorax = xy[:, 3:5].mean(axis=1), xy[:, 1:3].mean(axis=1), h_xy[:, 8]
    up = ears - thorax
    up = up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-6)
    head = ears + 0.8 * np.linalg.norm(ears - eyes, axis=-1, keepdims=True) * up
    new_xy, new_score = h_xy.copy(), h_score.copy()
    new_xy[:, 10], new_score[:, 10] = head, np.minimum(score[:, 1:5].min(axis=1), h_score[:, 8])
    return new_xy, new_score


def swap_sides(values: Array, swapped: Array, limbs: Iterable[Sequence[tuple[int, int]]]) -> Array:
    """Values (..., J, ...) with left and right joints swapped where `swapped` (..., limbs) says so.

    limbs  (left, right) pairs of joints that are swapped together; the leading axes of both arrays are the same
    """
    result = values.copy()
    for limb, pairs in enumerate(limbs):
        where = swapped[..., limb]
        for left, right in pairs:
            result[where, left], result[where, right] = values[where, right], values[where, left]
    return result


BODY_M = 4.2
"""Summed bones of an adult of common size, m: the unit of length until a height is given."""

STATURE_M = 1.75
"""Standing height of the same body, m."""

BEYOND_JOINTS = 1.12
"""Standing height over the length of `stature`'s bones, which lack the foot below the ankle and the crown above the
eyes. Measured on rendered people with the joints of COCO detections; single people differ by 3 %."""


def stature(bones: Array) -> Array:
    """A body's standing height (...,) from its Human3.6M-17 bone lengths (..., 16): legs, trunk and head in a line."""
    length = {H36M17.joints[child]: bones[..., i] for i, (_, child) in enumerate(H36M17.bones)}
    legs = sum(length[f"{side}_{joint}"] for side in ("left", "right") for joint in ("knee", "ankle")) / 2
    return np.asarray(BEYOND_JOINTS * (legs + length["spine"] + length["thorax"] + length["nose"] + length["head"]))

"""Joints of other tools: their orders by name, names in other spellings, and whether bodies fit an order.

A file that does not name its joints has them in an order that only its number of joints hints at. Whether it is that
order is seen on the bodies: in the wrong one, bones lead from a shoulder to a knee.
"""

from __future__ import annotations

import re

import numpy as np
from numpy import ndarray as Array
from scipy.sparse.csgraph import minimum_spanning_tree

from twoview.errors import FormatError
from twoview.skeleton import COCO17, H36M17, HALPE26, Skeleton

_FACE = ("right_eye", "left_eye", "right_ear", "left_ear")
_ARMS = ("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist")
_LEGS = ("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle")
_FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")


def _more(count: int, kind: str) -> tuple[str, ...]:
    """Names of joints of faces and hands, which are not kept."""
    return tuple(f"{kind}_{i}" for i in range(count))


BODY25 = ("nose", "neck", *_ARMS, "hip", *_LEGS, *_FACE, *_FEET)
ORDERS: dict[str, tuple[str, ...]] = {
    "coco17": COCO17.joints,
    "halpe26": HALPE26.joints,
    "h36m17": H36M17.joints,
    "body25": BODY25,
    "body25b": (*COCO17.joints, "neck", "head", *_FEET),
    "openpose18": ("nose", "neck", *_ARMS, *_LEGS, *_FACE),
    "mpi15": ("head", "neck", *_ARMS, *_LEGS, "chest"),
    "mpii16": (*_LEGS[2::-1], *_LEGS[3:], "hip", "thorax", "neck", "head", *_ARMS[2::-1], *_ARMS[3:]),
    "wholebody133": (*COCO17.joints, *_FEET, *_more(68, "face"), *_more(42, "hands")),
    "halpe136": (*HALPE26.joints, *_more(68, "face"), *_more(42, "hands")),
}
"""Orders that `--skeleton` may name; "" has none of our names."""

_OPENPOSE = {25: "body25", 18: "openpose18", 15: "mpi15"}
_USUAL = {"openpose": _OPENPOSE, "alphapose": {18: "openpose18"}}  # tool -> number of joints -> order
_COMMON = {17: "coco17", 26: "halpe26", 133: "wholebody133", 136: "halpe136"}

# How long a body's bones may be together, over the shortest tree through its joints. In the rendered scenes the right
# order gives 1.2 to 1.9, Human3.6M's joints taken for COCO's 2.4 and more.
MOST_TANGLED = 2.2
UNEQUAL, LOPSIDED = 2.5, 2  # limbs of one body: so many are so unequal in no rendered scene
_LOOKED_AT = 40  # bodies, of which the quarter in which joints lie farthest apart counts

# Joint -> the joints of which the first that is there is the other end of its bone.
_BONES: dict[str, tuple[str, ...]] = {
    "left_ear": ("left_eye", "nose"), "left_eye": ("nose",), "right_ear": ("right_eye", "nose"), "right_eye": ("nose",),
    "head": ("nose", "neck", "thorax"), "nose": ("neck", "thorax", "left_shoulder"), "neck": ("thorax",),
    "thorax": ("spine", "right_shoulder"), "spine": ("pelvis", "hip"), "right_shoulder": ("neck", "left_shoulder"),
    "left_shoulder": ("neck", "thorax", "left_hip"), "chest": ("neck",),
    **{f"{side}_{a}": (f"{side}_{b}",) for side in ("left", "right")
       for a, b in (("elbow", "shoulder"), ("wrist", "elbow"), ("knee", "hip"), ("ankle", "knee"), ("big_toe", "ankle"),
                    ("small_toe", "big_toe"), ("heel", "ankle"))},
    "left_hip": ("hip", "pelvis", "left_shoulder"), "right_hip": ("hip", "pelvis", "left_hip"),
    "hip": ("neck", "thorax"),
}  # fmt: skip


def order(name: str) -> tuple[str, ...]:
    """The joints of the order of that name. Raises FormatError with the known names."""
    if name not in ORDERS:
        raise FormatError(f"unknown order of joints {name!r}; known: {', '.join(ORDERS)}")
    return ORDERS[name]


def usual_order(count: int, tool: str) -> str:
    """The order of so many joints in the files of a tool that does not name them. Raises FormatError where none is."""
    usual = {**_COMMON, **_USUAL.get(tool, {})}
    if count in usual:
        return usual[count]
    known = ", ".join(f"{number} ({name})" for number, name in sorted(usual.items()))
    raise FormatError(
        f"people have {count} joints, and the file does not name them; known without names: {known}",
        hint="write the file again with the joints of one of these models",
    )


def check_body(xy: Array, score: Array, used: str, label: str) -> None:
    """Raises FormatError where bodies xy (N, J, 2), score (N, J) cannot have their joints in the order of that name."""
    if not (wrong := _contradiction(xy, score, ORDERS[used])):
        return
    same = [name for name, names in ORDERS.items() if len(names) == xy.shape[1] and name != used]
    fit = [name for name in same if not _contradiction(xy, score, ORDERS[name])]
    raise FormatError(
        f"{label}: the {xy.shape[1]} joints are not in the order {used}: {wrong}"
        + (f"; the order {fit[0]} fits" if fit else ""),
        hint=f"--skeleton {fit[0]}" if fit else f"name the order with --skeleton, one of {', '.join(ORDERS)}",
    )


def _contradiction(xy: Array, score: Array, names: tuple[str, ...]) -> str:
    """Why bodies cannot have these joints; "" where they can."""
    if tangled(xy, score, names) > MOST_TANGLED:
        return "its bones would cross the whole body"
    return "its left and right limbs would differ in length" if lopsided(xy, score, names) >= LOPSIDED else ""


def lopsided(xy: Array, score: Array, names: tuple[str, ...]) -> int:
    """How many of upper arm, forearm, thigh and shank are UNEQUAL times as long on one side as on the other.

    By the median over all bodies: from one side the far limbs look shorter, but seldom by as much for as long.
    """
    count = 0
    for ends in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
        lengths = []
        for side in ("left", "right"):
            if not {f"{side}_{end}" for end in ends} <= set(names):
                break
            a, b = (names.index(f"{side}_{end}") for end in ends)
            known = (score[:, a] > 0) & (score[:, b] > 0)
            if known.any():
                lengths.append(float(np.median(np.linalg.norm(xy[known, a] - xy[known, b], axis=-1))))
        count += len(lengths) == 2 and max(lengths) > UNEQUAL * max(min(lengths), 1e-6)
    return count


def tangled(xy: Array, score: Array, names: tuple[str, ...]) -> float:
    """How long the bones of bodies with these joints are, over the shortest tree through the same joints: 1 or more.

    Of some of the bodies the lower quartile; 1 where there is none of which enough is seen.
    """
    kept = [i for i, name in enumerate(names) if name in _BONES]
    bones = [(i, next((names.index(end) for end in _BONES[names[i]] if end in names), -1)) for i in kept]
    ratios = []
    for points, seen in zip(*_some(xy, score > 0), strict=True):
        there = [(a, b) for a, b in bones if b >= 0 and seen[a] and seen[b]]
        joints = sorted({joint for bone in there for joint in bone})
        if len(there) < len(joints) - 1 or len(joints) < 8:
            continue  # some bones' ends are unseen: what is left is no tree
        apart = np.linalg.norm(points[joints][:, None] - points[joints][None], axis=-1) + 1e-6
        shortest = float(minimum_spanning_tree(apart).sum())
        length = sum(float(np.linalg.norm(points[a] - points[b])) for a, b in there)
        ratios.append((length + 1e-3) / (shortest + 1e-3))
    return float(np.percentile(ratios, 25)) if ratios else 1.0


def _some(xy: Array, seen: Array) -> tuple[Array, Array]:
    """Up to _LOOKED_AT of the bodies, those of which most is seen first."""
    rows = np.argsort(-seen.sum(axis=1), kind="stable")
    rows = rows[: max(len(rows) // 2, 1)]
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _LOOKED_AT)).astype(int)] if len(rows) else rows
    return xy[rows], seen[rows]


def arrange(names: tuple[str, ...], label: str) -> tuple[Skeleton, Array]:
    """The largest of our skeletons whose joints are all named, and the index of each joint in `names` (-1: none)."""
    for skeleton in (HALPE26, COCO17, H36M17):
        found = np.array([names.index(joint) if joint in names else -1 for joint in skeleton.joints])
        if (found >= 0).all():
            return skeleton, found
    body = [joint for joint in COCO17.joints[5:] if joint not in names]
    if body:
        raise FormatError(
            f"{label} lacks {', '.join(body[:4])}; it has {', '.join(names[:8])} ...",
            hint="name the joints as COCO does, for instance left_shoulder",
        )
    return COCO17, np.array([names.index(joint) if joint in names else -1 for joint in COCO17.joints])


_PARTS = r"(eye|ear|shoulder|elbow|wrist|hip|knee|ankle|heel|big_?toe|small_?toe)"


def our_name(part: str) -> str:
    """left_shoulder for leftShoulder, LShoulder, shoulder_left, left-shoulder, Left Shoulder."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part.strip())
    words = re.sub(r"[\s\-.]+", "_", words).lower()
    before = re.fullmatch(rf"(l|r|left|right)_?{_PARTS}", words)
    after = re.fullmatch(rf"{_PARTS}_?(l|r|left|right)", words)
    side, joint = (before[1], before[2]) if before else (after[2], after[1]) if after else ("", words)
    if not side:
        return {"mid_hip": "hip", "midhip": "hip", "head_top": "head"}.get(words, words)
    joint = joint.replace("bigtoe", "big_toe").replace("smalltoe", "small_toe")
    return f"{'left' if side[0] == 'l' else 'right'}_{joint}"

"""Readers of motion capture: Biovision (.bvh), and Acclaim (.asf, .amc) as CMU publishes it, as Human3.6M joints.

A .bvh has skeleton and joint angles in one file; an .asf has the skeleton, and an .amc the joint angles of one take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from scipy.spatial.transform import Rotation

from twoview.datasets.motion import Motion
from twoview.datasets.recordings import read_text
from twoview.errors import FormatError
from twoview.skeleton import H36M17
from twoview.storage.objects import DAMAGE, MOST_BYTES

MOST_JOINTS = 1000  # of a skeleton with fingers and props
_JOINT_BYTES = 24 * 8  # a joint's turn, shift and place in one frame, and what is made on the way

Points = Mapping[str, Array]  # name -> (T, 3) meters


def rotation(axes: Sequence[str], degrees: Array) -> Array:
    """Product, left to right, of rotations about `axes` ("x", "y", "z"); degrees (..., len(axes)) -> (..., 3, 3)."""
    flat = degrees.reshape(-1, len(axes))
    found = Rotation.identity(len(flat))
    for index, axis in enumerate(axes):
        found = found * Rotation.from_euler(axis, flat[:, [index]], degrees=True)
    return np.asarray(found.as_matrix().reshape(*degrees.shape[:-1], 3, 3))


def z_up(points: Array) -> Array:
    """Points (..., 3) whose y axis points up, with z up instead, right-handed."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)


def to_h36m(points: Points, names: Mapping[str, str | tuple[str, str]], where: str) -> Array:
    """Human3.6M joints (T, 17, 3) of named points; the pelvis is the middle of the hips, whatever the file's root.

    names  Human3.6M joint -> name of a point, or of two of which it is the middle
    """
    missing = sorted(
        {n for value in names.values() for n in ([value] if isinstance(value, str) else value)} - set(points)
    )
    if missing:
        raise FormatError(
            f"{where} has no {', '.join(missing)}",
            hint=f"its points are {', '.join(points)}; give a table from Human3.6M's joints to these",
        )
    pick = {j: points[v] if isinstance(v, str) else (points[v[0]] + points[v[1]]) / 2 for j, v in names.items()}
    pick["pelvis"] = (pick["left_hip"] + pick["right_hip"]) / 2
    return z_up(np.stack([pick[joint] for joint in H36M17.joints], axis=1)).astype(np.float32)


# --- BVH -------------------------------------------------------------------------------------------------------------

# The MotionBuilder-friendly conversion of CMU's takes. A joint is the point where it begins, "Head end" that where the
# head ends. See `mend_cmu` for the two bones that it lacks.
BVH_JOINTS: dict[str, str | tuple[str, str]] = {
    "right_hip": "RightUpLeg", "right_knee": "RightLeg", "right_ankle": "RightFoot",
    "left_hip": "LeftUpLeg", "left_knee": "LeftLeg", "left_ankle": "LeftFoot",
    "spine": "Spine", "thorax": ("Neck", "Neck1"), "nose": "Head", "head": "Head end",
    "left_shoulder": "LeftArm", "left_elbow": "LeftForeArm", "left_wrist": "LeftHand",
    "right_shoulder": "RightArm", "right_elbow": "RightForeArm", "right_wrist": "RightHand",
}  # fmt: skip


@dataclass
class _Joint:
    name: str
    parent: int
    offset: Array = field(default_factory=lambda: np.zeros(3))
    channels: tuple[str, ...] = ()


def read_bvh(
    path: Path | str,
    *,
    unit_m: float,
    joints: Mapping[str, str | tuple[str, str]] = BVH_JOINTS,
    rate: float | None = None,
    cmu: bool = False,
) -> Motion:
    """One take as motion in meters, z up.

    unit_m  meters per unit of the file, which does not name its unit (CMU's conversions: 0.0254 / 0.45)
    joints  Human3.6M joint -> joint of the file, or two of which it is the middle; "NAME end" is an end site
    rate    frames per second where the file's own frame time is wrong
    cmu     put back the two bones that CMU's conversions lack

    Raises FormatError for a damaged file or an unknown joint.
    """
    path = Path(path)
    try:
        found, values, frame_time = _parse(read_text(path, "latin-1"))
        _check_size(len(found), values)
        if cmu:
            mend_cmu(found)
        points = _bvh_positions(found, values)
        _check_finite(points)
        return Motion(
            path.stem, to_h36m({n: p * unit_m for n, p in points.items()}, joints, str(path)), rate or 1 / frame_time
        )
    except DAMAGE as error:
        raise FormatError(f"{path} is truncated or not a BVH file: {error}"[:400], hint="download it again") from error


def _check_finite(points: Points) -> None:
    """Raise ValueError for points that are nowhere."""
    if not all(np.isfinite(place).all() for place in points.values()):
        raise ValueError("some joints are nowhere: its numbers are not all finite")


def _check_size(bones: int, values: Array) -> None:
    """Raise ValueError for more joints than a body has, or values that are no finite numbers."""
    if bones > MOST_JOINTS or bones * len(values) * _JOINT_BYTES > MOST_BYTES:
        raise ValueError(f"{bones} joints in {len(values)} frames; at most {MOST_JOINTS} joints and 4 GiB of them")
    if not np.isfinite(values).all():
        raise ValueError("not all of its values are finite numbers")


def mend_cmu(joints: list[_Joint]) -> None:
    """Put back the bones to which the conversions of CMU's takes give no length: arms would be 12 cm too low.

    The thorax: neck and shoulders begin where it begins; it is as long as the bone below it (within 3 % in CMU's own
    skeletons). The wrist: the hand begins where the radius ends, half a radius too early.
    """
    index = {joint.name: i for i, joint in enumerate(joints)}
    for name in ("Neck", "LeftShoulder", "RightShoulder"):
        if name in index and not joints[index[name]].offset.any():
            joints[index[name]].offset = joints[index["Spine1"]].offset.copy()
    for name in ("LeftHand", "RightHand"):
        if name in index:
            joints[index[name]].offset = joints[index[name]].offset * 1.5


def _bvh_positions(joints: list[_Joint], values: Array) -> dict[str, Array]:
    """Position (T, 3) of the beginning of each joint, in the file's units; parents come first in the file."""
    turns: list[Array] = []
    places: list[Array] = []
    column = 0
    for joint in joints:
        own = values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        above = turns[joint.parent] if joint.parent >= 0 else np.eye(3)
        shift = np.tile(joint.offset, (len(values), 1))
        axes, angles = [], []
        for index, channel in enumerate(joint.channels):
            axis, kind = channel[0].lower(), channel[1:].lower()
            if kind == "position":
                shift[:, "xyz".index(axis)] = own[:, index] + (
                    joint.offset["xyz".index(axis)] if joint.parent >= 0 else 0
                )
            else:
                axes.append(axis)
                angles.append(own[:, index])
        turn = rotation(axes, np.stack(angles, axis=-1)) if axes else np.eye(3)
        places.append((above @ shift[..., None])[..., 0] + (places[joint.parent] if joint.parent >= 0 else 0))
        turns.append(above @ turn)
    return {joint.name: place for joint, place in zip(joints, places, strict=True)}


def _parse(text: str) -> tuple[list[_Joint], Array, float]:
    head, motion, body = text.partition("MOTION")
    if not motion:
        raise ValueError("no MOTION")
    joints = _hierarchy(head.split())
    lines = body.strip().splitlines()
    frames = int(lines[0].split(":")[1])
    frame_time = float(lines[1].split(":")[1])
    values = np.array(" ".join(lines[2:]).split(), dtype=float)
    width = sum(len(joint.channels) for joint in joints)
    if len(values) != frames * width or not frames or not 0 < frame_time < math.inf:
        raise ValueError(f"{frames} frames of {width} values are expected, and {len(values)} values are there")
    return joints, values.reshape(frames, width), frame_time


def _hierarchy(words: list[str]) -> list[_Joint]:
    """Joints in file order. End sites are named after their joint: "Head end"."""
    joints: list[_Joint] = []
    stack: list[int] = []
    at = iter(words)
    for word in at:
        if word in ("ROOT", "JOINT", "End"):
            name = next(at)
            name = f"{joints[stack[-1]].name} end" if word == "End" else name
            joints.append(_Joint(name, stack[-1] if stack else -1))
        elif word == "{":
            stack.append(len(joints) - 1)
        elif word == "}":
            stack.pop()
        elif word == "OFFSET":
            joints[-1].offset = np.array([float(next(at)) for _ in range(3)])
        elif word == "CHANNELS":
            joints[-1].channels = tuple(next(at) for _ in range(int(next(at))))
    if stack or not joints:
        raise ValueError("the skeleton is not closed")
    return joints


# --- Acclaim ---------------------------------------------------------------------------------------------------------

_INCH_M = 0.0254
_ROOT = "root"

# A bone's name is that of its far end. CMU's own root is 10 cm above the hip joints and is not used.
AMC_JOINTS: dict[str, str | tuple[str, str]] = {
    "right_hip": "rhipjoint", "right_knee": "rfemur", "right_ankle": "rtibia",
    "left_hip": "lhipjoint", "left_knee": "lfemur", "left_ankle": "ltibia",
    "spine": "lowerback", "thorax": ("thorax", "lowerneck"), "nose": "upperneck", "head": "head",
    "left_shoulder": "lclavicle", "left_elbow": "lhumerus", "left_wrist": "lwrist",
    "right_shoulder": "rclavicle", "right_elbow": "rhumerus", "right_wrist": "rwrist",
}  # fmt: skip


@dataclass
class _Bone:
    direction: Array = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axis: Array = field(default_factory=lambda: np.zeros(3))
    freedoms: tuple[str, ...] = ()
    parent: str = ""


def read_amc(path: Path | str, asf: Path | str, *, rate: float) -> Motion:
    """One take as motion in meters, z up.

    asf   the subject's skeleton
    rate  frames per second, which the files do not name (CMU: 120, but 60 for a few subjects)

    Raises FormatError for a damaged file or an angle without a bone.
    """
    path, asf = Path(path), Path(asf)
    try:
        bones, unit = _skeleton(read_text(asf, "latin-1"))
        angles = _angles(read_text(path, "latin-1"))
        for values in angles.values():
            _check_size(len(bones), values)
    except DAMAGE as error:
        raise FormatError(f"{path} or {asf} is damaged: {error}"[:400], hint="download it again") from error
    strangers = sorted(set(angles) - set(bones) - {_ROOT})
    if strangers or _ROOT not in angles:
        raise FormatError(f"{path} does not fit {asf}: it moves {', '.join(strangers) or 'no root'}")
    try:
        points = _amc_positions(bones, angles, unit)
        _check_finite(points)
        return Motion(path.stem, to_h36m(points, AMC_JOINTS, str(asf)), rate)
    except DAMAGE as error:
        raise FormatError(f"{path} or {asf} is damaged: {error}"[:400], hint="download it again") from error


def _amc_positions(bones: dict[str, _Bone], angles: dict[str, Array], unit: float) -> dict[str, Array]:
    """Far end (T, 3) of each bone in meters: parent's turn, then axis * angles * axis^-1, then along the bone."""
    root = angles[_ROOT]
    frames = len(root)
    turns = {_ROOT: rotation("zyx", root[:, [5, 4, 3]])}
    ends = {_ROOT: root[:, :3] * unit}
    for name, bone in bones.items():
        if bone.parent not in turns:
            raise FormatError(
                f"the parent of the bone {name}, {bone.parent or 'not named'}, comes after it or is missing"
            )
        axis = rotation("zyx", bone.axis[::-1])
        own = np.zeros((frames, 3))
        for index, freedom in enumerate(bone.freedoms):
            if name in angles:
                own[:, "xyz".index(freedom[-1])] = angles[name][:, index]
        turns[name] = turns[bone.parent] @ axis @ rotation("zyx", own[:, ::-1]) @ axis.T
        ends[name] = ends[bone.parent] + turns[name] @ (bone.direction * bone.length * unit)
    return ends


def _skeleton(text: str) -> tuple[dict[str, _Bone], float]:
    """Bones, parents before children, and meters per unit."""
    bones: dict[str, _Bone] = {}
    order: list[str] = []
    section, name, unit = "", "", 1.0
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key, values = words[0].lower(), words[1:]
        if key.startswith(":"):
            section = key[1:]
        elif section == "units" and key == "length":
            unit = _INCH_M / float(values[0])
        elif section == "bonedata" and key == "name":
            name = values[0]
            bones[name] = _Bone()
        elif section == "bonedata" and key == "direction":
            bones[name].direction = np.array(values[:3], dtype=float)
        elif section == "bonedata" and key == "length":
            bones[name].length = float(values[0])
        elif section == "bonedata" and key == "axis":
            if values[3].upper() != "XYZ":
                raise ValueError(f"axis order {values[3]} of {name}; only XYZ is known")
            bones[name].axis = np.array(values[:3], dtype=float)
        elif section == "bonedata" and key == "dof":
            bones[name].freedoms = tuple(values)
        elif section == "hierarchy" and key not in ("begin", "end"):
            for child in values:
                bones[child].parent = words[0]
                order.append(child)
    if not order:
        raise ValueError("no hierarchy")
    return {name: bones[name] for name in order}, unit


def _angles(text: str) -> dict[str, Array]:
    """Values (T, n) of each bone. Every frame must name the same bones."""
    rows: dict[str, list[list[float]]] = {}
    frames = 0
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#:":
            continue
        if len(words) == 1 and words[0].isdigit():
            frames += 1
        else:
            rows.setdefault(words[0], []).append([float(word) for word in words[1:]])
    short = [name for name, values in rows.items() if len(values) != frames]
    if not frames or short:
        raise ValueError(f"{frames} frames, and {', '.join(short) or 'none'} not in all of them")
    return {name: np.array(values) for name, values in rows.items()}

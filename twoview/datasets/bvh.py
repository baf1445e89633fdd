"""Biovision motion capture (.bvh): skeleton and joint angles in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twoview.datasets import Motion
from twoview.datasets.kinematics import rotation, to_h36m
from twoview.errors import FormatError

Array = np.ndarray

# The MotionBuilder-friendly conversion of CMU's takes. A joint's name stands for where it begins, "Head end" for where
# the head ends. See `mend_cmu` for the two bones that it lacks.
CMU_JOINTS: dict[str, str | tuple[str, str]] = {
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


def read(
    path: Path | str,
    *,
    unit_m: float,
    joints: Mapping[str, str | tuple[str, str]] = CMU_JOINTS,
    rate: float | None = None,
    cmu: bool = False,
) -> Motion:
    """One take as motion in metres, z up.

    unit_m  metres a unit of the file, which does not say (CMU's conversions: 0.0254 / 0.45)
    joints  Human3.6M joint -> joint of the file, or two whose middle it is; "NAME end" is an end site
    rate    frames a second where the file's own frame time is wrong
    cmu     put back the two bones that CMU's conversions lack
    Raises FormatError for a damaged file or an unknown joint.
    """
    path = Path(path)
    try:
        found, values, frame_time = _parse(path.read_text(encoding="latin-1"))
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, IndexError, StopIteration) as error:
        raise FormatError(f"{path} is truncated or not a BVH file: {error}", hint="download it again") from error
    if cmu:
        mend_cmu(found)
    points = _positions(found, values)
    return Motion(
        path.stem, to_h36m({n: p * unit_m for n, p in points.items()}, joints, str(path)), rate or 1 / frame_time
    )


def mend_cmu(joints: list[_Joint]) -> None:
    """Put back the bones that the conversions of CMU's takes set to nothing, without which arms hang 12 cm too low.

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


def _positions(joints: list[_Joint], values: Array) -> dict[str, Array]:
    """Where each joint begins, (T, 3) in the file's units; parents come before children in the file."""
    turns: list[Array] = []
    places: list[Array] = []
    column = 0
    for joint in joints:
        own = values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
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
        if joint.parent < 0:
            places.append(shift)
            turns.append(np.broadcast_to(turn, (len(values), 3, 3)))
        else:
            above = turns[joint.parent]
            places.append(places[joint.parent] + (above @ shift[..., None])[..., 0])
            turns.append(above @ turn)
    return {joint.name: place for joint, place in zip(joints, places, strict=True)}


def _parse(text: str) -> tuple[list[_Joint], Array, float]:
    head, motion, body = text.partition("MOTION")
    if not motion:
        raise ValueError("no MOTION")
    joints = list(_hierarchy(head.split()))
    lines = body.strip().splitlines()
    frames = int(lines[0].split(":")[1])
    frame_time = float(lines[1].split(":")[1])
    values = np.array(" ".join(lines[2:]).split(), dtype=float)
    width = sum(len(joint.channels) for joint in joints)
    if len(values) != frames * width or not frames or frame_time <= 0:
        raise ValueError(f"{frames} frames of {width} values are announced, and {len(values)} values are there")
    return joints, values.reshape(frames, width), frame_time


def _hierarchy(words: list[str]) -> Iterator[_Joint]:
    """Joints in file order. End sites are named after their joint: "Head end"."""
    stack: list[int] = []
    count, joint, at = 0, None, iter(words)
    names: list[str] = []
    for word in at:
        if word in ("ROOT", "JOINT", "End"):
            if joint is not None:
                yield joint
            name = next(at)
            name = f"{names[stack[-1]]} end" if word == "End" else name
            joint = _Joint(name, stack[-1] if stack else -1)
            names.append(name)
        elif word == "{":
            stack.append(count)
            count += 1
        elif word == "}":
            stack.pop()
        elif word == "OFFSET" and joint is not None:
            joint.offset = np.array([float(next(at)) for _ in range(3)])
        elif word == "CHANNELS" and joint is not None:
            joint.channels = tuple(next(at) for _ in range(int(next(at))))
    if stack or joint is None:
        raise ValueError("the skeleton is not closed")
    yield joint

"""BVH: a skeleton of fixed bones and its turns, for animation programs.

Points determine where bones are and which way they point, not their roll. Pelvis and thorax have a whole orientation,
from the hips or shoulders and the spine. Every other bone has the smallest turn, from where the bone before it would
carry it in the rest pose, that points it the right way: no twist about itself that was not measured.

Rest pose: a T, y up, facing z; the left side is at x.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy import ndarray as Array
from scipy.spatial.transform import Rotation

from twoview.errors import FormatError
from twoview.formats.even import at_even_rate
from twoview.formats.markers import marker_names, marker_places
from twoview.poses import Poses3D
from twoview.skeleton import Skeleton

_UP = (0.0, 1.0, 0.0)
_REST = {  # from the parent to the joint, of the left side; the right is its mirror image, and all else points up
    "hip": (1, 0, 0), "knee": (0, -1, 0), "ankle": (0, -1, 0), "shoulder": (1, 0, 0), "elbow": (1, 0, 0),
    "wrist": (1, 0, 0), "big_toe": (0, 0, 1), "small_toe": (0, 0, 1), "heel": (0, 0, -1), "eye": (1, 0, 0),
    "ear": (1, 0, 0),
}  # fmt: skip
_TURNS = ("Zrotation", "Xrotation", "Yrotation")


def write_bvh(poses: Poses3D, path: Path) -> None:
    """Write the skeleton and its turns in meters, in the world's axes or y up, at the true rate.

    Raises FormatError where nothing is known.

    Bones have their median lengths. BVH has no gaps: unknown joints are interpolated, however long, and stay where
    they were before the first and after the last frame that knows them.
    """
    even = at_even_rate(poses)
    body = _Body(marker_places(even.poses).astype(np.float64), even.poses.skeleton)
    segments = _segments(body.skeleton, body.lengths)
    turns = _turns(body, segments)
    columns = [body.filled[:, body.skeleton.root], *(_degrees(turn) for turn in turns)]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("HIERARCHY\n")
        _write_segment(file, segments, 0, "")
        file.write(f"MOTION\nFrames: {len(even.poses)}\nFrame Time: {1 / even.rate:.9f}\n")
        np.savetxt(file, np.concatenate(columns, axis=1), fmt="%.6f")


def bvh_note(poses: Poses3D) -> str:
    """What a BVH holds other than the poses; "" where it has all joints within 0.001 of the poses' unit."""
    body = _Body(np.asarray(poses.xyz, np.float64), poses.skeleton)
    unknown = float(np.isnan(poses.xyz).any(axis=-1).mean())
    moved = np.linalg.norm(body.with_fixed_bones() - poses.xyz, axis=-1)
    said = []
    if unknown:
        said.append(f"{unknown:.1%} of the joints are unknown and were interpolated")
    if np.nanmean(moved) > 0.001:
        said.append(
            f"bones have one length each, which moves joints by {np.nanmean(moved):.3f} {poses.unit} on average and "
            f"{np.nanmax(moved):.3f} at most"
        )
    return "; ".join(said)


@dataclass(frozen=True, eq=False)
class _Body:
    """Places (T, J, 3) of a skeleton's joints, NaN where unknown."""

    xyz: Array
    skeleton: Skeleton

    def __post_init__(self) -> None:
        if np.isnan(self.xyz[:, self.skeleton.root]).any(axis=-1).all():
            raise FormatError(f"the {self.skeleton.joints[self.skeleton.root]} is unknown in every frame")

    @cached_property
    def lengths(self) -> Array:
        """Median length of the bone that ends at each joint (J,); 0 for the root and for what is never known."""
        lengths = np.zeros(len(self.skeleton))
        for parent, child in self.skeleton.bones:
            bone = np.linalg.norm(self.xyz[:, child] - self.xyz[:, parent], axis=-1)
            if np.isfinite(bone).any():
                lengths[child] = np.nanmedian(bone)
        return lengths

    @cached_property
    def filled(self) -> Array:
        """Places (T, J, 3) without gaps; a joint that is never known lies on its parent."""
        filled = self.xyz.copy()
        frames = np.arange(len(filled))
        for joint in self._parents_first():
            known = np.isfinite(self.xyz[:, joint]).all(axis=-1)
            if not known.any():
                filled[:, joint] = filled[:, self.skeleton.parents[joint]]
                continue
            for axis in range(3):
                filled[:, joint, axis] = np.interp(frames, frames[known], self.xyz[known, joint, axis])
        return filled

    def direction(self, joint: int) -> Array:
        """Unit vectors (T, 3) from a joint's parent to it; 0 where they coincide."""
        bone = self.filled[:, joint] - self.filled[:, self.skeleton.parents[joint]]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        return np.asarray(bone / np.where(length > 0, length, 1.0))

    def with_fixed_bones(self) -> Array:
        """Places (T, J, 3) of the joints when every bone has its median length."""
        places = np.empty_like(self.filled)
        for joint in self._parents_first():
            parent = self.skeleton.parents[joint]
            start = self.filled[:, joint] if parent < 0 else places[:, parent]
            places[:, joint] = start if parent < 0 else start + self.lengths[joint] * self.direction(joint)
        return places

    def _parents_first(self) -> Iterator[int]:
        yield self.skeleton.root
        order = [self.skeleton.root]
        for joint in order:
            children = [child for parent, child in self.skeleton.bones if parent == joint]
            order += children
            yield from children


@dataclass
class _Segment:
    """A joint of the file.

    parent    index of the segment before it, -1 for the root
    offset    (3,) from that segment, in the rest pose
    points    the joint to which its turn points a bone; -1 for one that turns as its parent does
    frame     joints whose bones determine its whole orientation; () for one of the smallest turn
    children  indices of the segments after it
    """

    name: str
    parent: int
    offset: Array
    points: int = -1
    frame: tuple[int, ...] = ()
    children: list[int] = field(default_factory=list)


def _segments(skeleton: Skeleton, lengths: Array) -> list[_Segment]:
    """The file's joints, parents first: where bones part, each has one of its own at the same place, which turns it."""
    names = marker_names(skeleton)
    made: list[_Segment] = []

    def add(segment: _Segment) -> int:
        if segment.parent >= 0:
            made[segment.parent].children.append(len(made))
        made.append(segment)
        return len(made) - 1

    def grow(joint: int, parent: int) -> None:
        children = [child for start, child in skeleton.bones if start == joint]
        own = _Segment(names[joint], parent, lengths[joint] * _rest(skeleton.joints[joint]))
        if len(children) == 1:
            own.points = children[0]
        elif children:
            own.frame = _frame_of(skeleton, joint, children)
        index = add(own)
        for child in children:
            turned = index
            if len(children) > 1:
                turned = add(_Segment(f"{names[child]}Base", index, np.zeros(3), child))
            grow(child, turned)

    grow(skeleton.root, -1)
    return made


def _frame_of(skeleton: Skeleton, joint: int, children: list[int]) -> tuple[int, ...]:
    """The bones that determine a joint's orientation: both sides' and the spine's, which begins at the root."""
    sides = {side for pair in skeleton.pairs for side in pair}
    paired = [child for child in children if child in sides]
    spine = [joint] if skeleton.parents[joint] >= 0 else [child for child in children if child not in sides]
    return (*paired, *spine)


def _rest(joint: str) -> Array:
    """The unit vector (3,) from a joint's parent to it in the rest pose."""
    side, _, part = joint.partition("_")
    if side not in ("left", "right"):
        return np.array(_UP)  # the spine, the head, and a hip that is the middle of both
    x, y, z = _REST.get(part, _UP)
    return np.array([-x if side == "right" else x, y, z], float)


def _turns(body: _Body, segments: list[_Segment]) -> list[Array]:
    """The turn (T, 3, 3) of every segment against its parent's."""
    whole: list[Array] = []
    local = []
    for segment in segments:
        start = whole[segment.parent] if segment.parent >= 0 else np.broadcast_to(np.eye(3), (len(body.filled), 3, 3))
        turn = start
        if segment.frame:
            turn = _best_turn(
                np.stack([body.direction(joint) for joint in segment.frame], axis=1),
                np.stack([_rest(body.skeleton.joints[joint]) for joint in segment.frame]),
            )
        elif segment.points >= 0:
            rest = _rest(body.skeleton.joints[segment.points])
            turn = _smallest_turn(start @ rest, body.direction(segment.points)) @ start
        whole.append(turn)
        local.append(start.swapaxes(1, 2) @ turn)
    return local


def _best_turn(seen: Array, rest: Array) -> Array:
    """The turn (T, 3, 3) that takes the directions (N, 3) nearest to those (T, N, 3) that are seen."""
    left, _, right = np.linalg.svd(np.einsum("tni,nj->tij", seen, rest))
    signs = np.ones((len(seen), 3))
    signs[:, 2] = np.linalg.det(left @ right)
    return np.asarray((left * signs[:, None]) @ right)


def _smallest_turn(start: Array, end: Array) -> Array:
    """The smallest turn (T, 3, 3) that takes unit vectors (T, 3) to others; none where there is no other (0)."""
    axis = np.cross(start, end)
    cosine = (start * end).sum(axis=-1)
    quaternion = np.concatenate([axis, 1 + cosine[:, None]], axis=-1)
    back = cosine < -1 + 1e-12  # about any axis across
    across = np.cross(start, np.eye(3)[np.abs(start).argmin(axis=-1)])
    quaternion[back] = np.concatenate([across, np.zeros((len(start), 1))], axis=-1)[back]
    quaternion[~end.any(axis=-1)] = (0, 0, 0, 1)
    return np.asarray(Rotation.from_quat(quaternion).as_matrix())


def _degrees(turn: Array) -> Array:
    """Angles (T, 3) about z, then the turned x, then the turned y, without jumps of whole turns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at 90 degrees about x one of the others is free, and 0
        angles = Rotation.from_matrix(turn).as_euler("ZXY", degrees=True)
    return np.asarray(np.unwrap(angles, period=360.0, axis=0))


def _write_segment(file: TextIO, segments: list[_Segment], index: int, indent: str) -> None:
    segment = segments[index]
    root = segment.parent < 0
    offset = " ".join(f"{value + 0.0:.6f}" for value in segment.offset)
    channels = ("Xposition", "Yposition", "Zposition", *_TURNS) if root else _TURNS
    file.write(f"{indent}{'ROOT' if root else 'JOINT'} {segment.name}\n{indent}{{\n")
    inner = f"{indent}\t"
    file.write(f"{inner}OFFSET {offset}\n{inner}CHANNELS {len(channels)} {' '.join(channels)}\n")
    for child in segment.children:
        _write_segment(file, segments, child, inner)
    if not segment.children:
        file.write(f"{inner}End Site\n{inner}{{\n{inner}\tOFFSET 0.000000 0.000000 0.000000\n{inner}}}\n")
    file.write(f"{indent}}}\n")

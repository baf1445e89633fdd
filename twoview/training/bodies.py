"""Variation of motion capture: other builds, mirrored bodies, other limbs, leaning and tumbling.

Motion is (B, T, 17, 3) m, z up. Bones keep their lengths within a clip, and knees and elbows their angles: whole limbs
are rotated, or taken from another clip, in the axes of the hips or of the shoulders.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twoview.config import BodyRange
from twoview.geometry.similarity import mirror
from twoview.skeleton import H36M17
from twoview.training.virtual_cameras import ARMS, LEGS, Chance, J, rotation_matrix

_PARENT = [max(parent, 0) for parent in H36M17.parents]
# Which factor scales each bone, by its child joint: 1 hips, 2 thighs, 3 shins, 4 trunk, 5 head, 6 shoulders, 7 arms
# (0 for the root)
_BUILD = [0, 1, 2, 3, 1, 2, 3, 4, 4, 5, 5, 6, 7, 7, 6, 7, 7]
# (17, 17): a joint is the sum over its row of bones, the root's own bone being its position. Parents come first.
_CHAIN = torch.eye(17)
for _parent, _child in H36M17.bones:
    _CHAIN[_child] += _CHAIN[_parent]


def to_bones(motion: Tensor) -> Tensor:
    """Vectors (..., 17, 3) from each joint's parent to the joint; the root's is its position."""
    bones = motion - motion[..., _PARENT, :]
    bones[..., H36M17.root, :] = motion[..., H36M17.root, :]
    return bones


def from_bones(bones: Tensor) -> Tensor:
    """The inverse of `to_bones`."""
    return torch.einsum("jk,...kc->...jc", _CHAIN.to(bones), bones)


def vary_bodies(motion: Tensor, chance: Chance, how: BodyRange | None = None) -> Tensor:
    """Each clip with another body, some of them mirrored, some with other limbs, leaning, or tumbling."""
    how = how or BodyRange()
    batch, frames = motion.shape[:2]
    bones = to_bones(torch.where(chance.happens(how.mirrored, batch, 1, 1, 1), mirror(motion), motion))
    bones = _take_limbs(bones, chance, how)
    bones = _turn_limbs(bones, chance, how)

    factors = 1 + how.build * chance.normal(batch, 8).clamp(-2.5, 2.5)
    factors[:, 0] = 1
    height = chance.uniform(*how.height, batch, 1)
    bones = bones * (factors * height)[:, None, _BUILD, None]

    lean = chance.normal(batch, 1, 3) * how.lean * chance.happens(how.leaning, batch, 1, 1)
    tumbles = chance.happens(how.tumbling, batch, 1, 1)
    time = torch.arange(frames, device=motion.device)[:, None] / 30 - frames / 60
    tumble = (chance.normal(batch, 1, 3) * 2.0 + chance.normal(batch, 1, 3) * 1.5 * time) * tumbles
    turn = rotation_matrix(lean + tumble)[:, :, None]
    limbs = (turn @ bones[..., 1:, :, None])[..., 0]
    return from_bones(torch.cat([bones[..., :1, :], limbs], dim=2))


def _torso(bones: Tensor, across: str, up: str) -> Tensor:
    """Axes (B, T, 3, 3), as columns, of the hips or the shoulders: x to the left, y up, z out of the chest."""
    side = bones[..., J[f"left_{across}"], :] - bones[..., J[f"right_{across}"], :]
    y = torch.nn.functional.normalize(bones[..., J[up], :], dim=-1)
    x = torch.nn.functional.normalize(side - (side * y).sum(-1, keepdim=True) * y, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def _take_limbs(bones: Tensor, chance: Chance, how: BodyRange) -> Tensor:
    """Both arms, or both legs, of some clips come from the next clip of the batch."""
    out = bones.clone()
    parts = ((ARMS, ("shoulder", "thorax"), how.swapped_arms), (LEGS, ("hip", "spine"), how.swapped_legs))
    for limbs, torso, share in parts:
        who = chance.happens(share, len(bones)).nonzero()[:, 0]
        if not len(who):
            continue
        index = [joint for limb in limbs for joint in limb[1:]]
        own, other = bones[who], bones[(who + 1) % len(bones)]
        moved = (_torso(own, *torso) @ _torso(other, *torso).mT)[:, :, None] @ other[:, :, index, :, None]
        length = own[:, :, index].norm(dim=-1, keepdim=True)
        own[:, :, index] = torch.nn.functional.normalize(moved[..., 0], dim=-1) * length
        out[who] = own
    return out


def _turn_limbs(bones: Tensor, chance: Chance, how: BodyRange) -> Tensor:
    """Whole arms and legs rotated about shoulder and hip, and the upper body about the spine, changing slowly."""
    batch, frames = bones.shape[:2]
    out = bones.clone()
    trunk = [J["thorax"], J["nose"], J["head"], *(joint for limb in ARMS for joint in limb)]
    head = [J["nose"], J["head"]]
    groups = [(trunk, how.bent, how.bend), (head, how.bent, how.bend)]
    groups += [(list(limb[1:]), how.turned_limbs, how.limb_turn) for limb in (*ARMS, *LEGS)]
    for joints, share, size in groups:
        who = chance.happens(share, batch).nonzero()[:, 0]
        if not len(who):
            continue
        still, moving = chance.normal(len(who), 1, 3), chance.drift(len(who), frames, 12, 3)
        turn = rotation_matrix(size * (still + 0.5 * moving))[:, :, None]
        part = out[who]
        part[:, :, joints] = (turn @ part[:, :, joints, :, None])[..., 0]
        out[who] = part
    return out


def coco_like(
    motion: Tensor, *, raise_hips: Tensor | float = 0.05, widen_hips: Tensor | float = 0.015, turn: Tensor | None = None
) -> Tensor:
    """Joints as converted from a COCO detector: hips higher and wider, the nose's tip, eyes as the head.

    raise_hips, widen_hips  meters, numbers or (B, 1, 1): up the trunk, and outwards on each side
    turn                    (B, 1, 1) radians that the face turns to the left of the chest, or None for straight ahead
    """
    out = motion.clone()
    left, right, pelvis, thorax = (motion[..., J[n], :] for n in ("left_hip", "right_hip", "pelvis", "thorax"))
    up = torch.nn.functional.normalize(thorax - pelvis, dim=-1) * raise_hips
    side = torch.nn.functional.normalize(left - right, dim=-1) * widen_hips
    out[..., J["left_hip"], :], out[..., J["right_hip"], :] = left + up + side, right + up - side
    shoulders = (motion[..., J["left_shoulder"], :] + motion[..., J["right_shoulder"], :]) / 2
    out[..., J["pelvis"], :] = (out[..., J["left_hip"], :] + out[..., J["right_hip"], :]) / 2
    out[..., J["thorax"], :] = shoulders
    out[..., J["spine"], :] = (out[..., J["pelvis"], :] + shoulders) / 2

    ears, crown = motion[..., J["nose"], :], motion[..., J["head"], :]
    high = torch.nn.functional.normalize(crown - ears, dim=-1)
    wide = motion[..., J["left_shoulder"], :] - motion[..., J["right_shoulder"], :]
    wide = torch.nn.functional.normalize(wide - (wide * high).sum(-1, keepdim=True) * high, dim=-1)
    face = torch.linalg.cross(wide, high)
    if turn is not None:
        face = face * turn.cos() + wide * turn.sin()
    out[..., J["nose"], :] = ears + 0.11 * face - 0.01 * high
    out[..., J["head"], :] = ears + 0.09 * face + 0.03 * high
    return out


def vary_definition(motion: Tensor, chance: Chance, share: float = 0.5) -> Tensor:
    """Joints as captured, or in a `share` of the clips as converted from a COCO detector, by varied lengths."""
    batch = len(motion)
    other = coco_like(
        motion,
        raise_hips=chance.uniform(0.02, 0.08, batch, 1, 1),
        widen_hips=chance.uniform(0.0, 0.03, batch, 1, 1),
        turn=0.4 * chance.normal(batch, 1, 1),
    )
    return torch.where(chance.happens(share, batch, 1, 1, 1), other, motion)

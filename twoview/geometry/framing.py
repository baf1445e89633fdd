"""Between pixels and what a lifter speaks, in one place: the frame of a clip, and the way back to the camera.

A lifter reads x, y in *screen units* of its clip's frame and answers x, y, z in the same units: x, y of the picture and
z = (Z - Z_root) / Z_root * focal / scale, the "2.5D" pose whose scale is that of the picture at the root's depth.

Two rules make a frame.
"screen"  MotionBERT's: the picture's center is 0 and half its width is 1.
"box"     A virtual camera turned towards the athlete (so that nobody looks turned for standing at the picture's edge),
          with the center of the clip's joints at 0 and twice their RMS distance from it as 1.

Both are exact and invertible once the focal length is named. It is the user's, or DEFAULT_FOCAL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from twoview.skeleton import H36M17

Rule = Literal["screen", "box"]
RULES: tuple[Rule, ...] = ("screen", "box")

DEFAULT_FOCAL = 0.8
"""Focal length in long sides of the picture where nobody knows better: a phone's main camera when it films."""

_NEAREST = 0.05  # least depth, in root depths, of a point before the camera; keeps wild detections finite


@dataclass(frozen=True, eq=False)
class Framing:
    """How the pixels of each clip in a batch become screen units.

    rotation  (B, 3, 3)  from the camera's axes to the frame's; identity for the rule "screen"
    scale     (B,) px    length of one screen unit in the turned picture
    focal     (B,) px    focal length that was assumed
    size      (B, 2) px  width and height of the upright picture; its center is taken as the principal point
    """

    rotation: Tensor
    scale: Tensor
    focal: Tensor
    size: Tensor

    def __getitem__(self, clips: slice | Tensor) -> Framing:
        """The framing of some clips of the batch."""
        return Framing(self.rotation[clips], self.scale[clips], self.focal[clips], self.size[clips])

    def to(self, *args: object) -> Framing:
        """The same on another device or in another precision."""
        return Framing(*(value.to(*args) for value in (self.rotation, self.scale, self.focal, self.size)))  # type: ignore[call-overload]


def default_focal(size: Tensor) -> Tensor:
    """Focal length (...,) px to assume for pictures of `size` (..., 2) px where it is unknown."""
    return DEFAULT_FOCAL * size.amax(dim=-1)


def frame_clip(xy: Tensor, score: Tensor, size: Tensor, rule: Rule = "box", *, focal: Tensor | None = None) -> Framing:
    """The frame of each clip of a batch.

    xy     (B, T, J, 2) px; anything where the score is 0
    score  (B, T, J)  0..1, 0 unseen; confident joints count for more in the box
    size   (B, 2) px  width, height
    focal  (B,) px, or None for `default_focal`
    """
    if rule not in RULES:
        raise ValueError(f"frame_clip: expected a rule among {', '.join(RULES)}, got {rule!r}")
    size = size.to(xy)
    focal = default_focal(size) if focal is None else focal.to(xy)
    straight = torch.eye(3, dtype=xy.dtype, device=xy.device).expand(xy.shape[0], 3, 3)
    whole = Framing(straight, size[:, 0] / 2, focal, size)
    if rule == "screen":
        return whole
    weight = score.to(xy)[..., None]
    seen = torch.where(weight > 0, xy, xy.new_zeros(()))
    total = weight.sum(dim=(1, 2))
    some = total > 0
    total = total.clamp(min=1e-6)
    center = torch.where(some, (weight * seen).sum(dim=(1, 2)) / total, size / 2)
    turned = Framing(turn_towards((center - size / 2) / focal[:, None]), torch.ones_like(focal), focal, size)
    squares = weight * to_screen(torch.where(weight > 0, xy, center[:, None, None]), turned).square()
    spread = 2 * (squares.sum(dim=(1, 2, 3)) / total[:, 0]).sqrt()
    scale = torch.where(some[:, 0] & (spread > 0), spread, whole.scale)
    return Framing(turned.rotation, scale, focal, size)


def to_screen(xy: Tensor, framing: Framing) -> Tensor:
    """Pixels xy (B, ..., 2) -> the same in screen units of each clip's frame."""
    focal, size = _like(framing.focal, xy), _like(framing.size, xy)
    turned = _rotate(framing.rotation, _rays((xy - size / 2) / focal))
    return _project(turned) * (focal / _like(framing.scale, xy))


def from_screen(screen: Tensor, framing: Framing) -> Tensor:
    """The inverse of `to_screen`: screen units (B, ..., 2) -> px."""
    focal, size = _like(framing.focal, screen), _like(framing.size, screen)
    rays = _rays(screen * (_like(framing.scale, screen) / focal))
    return _project(_rotate(framing.rotation.mT, rays)) * focal + size / 2


def to_camera(lifted: Tensor, framing: Framing) -> Tensor:
    """What a lifter answered (B, T, J, 3) -> root-relative poses along the camera's own axes, perspective undone.

    The unit is half the picture's width at the root's depth, so meters are this times Z_root * width / (2 * focal), one
    factor a frame. Exact for an exact answer and focal length; nothing of MotionBERT's 2.5D floor is left.
    """
    ratio = _like(framing.scale / framing.focal, lifted)
    root = H36M17.root
    depth = 1 + (lifted[..., 2:] - lifted[..., root : root + 1, 2:]) * ratio  # Z / Z_root in the turned camera
    points = _rotate(framing.rotation.mT, torch.cat([lifted[..., :2] * ratio, torch.ones_like(depth)], dim=-1) * depth)
    pivot = points[..., root : root + 1, :]
    unit = _like(2 * framing.focal / framing.size[:, 0], lifted)
    return (points - pivot) / pivot[..., 2:].clamp(min=_NEAREST) * unit


def from_camera(points: Tensor, focal: Tensor, framing: Framing) -> Tensor:
    """What a lifter should answer (B, T, J, 3) for true points before a camera: the label to train on.

    points  (B, T, J, 3)  camera axes, the camera at 0, any unit of length
    focal   (B,) px       the camera's true focal length; `framing` may assume another

    The inverse of `to_camera` where both focal lengths agree. Where they differ, x and y are still those of the picture
    and z keeps the true shape of the body.
    """
    root = H36M17.root
    stretch = torch.ones_like(points[:, :1, :1])
    stretch[..., 2] = (framing.focal / focal)[:, None, None]  # the world that the assumed camera would have to see
    turned = _rotate(framing.rotation, points * stretch)
    unit = _like(framing.focal / framing.scale, points)
    xy = _project(turned) * unit
    forward = _rotate(framing.rotation, points - points[..., root : root + 1, :])[..., 2:]
    return torch.cat([xy, forward / turned[..., root : root + 1, 2:].clamp(min=1e-6) * unit], dim=-1)


def _like(value: Tensor, other: Tensor) -> Tensor:
    """A per-clip value (B,) or (B, 2) with axes put in so that it broadcasts against (B, ..., C)."""
    if value.ndim == 1:
        value = value[:, None]
    return value.to(other).reshape(value.shape[0], *[1] * (other.ndim - 2), value.shape[-1])


def _rotate(rotation: Tensor, points: Tensor) -> Tensor:
    flat = points.reshape(points.shape[0], -1, 3)
    return torch.bmm(flat, rotation.to(points).mT).reshape(points.shape)


def _rays(plane: Tensor) -> Tensor:
    return torch.cat([plane, torch.ones_like(plane[..., :1])], dim=-1)


def _project(points: Tensor) -> Tensor:
    return points[..., :2] / points[..., 2:].clamp(min=_NEAREST)


def turn_towards(plane: Tensor) -> Tensor:
    """The smallest rotations (B, 3, 3) that bring the direction (plane, 1) onto the optical axis."""
    x, y, z = (_rays(plane) / _rays(plane).norm(dim=-1, keepdim=True)).unbind(-1)
    k = 1 / (1 + z)
    rows = [1 - x * x * k, -x * y * k, -x, -x * y * k, 1 - y * y * k, -y, x, y, z]
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)

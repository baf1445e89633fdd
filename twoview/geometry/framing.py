"""The frame of a clip: from pixels to the screen units that a lifter reads, and from its answer back to the camera.

A lifter reads x, y in *screen units* of its clip's frame and answers x, y, z in the same units: x, y of the picture and
z = (Z - Z_root) / Z_root * focal / scale, the "2.5D" pose whose scale is that of the picture at the root's depth.

Three rules make a frame.
"screen"  MotionBERT's: the picture's center is 0 and half its width is 1.
"crop"    MotionBERT's for videos in the wild: the middle of the box around all joints seen in the clip is 0, and half
          the box's longer side is 1.
"box"     A virtual camera is turned towards the athlete, so that the place in the picture does not change the pose; the
          center of the clip's joints is 0 and twice their RMS distance from it is 1.

All are exact and invertible for a given focal length: the user's, or DEFAULT_FOCAL. The picture's center is
`cameras.principal_point`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from twoview.geometry.cameras import NEAREST, principal_point, project
from twoview.geometry.similarity import rooted
from twoview.skeleton import H36M17

Rule = Literal["screen", "box", "crop"]
RULES: tuple[Rule, ...] = ("screen", "box", "crop")
MIN_IN_CROP = 4  # joints that a clip must show for a box of the rule "crop", as in MotionBERT

DEFAULT_FOCAL = 0.8
"""Focal length in long sides of the picture where it is unknown: a phone's main camera when it records video."""


@dataclass(frozen=True, eq=False)
class Framing:
    """How the pixels of each clip in a batch become screen units.

    rotation  (B, 3, 3)  from the camera's axes to the frame's; identity but for the rule "box"
    center    (B, 2) px  what is 0 in screen units, from the optical axis in the turned picture; 0 but for "crop"
    scale     (B,) px    length of one screen unit in the turned picture
    focal     (B,) px    focal length that was assumed
    size      (B, 2) px  width and height of the upright picture
    """

    rotation: Tensor
    center: Tensor
    scale: Tensor
    focal: Tensor
    size: Tensor

    def to(self, *args: object) -> Framing:
        """The same on another device or in another precision."""
        values = (self.rotation, self.center, self.scale, self.focal, self.size)
        return Framing(*(value.to(*args) for value in values))  # type: ignore[call-overload]


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
    whole = Framing(straight, torch.zeros_like(size), size[:, 0] / 2, focal, size)
    if rule == "screen":
        return whole
    if rule == "crop":
        return _cropped(xy, score, whole)
    weight = score.to(xy)[..., None]
    seen = torch.where(weight > 0, xy, xy.new_zeros(()))
    total = weight.sum(dim=(1, 2))
    some = total > 0
    total = total.clamp(min=1e-6)
    center = torch.where(some, (weight * seen).sum(dim=(1, 2)) / total, principal_point(size))
    rotation = turn_towards((center - principal_point(size)) / focal[:, None])
    turned = replace(whole, rotation=rotation, scale=torch.ones_like(focal))
    squares = weight * to_screen(torch.where(weight > 0, xy, center[:, None, None]), turned).square()
    spread = 2 * (squares.sum(dim=(1, 2, 3)) / total[:, 0]).sqrt()
    scale = torch.where(some[:, 0] & (spread > 0), spread, whole.scale)
    return replace(turned, scale=scale)


def _cropped(xy: Tensor, score: Tensor, whole: Framing) -> Framing:
    """The frame of the rule "crop"; that of the whole picture for clips that show too little."""
    seen, size = (score > 0)[..., None], whole.size
    low = torch.where(seen, xy, torch.full_like(xy, torch.inf)).amin(dim=(1, 2))
    high = torch.where(seen, xy, torch.full_like(xy, -torch.inf)).amax(dim=(1, 2))
    side = (high - low).amax(dim=-1)
    enough = (seen.sum(dim=(1, 2, 3)) >= MIN_IN_CROP) & (side > 0)
    center = torch.where(enough[:, None], (low + high) / 2 - principal_point(size), whole.center)
    return replace(whole, center=center, scale=torch.where(enough, side / 2, whole.scale))


def to_screen(xy: Tensor, framing: Framing) -> Tensor:
    """Pixels xy (B, ..., 2) in screen units of each clip's frame."""
    focal, size = _like(framing.focal, xy), _like(framing.size, xy)
    turned = _rotate(framing.rotation, _rays((xy - principal_point(size)) / focal))
    scale = _like(framing.scale, xy)
    return project(turned, focal / scale) - _like(framing.center, xy) / scale


def to_camera(lifted: Tensor, framing: Framing) -> Tensor:
    """Root-relative poses (B, T, J, 3) along the camera's own axes from a lifter's answer, perspective undone.

    The unit is half the picture's width at the root's depth, so meters are this times Z_root * width / (2 * focal), one
    factor per frame. Exact for an exact answer and focal length: the error that MotionBERT's 2.5D poses keep is gone.
    """
    ratio = _like(framing.scale / framing.focal, lifted)
    root = H36M17.root
    depth = 1 + (lifted[..., 2:] - lifted[..., root : root + 1, 2:]) * ratio  # Z / Z_root in the turned camera
    points = _rotate(framing.rotation.mT, _rays(_plane(lifted, framing)) * depth)
    pivot = points[..., root : root + 1, :]
    unit = _like(2 * framing.focal / framing.size[:, 0], lifted)
    return (points - pivot) / pivot[..., 2:].clamp(min=NEAREST) * unit


def to_pixels(lifted: Tensor, framing: Framing) -> Tensor:
    """Pixel poses (B, T, J, 3) of a lifter's answer: x, y px in the picture, z = (Z - Z_root) / Z_root * focal px.

    They are MotionBERT's 2.5D poses, perspective kept. In the rules "screen" and "crop" no focal length matters: x, y,
    z are the answer times the scale, x and y from the frame's center. An answer in the rule "box" is turned back to the
    picture, exactly for the true focal length.
    """
    ratio, focal = _like(framing.scale / framing.focal, lifted), _like(framing.focal, lifted)
    root = H36M17.root
    rays = _rotate(framing.rotation.mT, _rays(_plane(lifted, framing)))
    depth = (1 + (lifted[..., 2:] - lifted[..., root : root + 1, 2:]) * ratio) * rays[..., 2:]
    pivot = depth[..., root : root + 1, :]
    xy = project(rays, focal) + principal_point(_like(framing.size, lifted))
    return torch.cat([xy, (depth - pivot) / pivot.clamp(min=NEAREST) * focal], dim=-1)


def from_camera(points: Tensor, focal: Tensor, framing: Framing) -> Tensor:
    """The label to train on: what a lifter should answer (B, T, J, 3) for true points in camera axes.

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
    xy = project(turned, unit) - _like(framing.center / framing.scale[:, None], points)
    forward = _rotate(framing.rotation, rooted(points))[..., 2:]
    return torch.cat([xy, forward / turned[..., root : root + 1, 2:].clamp(min=1e-6) * unit], dim=-1)


@dataclass(frozen=True, eq=False)
class LabeledClips:
    """Single-view clips as a lifter reads them, with what it should answer.

    screen  (B, T, J, 2)  screen units, 0 where unseen
    score   (B, T, J)
    label   (B, T, J, 3)  see `from_camera`
    """

    screen: Tensor
    score: Tensor
    label: Tensor
    framing: Framing

    @property
    def input(self) -> Tensor:
        """What the lifter reads (B, T, J, 3): x, y, score."""
        return torch.cat([self.screen, self.score[..., None]], dim=-1)


def label_clips(xy: Tensor, score: Tensor, size: Tensor, points: Tensor, *, focal: Tensor, rule: Rule) -> LabeledClips:
    """Frame clips xy (B, T, J, 2) px, score (B, T, J), and label them by their true points (B, T, J, 3).

    size (B, 2) px and the true focal length (B,) px are the camera's; the frame assumes the default focal length.
    """
    framing = frame_clip(xy, score, size, rule)
    screen = torch.where(score[..., None] > 0, to_screen(xy, framing), torch.zeros_like(xy))
    return LabeledClips(screen, score, from_camera(points, focal, framing), framing)


def _like(value: Tensor, other: Tensor) -> Tensor:
    """A value of each clip, (B,) or (B, 2), with axes inserted to broadcast against (B, ..., C)."""
    if value.ndim == 1:
        value = value[:, None]
    return value.to(other).reshape(value.shape[0], *[1] * (other.ndim - 2), value.shape[-1])


def _plane(lifted: Tensor, framing: Framing) -> Tensor:
    """Where x, y of a lifter's answer (B, T, J, 3) are at depth 1 of the turned camera (B, T, J, 2)."""
    focal = _like(framing.focal, lifted)
    return lifted[..., :2] * (_like(framing.scale, lifted) / focal) + _like(framing.center, lifted) / focal


def _rotate(rotation: Tensor, points: Tensor) -> Tensor:
    flat = points.reshape(points.shape[0], -1, 3)
    return torch.bmm(flat, rotation.to(points).mT).reshape(points.shape)


def _rays(plane: Tensor) -> Tensor:
    return torch.cat([plane, torch.ones_like(plane[..., :1])], dim=-1)


def turn_towards(plane: Tensor) -> Tensor:
    """The smallest rotations (B, 3, 3) that bring the direction (plane, 1) onto the optical axis."""
    x, y, z = (_rays(plane) / _rays(plane).norm(dim=-1, keepdim=True)).unbind(-1)
    k = 1 / (1 + z)
    rows = [1 - x * x * k, -x * y * k, -x, -x * y * k, 1 - y * y * k, -y, x, y, z]
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)

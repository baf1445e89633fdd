"""Virtual phones over motion capture: varied bodies, random cameras, and 2D such as a detector gives.

Everything is batched torch and takes its randomness from a generator. Motion is (B, T, 17, 3) meters in a room whose z
axis points up and whose floor is at 0; what a camera sees is (B, T, 17, 3) meters along the camera's axes.

Clips of motion capture as a phone and a detector would have seen them, with what a lifter should answer.

`MotionBank` cuts clips out of motion capture, `film` puts a virtual phone before them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from twoview.datasets.motion import Motion
from twoview.errors import TrainingError
from twoview.geometry.framing import Framing, Rule, frame_clip, from_camera, to_screen, turn_towards
from twoview.skeleton import H36M17

J = {name: index for index, name in enumerate(H36M17.joints)}
LEGS = ((J["right_hip"], J["right_knee"], J["right_ankle"]), (J["left_hip"], J["left_knee"], J["left_ankle"]))
ARMS = (
    (J["right_shoulder"], J["right_elbow"], J["right_wrist"]),
    (J["left_shoulder"], J["left_elbow"], J["left_wrist"]),
)


@dataclass(frozen=True)
class Cameras:
    """One camera a clip.

    rotation  (B, 3, 3)  from the room's axes to the camera's (x right, y down, z away)
    position  (B, 3) m   in the room
    focal     (B,) px
    size      (B, 2) px  width, height; the picture's center is the principal point
    """

    rotation: Tensor
    position: Tensor
    focal: Tensor
    size: Tensor

    def see(self, motion: Tensor) -> Tensor:
        """Motion in the room -> the same along the camera's axes, in meters from the camera."""
        offset = (motion - self.position[:, None, None]).flatten(1, 2)
        return torch.bmm(offset, self.rotation.mT).view_as(motion)

    def project(self, points: Tensor) -> Tensor:
        """Points before the camera (B, T, J, 3) -> (B, T, J, 2) px."""
        plane = points[..., :2] / points[..., 2:].clamp(min=0.1)
        return plane * self.focal[:, None, None, None] + self.size[:, None, None] / 2


@dataclass(frozen=True)
class CameraRange:
    """Where phones stand and how they are held. Ranges are uniform, angles in degrees, lengths in meters."""

    distance: tuple[float, float] = (2.0, 9.0)  # log-uniform
    height: tuple[float, float] = (0.3, 2.6)
    focal: tuple[float, float] = (0.65, 1.3)  # log-uniform, in long sides of the picture
    azimuth: tuple[float, float] = (-180.0, 180.0)  # from the athlete's right side, anticlockwise from above
    roll: float = 2.5  # standard deviation
    off_center: float = 1.0  # 0 aims at the athlete, 1 puts him anywhere in the picture
    crop: tuple[float, float] = (0.5, 1.15)  # least distance, where 1 just fits a standing person


@dataclass(frozen=True)
class NoiseModel:
    """Errors of a detector, in shares of the athlete's box (the longer side of all joints in a frame).

    joint      17 factors to `level`, one a joint
    level      standard deviation an axis; one value a clip, log-uniform
    bias, smooth, white  how it splits: constant over a clip, correlated over `correlation` frames, each frame anew
    outliers   share of joints far off (`outlier_size`); missing: share not seen; swaps: share of clips where the
               left and right legs or arms change places for a while; blind: share of joints unseen for a whole clip
    confidence error (share of the box) at which the score has fallen to a half; a clip varies it by a factor of 2
    """

    joint: tuple[float, ...] = (
        1.0, 1.1, 1.0, 1.3, 1.1, 1.0, 1.3, 0.8, 0.8, 0.7, 0.7, 1.0, 1.2, 1.5, 1.0, 1.2, 1.5,
    )  # fmt: skip
    level: tuple[float, float] = (0.003, 0.012)
    bias: float = 0.6
    smooth: float = 0.6
    white: float = 0.5
    correlation: int = 5
    outliers: float = 0.01
    outlier_size: float = 0.06
    missing: float = 0.02
    blind: float = 0.01
    swaps: float = 0.03
    confidence: float = 0.03

    @classmethod
    def load(cls, path: Path | str) -> NoiseModel:
        """A model measured on a detector: a JSON object with any of the fields above under "noise"."""
        found = json.loads(Path(path).read_text(encoding="utf-8"))["noise"]
        fields: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
        return cls(**fields)


class Chance:
    """Random tensors from one generator, on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.device = generator, generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform between low and high."""
        return torch.rand(*shape, generator=self.generator, device=self.device) * (high - low) + low

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in the logarithm."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def happens(self, share: float, *shape: int) -> Tensor:
        """True with probability `share`."""
        return torch.rand(*shape, generator=self.generator, device=self.device) < share

    def drift(self, batch: int, frames: int, every: int, *shape: int) -> Tensor:
        """Normal noise (batch, frames, *shape) that is drawn anew every `every` frames and straight in between."""
        knots = (frames - 1) // every + 2
        at = torch.arange(frames, device=self.device) / every + self.uniform(0, 1, 1)
        left = at.long().clamp(max=knots - 2)
        share = (at - left).view(frames, *[1] * len(shape)).clamp(max=1)
        values = self.normal(batch, knots, *shape)
        return (values[:, left] * (1 - share) + values[:, left + 1] * share) * 1.22  # keeps the variance near 1


def place_cameras(motion: Tensor, chance: Chance, where: CameraRange | None = None) -> Cameras:
    """A random phone for each clip of motion (B, T, 17, 3), aimed at or beside the athlete."""
    where = where or CameraRange()
    batch = len(motion)
    portrait = chance.happens(0.5, batch, 1)
    size = torch.where(portrait, motion.new_tensor([1080.0, 1920.0]), motion.new_tensor([1920.0, 1080.0]))
    upwards = motion.new_tensor([[0.0, 0.0, 1.0]])
    focal = chance.log_uniform(*where.focal, batch) * 1920
    standing = 1.75 * focal / size[:, 1]  # meters away at which a standing person fills the picture's height
    nearest = standing * chance.uniform(*where.crop, batch)
    distance = chance.log_uniform(*where.distance, batch).maximum(nearest)
    center = motion.mean(dim=(1, 2))
    angle = chance.uniform(*where.azimuth, batch).deg2rad() + _right_of(motion)
    position = center + distance[:, None] * torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=-1)
    position[:, 2] = chance.uniform(*where.height, batch)

    forward = torch.nn.functional.normalize(center - position, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, upwards), dim=-1)
    level = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    tall = 1.75 * focal / distance
    free = torch.stack([size[:, 0] - 0.6 * tall, size[:, 1] - tall], dim=-1).clamp(min=0) / 2
    aside = chance.uniform(-1, 1, batch, 2) * free * where.off_center / focal[:, None]
    roll = math.radians(where.roll) * chance.normal(batch, 1) * upwards
    rotation = turn_towards(aside).mT @ rotation_matrix(roll) @ level
    return Cameras(rotation, position, focal, size)


def _right_of(motion: Tensor) -> Tensor:
    """Direction (B,) in radians, seen from above, of the athlete's right side over the clip."""
    across = (motion[:, :, J["right_hip"]] - motion[:, :, J["left_hip"]]).mean(dim=1)
    return torch.atan2(across[:, 1], across[:, 0])


def rotation_matrix(vector: Tensor) -> Tensor:
    """Rotation vectors (..., 3) in radians -> matrices (..., 3, 3)."""
    angle = vector.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    x, y, z = (vector / angle).unbind(-1)
    s, c = angle[..., 0].sin(), angle[..., 0].cos()
    k = 1 - c
    rows = [c + x * x * k, x * y * k - z * s, x * z * k + y * s, x * y * k + z * s, c + y * y * k, y * z * k - x * s]
    rows += [x * z * k - y * s, y * z * k + x * s, c + z * z * k]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def box_size(xy: Tensor) -> Tensor:
    """Longer side (B, T) of the box around all joints of each frame; xy (B, T, J, 2) px."""
    return (xy.amax(dim=2) - xy.amin(dim=2)).amax(dim=-1)


def detect_like(xy: Tensor, size: Tensor, chance: Chance, noise: NoiseModel | None = None) -> tuple[Tensor, Tensor]:
    """True joints (B, T, 17, 2) px in pictures of `size` (B, 2) -> what a detector would have said: xy px, score.

    The score follows the error; joints outside the picture and missed ones have score 0 and stay at 0 px.
    """
    noise = noise or NoiseModel()
    batch, frames, joints = xy.shape[:3]
    box = box_size(xy).mean(dim=1)[:, None, None, None]
    sigma = chance.log_uniform(*noise.level, batch, 1, 1, 1) * xy.new_tensor(noise.joint)[:, None]
    offset = noise.bias * chance.normal(batch, 1, joints, 2) + noise.white * chance.normal(batch, frames, joints, 2)
    offset = (offset + noise.smooth * chance.drift(batch, frames, noise.correlation, joints, 2)) * sigma
    every = torch.arange(frames, device=xy.device) // 3  # outliers and gaps last a few frames
    spells = (frames + 2) // 3
    far = chance.happens(noise.outliers, batch, spells, joints)[:, every, :, None]
    offset = offset + far * noise.outlier_size * chance.normal(batch, spells, joints, 2)[:, every]

    half = noise.confidence * chance.log_uniform(0.5, 2.0, batch, 1, 1)
    error = (offset.norm(dim=-1) + 0.2 * sigma[..., 0]) * chance.uniform(0.5, 1.5, batch, frames, joints)
    score = (half / (half + error)).clamp(0.05, 1.0)
    sure = chance.happens(0.1, batch, 1, 1)  # some detectors give every joint the same score
    score = torch.where(sure, torch.ones_like(score), score)

    seen = (xy >= 0).all(-1) & (xy < size[:, None, None]).all(-1)
    seen &= ~chance.happens(noise.missing, batch, spells, joints)[:, every]
    seen &= ~chance.happens(noise.blind, batch, 1, joints)
    score = score * seen
    found = torch.where(seen[..., None], xy + offset * box, torch.zeros_like(xy))
    return _swap(found, score, chance, noise.swaps)


def _swap(xy: Tensor, score: Tensor, chance: Chance, share: float) -> tuple[Tensor, Tensor]:
    """Left and right change places in the legs or the arms for a spell, in some clips."""
    batch, frames = xy.shape[:2]
    time = torch.arange(frames, device=xy.device)[None]
    for right, left in (LEGS, ARMS):
        start = (chance.uniform(-0.2, 1.0, batch, 1) * frames).long()
        length = (chance.uniform(0.05, 0.5, batch, 1) * frames).long() + 1
        during = chance.happens(share, batch, 1) & (time >= start) & (time < start + length)
        order = list(range(xy.shape[2]))
        for a, b in zip(right, left, strict=True):
            order[a], order[b] = b, a
        xy = torch.where(during[..., None, None], xy[:, :, order], xy)
        score = torch.where(during[..., None], score[:, :, order], score)
    return xy, score


_ROOT = H36M17.root


@dataclass(frozen=True)
class Filmed:
    """A batch of clips seen by one virtual phone each.

    seen    (B, T, 17, 3)  what the lifter reads: x, y in screen units, score
    label   (B, T, 17, 3)  what it should answer
    points  (B, T, 17, 3)  meters along the camera's axes, the truth behind the label
    """

    seen: Tensor
    label: Tensor
    points: Tensor
    framing: Framing
    cameras: Cameras


class MotionBank:
    """All motion in one tensor, from which clips of any length are cut."""

    def __init__(self, motions: Sequence[Motion], device: torch.device | str = "cpu") -> None:
        if not motions:
            raise TrainingError("no motion to train on", hint="name at least one prepared motion capture file")
        self.joints = torch.from_numpy(np.concatenate([m.joints for m in motions])).float().to(device)
        lengths = [len(m.joints) for m in motions]
        self.length = torch.tensor(lengths, device=device)
        self.start = torch.tensor([0, *np.cumsum(lengths)[:-1].tolist()], device=device)
        self.rate = torch.tensor([m.rate for m in motions], dtype=torch.float32, device=device)
        seconds = torch.tensor([m.seconds for m in motions], dtype=torch.float64, device=device)
        self.weight = seconds**0.7  # long clips repeat

    @property
    def device(self) -> torch.device:
        """Where the motion is; what is drawn from it is there too."""
        return self.joints.device

    def draw(self, clips: int, frames: int, rate: float, chance: Chance) -> Tensor:
        """Random clips (clips, frames, 17, 3) at about `rate` frames a second: played 0.7 to 1.4 times as fast."""
        which = torch.multinomial(self.weight, clips, replacement=True, generator=chance.generator)
        step = self.rate[which] / rate * chance.log_uniform(0.7, 1.4, clips)
        room = (self.length[which] - 1 - step * (frames - 1)).clamp(min=0)
        first = room * chance.uniform(0, 1, clips)
        at = first[:, None] + step[:, None] * torch.arange(frames, device=step.device)
        at = at.minimum((self.length[which] - 1)[:, None].float())
        return self._interpolate(self.start[which][:, None], at)

    def windows(self, frames: int, rate: float) -> tuple[Tensor, Tensor]:
        """Every clip cut into successive windows (N, frames, 17, 3) at `rate`, and the number (N,) of its motion.

        What does not fill a window is left out, but for motions shorter than one, whose last frame is repeated.
        """
        cut, who = [], []
        for index in range(len(self.length)):
            step, last = float(self.rate[index]) / rate, int(self.length[index]) - 1
            count = max(int(last / step + 1) // frames, 1)
            at = (torch.arange(count * frames, device=self.joints.device) * step).clamp(max=last).view(count, frames)
            cut.append(self._interpolate(self.start[index], at))
            who += [index] * count
        return torch.cat(cut), torch.tensor(who, device=self.joints.device)

    def _interpolate(self, start: Tensor, at: Tensor) -> Tensor:
        left = at.floor().long()
        share = (at - left)[..., None, None]
        right = (at.ceil().long() + start).clamp(max=len(self.joints) - 1)
        return self.joints[left + start] * (1 - share) + self.joints[right] * share


def center(motion: Tensor) -> Tensor:
    """The same motion with the middle of the pelvis' path over the room's origin."""
    middle = motion[:, :, _ROOT].mean(dim=1) * motion.new_tensor([1.0, 1.0, 0.0])
    return motion - middle[:, None, None]


def film(
    motion: Tensor, chance: Chance, noise: NoiseModel, where: CameraRange | None = None, rule: Rule = "box"
) -> Filmed:
    """Motion (B, T, 17, 3) through one random phone a clip, with a detector's errors and a default focal length."""
    cameras = place_cameras(motion, chance, where)
    points = cameras.see(motion)
    xy, score = detect_like(cameras.project(points), cameras.size, chance, noise)
    framing = frame_clip(xy, score, cameras.size, rule)
    screen = torch.where(score[..., None] > 0, to_screen(xy, framing), torch.zeros_like(xy))
    label = from_camera(points, cameras.focal, framing)
    return Filmed(torch.cat([screen, score[..., None]], dim=-1), label, points, framing, cameras)

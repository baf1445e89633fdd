"""Virtual phones over motion capture: random cameras, simulated detector noise, and clips rendered through both.

Everything is batched torch and draws its randomness from a generator. Motion is (B, T, 17, 3) m in a room whose z axis
points up and whose floor is at 0; points are the same motion in a camera's axes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from twoview.config import CameraRange, NoiseModel
from twoview.datasets.motion import Motion
from twoview.datasets.recordings import read_text
from twoview.errors import ConfigError, FormatError, TrainingError
from twoview.geometry.cameras import Camera, principal_point
from twoview.geometry.framing import LabeledClips, Rule, label_clips, turn_towards
from twoview.skeleton import H36M17, STATURE_M

J = {name: index for index, name in enumerate(H36M17.joints)}
LEGS = ((J["right_hip"], J["right_knee"], J["right_ankle"]), (J["left_hip"], J["left_knee"], J["left_ankle"]))
ARMS = (
    (J["right_shoulder"], J["right_elbow"], J["right_wrist"]),
    (J["left_shoulder"], J["left_elbow"], J["left_wrist"]),
)
NEAREST_M = 0.1  # points nearer to a phone than this are projected as if they were this far away


def load_noise(path: Path | str) -> NoiseModel:
    """A model measured on a detector: a JSON file whose object "noise" has any of the fields of `NoiseModel`.

    Raises FormatError for any other file.
    """
    try:
        return NoiseModel(**json.loads(read_text(path))["noise"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        reason = getattr(error, "message", error)
        raise FormatError(
            f"{path} holds no measured errors of a detector: {reason}"[:400],
            hint='expected a JSON object whose "noise" has fields of [pretrain.detector]',
        ) from error


class Chance:
    """Draws random tensors from one generator, on its device."""

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
        """Normal noise (batch, frames, *shape): a new value every `every` frames, linear in between."""
        knots = (frames - 1) // every + 2
        at = torch.arange(frames, device=self.device) / every + self.uniform(0, 1, 1)
        left = at.long().clamp(max=knots - 2)
        share = (at - left).view(frames, *[1] * len(shape)).clamp(max=1)
        values = self.normal(batch, knots, *shape)
        return (values[:, left] * (1 - share) + values[:, left + 1] * share) * 1.22  # keeps the variance near 1


def place_cameras(motion: Tensor, chance: Chance, where: CameraRange | None = None) -> Camera[Tensor]:
    """A random phone for each clip of motion (B, T, 17, 3), aimed at the athlete or beside.

    Its principal point is that of uncalibrated pictures, so that without noise a lifter's input is its label.
    """
    where = where or CameraRange()
    batch = len(motion)
    portrait = chance.happens(0.5, batch, 1)
    size = torch.where(portrait, motion.new_tensor([1080.0, 1920.0]), motion.new_tensor([1920.0, 1080.0]))
    upwards = motion.new_tensor([[0.0, 0.0, 1.0]])
    focal = chance.log_uniform(*where.focal, batch) * 1920
    standing = STATURE_M * focal / size[:, 1]  # meters away at which a standing person fills the picture's height
    nearest = standing * chance.uniform(*where.crop, batch)
    distance = chance.log_uniform(*where.distance, batch).maximum(nearest)
    center = motion.mean(dim=(1, 2))
    right_side = (motion[:, :, J["right_hip"]] - motion[:, :, J["left_hip"]]).mean(dim=1)
    angle = chance.uniform(*where.azimuth, batch).deg2rad() + torch.atan2(right_side[:, 1], right_side[:, 0])
    position = center + distance[:, None] * torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=-1)
    position[:, 2] = chance.uniform(*where.height, batch)

    forward = torch.nn.functional.normalize(center - position, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, upwards), dim=-1)
    level = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    tall = STATURE_M * focal / distance
    free = torch.stack([size[:, 0] - 0.6 * tall, size[:, 1] - tall], dim=-1).clamp(min=0) / 2
    aside = chance.uniform(-1, 1, batch, 2) * free * where.off_center / focal[:, None]
    roll = math.radians(where.roll) * chance.normal(batch, 1) * upwards
    rotation = turn_towards(aside).mT @ rotation_matrix(roll) @ level
    return Camera(rotation, position, focal, principal_point(size), size)


def rotation_matrix(vector: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3), radians."""
    angle = vector.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    x, y, z = (vector / angle).unbind(-1)
    s, c = angle[..., 0].sin(), angle[..., 0].cos()
    k = 1 - c
    rows = [c + x * x * k, x * y * k - z * s, x * z * k + y * s, x * y * k + z * s, c + y * y * k, y * z * k - x * s]
    rows += [x * z * k - y * s, y * z * k + x * s, c + z * z * k]
    return torch.stack(rows, dim=-1).reshape(*vector.shape, 3)


def simulate_detector(
    xy: Tensor, size: Tensor, chance: Chance, noise: NoiseModel | None = None
) -> tuple[Tensor, Tensor]:
    """True joints (B, T, 17, 2) px in pictures of `size` (B, 2) with a detector's errors, and scores (B, T, 17).

    The score follows the error. Joints outside the picture and missed ones have score 0 and are at 0 px.
    """
    noise = noise or NoiseModel()
    batch, frames, joints = xy.shape[:3]
    box = (xy.amax(dim=2) - xy.amin(dim=2)).amax(dim=-1).mean(dim=1)[:, None, None, None]  # longer side, px
    sigma = chance.log_uniform(*noise.level, batch, 1, 1, 1) * xy.new_tensor(noise.joint)[:, None]
    offset = noise.bias * chance.normal(batch, 1, joints, 2) + noise.white * chance.normal(batch, frames, joints, 2)
    offset = (offset + noise.smooth * chance.drift(batch, frames, noise.correlation, joints, 2)) * sigma
    every = torch.arange(frames, device=xy.device) // 3  # outliers and gaps last a few frames
    spans = (frames + 2) // 3
    far = chance.happens(noise.outliers, batch, spans, joints)[:, every, :, None]
    offset = offset + far * noise.outlier_size * chance.normal(batch, spans, joints, 2)[:, every]

    half = noise.confidence * chance.log_uniform(0.5, 2.0, batch, 1, 1)
    error = (offset.norm(dim=-1) + 0.2 * sigma[..., 0]) * chance.uniform(0.5, 1.5, batch, frames, joints)
    score = (half / (half + error)).clamp(0.05, 1.0)
    sure = chance.happens(0.1, batch, 1, 1)  # some detectors give every joint the same score
    score = torch.where(sure, torch.ones_like(score), score)

    seen = (xy >= 0).all(-1) & (xy < size[:, None, None]).all(-1)
    seen &= ~chance.happens(noise.missing, batch, spans, joints)[:, every]
    seen &= ~chance.happens(noise.blind, batch, 1, joints)
    score = score * seen
    found = torch.where(seen[..., None], xy + offset * box, torch.zeros_like(xy))
    return _swap(found, score, chance, noise.swaps)


def _swap(xy: Tensor, score: Tensor, chance: Chance, share: float) -> tuple[Tensor, Tensor]:
    """Left and right of the legs or the arms swapped for a while, in some clips."""
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


class MotionBank:
    """All motion in one tensor, from which clips of any length are cut. Raises TrainingError without motion."""

    def __init__(self, motions: Sequence[Motion], device: torch.device | str = "cpu") -> None:
        if not motions:
            raise TrainingError("no motion to train on", hint="name at least one prepared motion capture file")
        self.joints = torch.from_numpy(np.concatenate([m.joints for m in motions])).float().to(device)
        self.device = self.joints.device
        lengths = [len(m.joints) for m in motions]
        self.length = torch.tensor(lengths, device=device)
        self.start = torch.tensor([0, *np.cumsum(lengths)[:-1].tolist()], device=device)
        self.rate = torch.tensor([m.rate for m in motions], dtype=torch.float32, device=device)
        seconds = torch.tensor([m.seconds for m in motions], dtype=torch.float64, device=device)
        self.weight = seconds**0.7  # long clips repeat

    def draw(self, clips: int, frames: int, rate: float, chance: Chance) -> Tensor:
        """Random clips (clips, frames, 17, 3) at `rate` frames per second, sped up by a factor of 0.7 to 1.4."""
        which = torch.multinomial(self.weight, clips, replacement=True, generator=chance.generator)
        step = self.rate[which] / rate * chance.log_uniform(0.7, 1.4, clips)
        room = (self.length[which] - 1 - step * (frames - 1)).clamp(min=0)
        first = room * chance.uniform(0, 1, clips)
        at = first[:, None] + step[:, None] * torch.arange(frames, device=step.device)
        at = at.minimum((self.length[which] - 1)[:, None].float())
        return self._interpolate(self.start[which][:, None], at)

    def windows(self, frames: int, rate: float) -> tuple[Tensor, Tensor]:
        """All motions cut into successive windows (N, frames, 17, 3) at `rate`, and the index (N,) of their motion.

        A rest shorter than a window is left out; a motion shorter than a window is padded with its last frame.
        """
        cut, who = [], []
        for index in range(len(self.length)):
            step, last = float(self.rate[index]) / rate, int(self.length[index]) - 1
            count = max(int(last / step + 1) // frames, 1)
            at = (torch.arange(count * frames, device=self.device) * step).clamp(max=last).view(count, frames)
            cut.append(self._interpolate(self.start[index], at))
            who += [index] * count
        return torch.cat(cut), torch.tensor(who, device=self.device)

    def _interpolate(self, start: Tensor, at: Tensor) -> Tensor:
        left = at.floor().long()
        share = (at - left)[..., None, None]
        right = (at.ceil().long() + start).clamp(max=len(self.joints) - 1)
        return self.joints[left + start] * (1 - share) + self.joints[right] * share


def center_motion(motion: Tensor) -> Tensor:
    """The same motion with the middle of the pelvis's path over the room's origin."""
    middle = motion[:, :, H36M17.root].mean(dim=1) * motion.new_tensor([1.0, 1.0, 0.0])
    return motion - middle[:, None, None]


@dataclass(frozen=True, eq=False)
class RenderedClips:
    """A batch of clips, each seen by one virtual phone through a detector's errors.

    xy      (B, T, 17, 2) px  0 where the score is 0
    score   (B, T, 17)
    points  (B, T, 17, 3) m   the truth in the camera's axes
    """

    xy: Tensor
    score: Tensor
    points: Tensor
    cameras: Camera[Tensor]

    def labeled(self, rule: Rule = "box") -> LabeledClips:
        """What a lifter reads of the clips, and what it should answer."""
        return label_clips(self.xy, self.score, self.cameras.size, self.points, focal=self.cameras.focal, rule=rule)


def render(
    motion: Tensor, chance: Chance, noise: NoiseModel | None = None, where: CameraRange | None = None
) -> RenderedClips:
    """Motion (B, T, 17, 3) seen by one random phone per clip, with simulated detector noise."""
    cameras = place_cameras(motion, chance, where)
    points = cameras.to_camera(motion)
    xy, score = simulate_detector(cameras.project(points, nearest=NEAREST_M), cameras.size, chance, noise)
    return RenderedClips(xy, score, points, cameras)

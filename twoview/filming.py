"""Clips of motion capture as a phone and a detector would have seen them, with what a lifter should answer.

`MotionBank` cuts clips out of motion capture, `film` puts a virtual phone before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from twoview.datasets import Motion
from twoview.errors import TrainingError
from twoview.framing import Framing, Rule, frame_clip, from_camera, to_screen
from twoview.skeleton import H36M17
from twoview.virtual import CameraRange, Cameras, Chance, NoiseModel, detect_like, place_cameras

_ROOT = H36M17.root


@dataclass(frozen=True)
class Filmed:
    """A batch of clips seen by one virtual phone each.

    seen    (B, T, 17, 3)  what the lifter reads: x, y in screen units, score
    label   (B, T, 17, 3)  what it should answer
    points  (B, T, 17, 3)  metres along the camera's axes, the truth behind the label
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


def centre(motion: Tensor) -> Tensor:
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
